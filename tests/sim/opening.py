"""The ledger with which a run begins: every member has delegated its weight to itself, and that is confirmed."""

from collections.abc import Sequence
from pathlib import Path

from tests.sim.fake_leveldb import Disk
from tests.support.ledger import NOW, Chain, address_of
from xnode.core.genesis import Genesis
from xnode.core.ledger import Context, Effects
from xnode.core.rules import judge
from xnode.store.store import Store


def opening_disk(genesis: Genesis, names: Sequence[str]) -> Disk:
    """A disk to be copied for each member."""
    disk = Disk()
    with Store.open(Path("opening"), genesis, engine=disk.open) as store, store.transaction() as transaction:
        for name in names:
            block = Chain(genesis, name).claim(transaction, representative=address_of(name), timestamp=NOW)
            effects = judge(transaction, block, Context(genesis, NOW))
            assert isinstance(effects, Effects), effects
            transaction.stage(effects)
            transaction.confirm(block.account, 1)
        transaction.commit()
    return disk
