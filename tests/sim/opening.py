"""The ledger with which a run begins: every member has delegated its weight to itself, and that is confirmed.

People who hold an account together have opened it. Where there is a history, strangers have sent to each other before.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from tests.sim.fake_leveldb import Disk
from tests.support.group import TRIO, Group
from tests.support.ledger import NOW, TIMEKEEPER_NAMES, Chain, address_of
from xnode.core.blocks import Block
from xnode.core.genesis import Genesis
from xnode.core.ledger import Context, Effects, LedgerView
from xnode.core.rules import judge
from xnode.store.store import Store

STRANGERS = 40  # more chains than elections alone would be left with
VOTER = address_of(TIMEKEEPER_NAMES[0])  # of those who have no node


def opening_disk(genesis: Genesis, names: Sequence[str], history: int = 0) -> Disk:
    """A disk to be copied for each member; `history` is how many blocks strangers have made."""
    disk = Disk()
    with Store.open(Path("opening"), genesis, engine=disk.open) as store, store.transaction() as transaction:
        heights: dict[bytes, int] = {}
        for block in _blocks(transaction, genesis, names, history):
            effects = judge(transaction, block, Context(genesis, NOW))
            assert isinstance(effects, Effects), effects
            transaction.stage(effects)
            heights[block.account] = heights.get(block.account, 0) + 1
            transaction.confirm(block.account, heights[block.account])
        transaction.commit()
    return disk


def _blocks(view: LedgerView, genesis: Genesis, names: Sequence[str], history: int) -> Iterator[Block]:
    """Each is asked for once the one before it has landed."""
    for name in names:
        yield Chain(genesis, name).claim(view, representative=address_of(name), timestamp=NOW)
    group = Group(genesis, TRIO)
    yield group.open(view, representative=VOTER, timestamp=NOW)
    yield group.claim(view, timestamp=NOW)
    if history:
        strangers = [Chain(genesis, f"stranger-{number}") for number in range(STRANGERS)]
        for stranger in strangers:
            yield stranger.claim(view, representative=VOTER, timestamp=NOW)
        for number in count():
            if number + STRANGERS >= history:
                return
            to = strangers[(number + 1) % STRANGERS].address
            yield strangers[number % STRANGERS].send(view, to, 1, timestamp=NOW)
