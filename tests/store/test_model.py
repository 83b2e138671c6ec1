"""Random blocks, good and bad, through the rules and the store, against the naive ledger."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.support.ledger import DAY, NOW, Chain, MemoryLedger, address_of
from tests.support.store import GENESIS, open_store
from xnode.core.blocks import Block
from xnode.core.lease import LeaseState
from xnode.core.ledger import Context, Effects, Refusal, supply_balances
from xnode.core.rules import judge
from xnode.core.values import NS, ZERO_HASH, Asset, Hash
from xnode.store.store import Store
from xnode.store.transaction import Transaction
from xnode.store.verify import verify_store

PEOPLE = ("alice", "bob", "carol")
KINDS = ("lease", "accept", "settle", "cancel", "force", "send", "send_xe", "receive", "claim", "old")


NAMES = {address_of(name): name for name in PEOPLE}


class Act(NamedTuple):
    """One random try: who does what with whom, and what is wrong with it (mostly nothing)."""

    who: str
    kind: str
    other: str
    number: int
    fault: str
    pause: str  # what happens to the store after it


ACTS = st.builds(
    Act,
    who=st.sampled_from(PEOPLE),
    kind=st.sampled_from(
        ["send", "send_xe", "receive", "claim", "lease", "accept", "settle", "cancel", "force", "old"]
    ),
    other=st.sampled_from(PEOPLE),
    number=st.integers(0, 1000),
    fault=st.sampled_from(["none"] * 18 + ["balance", "previous", "signature", "fork", "asset", "huge"]),
    pause=st.sampled_from(["none"] * 6 + ["commit"] * 6 + ["discard", "reopen"]),
)


def pick(items: Sequence[Hash], number: int) -> Hash:
    """One of them, or a hash that is none."""
    return items[number % len(items)] if items else ZERO_HASH


def sends(ledger: MemoryLedger, me: Chain, act: Act, asset: Asset) -> Block:
    return me.send(ledger, address_of(act.other), act.number, asset)


def receives(ledger: MemoryLedger, me: Chain, act: Act) -> Block:
    """Mostly what is pending by whom it is for, else anything by anybody."""
    if not ledger.pendings or act.number % 4 == 0:
        return me.receive(ledger, pick(list(ledger.blocks), act.number))
    entry = list(ledger.pendings.values())[act.number % len(ledger.pendings)]
    return ledger.chain(NAMES[entry.destination]).receive(ledger, entry.source)


def claims(ledger: MemoryLedger, me: Chain, act: Act) -> Block:
    later = NOW + (act.number % 4) * DAY * NS
    return me.claim(ledger, timestamp=later, representative=address_of(act.other))


def leases(ledger: MemoryLedger, me: Chain, act: Act) -> Block:
    return me.lease(ledger, address_of(act.other), duration=DAY * (act.number % 40), timestamp=NOW + act.number)


def ends(act: Act, ledger: MemoryLedger, me: Chain) -> Block:
    """A block about some lease: mostly in the right state and by the right one, else by anybody about any."""
    side, state = ENDS[act.kind]
    fitting = [item.lease_hash for item in ledger.leases.values() if item.state is state]
    lease = ledger.lease(pick(fitting if fitting and act.number % 5 else list(ledger.leases), act.number))
    if lease is None:
        return leases(ledger, me, act)
    signer = me if act.number % 4 == 0 else ledger.chain(NAMES[getattr(lease, side)])
    build = {"accept": signer.accept, "settle": signer.settle, "cancel": signer.cancel, "force": signer.force_settle}
    return build[act.kind](ledger, lease.lease_hash)


ENDS = {
    "accept": ("provider", LeaseState.CREATED),
    "settle": ("provider", LeaseState.ACCEPTED),
    "cancel": ("consumer", LeaseState.CREATED),
    "force": ("consumer", LeaseState.ACCEPTED),
}
MAKERS: dict[str, Callable[[MemoryLedger, Chain, Act], Block]] = {
    "send": lambda ledger, me, act: sends(ledger, me, act, Asset.XUSD),
    "send_xe": lambda ledger, me, act: sends(ledger, me, act, Asset.XE),
    "receive": receives,
    "claim": claims,
    "lease": leases,
    **dict.fromkeys(ENDS, lambda ledger, me, act: ends(act, ledger, me)),
}


def make(ledger: MemoryLedger, act: Act) -> Block:
    """The block of this act, with its fault."""
    if act.kind == "old" and ledger.blocks:
        return ledger.blocks[pick(list(ledger.blocks), act.number)]
    me = ledger.chain(act.who)
    block = MAKERS.get(act.kind, claims)(ledger, me, act)
    changes: dict[str, dict[str, Any]] = {
        "balance": {"balance": block.balance + 1},
        "previous": {"previous": Hash(bytes([act.number % 256]) * 32)},
        "fork": {"previous": pick(list(ledger.blocks), act.number)},
        "asset": {"asset": Asset(1 - block.asset)},
        "huge": {"balance": 2**64 - 1},
    }
    if act.fault == "signature":
        return block._replace(timestamp=block.timestamp + 1)
    if act.fault not in changes:
        return block
    return ledger.chain(NAMES[block.account]).sign(block._replace(**changes[act.fault]))


class Pair:
    """The store and the naive ledger side by side; `committed` is what a discard goes back to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store: Store = open_store(path)
        self.transaction: Transaction = self.store.transaction()
        self.committed: list[Effects] = []
        self.staged: list[Effects] = []
        self.ledger = MemoryLedger(GENESIS)

    def offer(self, block: Block) -> None:
        """Both judge the block alike and, if it is good, both take it."""
        context = Context(GENESIS, None)
        effects = judge(self.ledger, block, context)
        assert judge(self.transaction, block, context) == effects
        if isinstance(effects, Refusal):
            event(effects.outcome)
            return
        event(f"good {block.type.name.lower()}")
        self.transaction.stage(effects)
        self.ledger.apply(effects)
        self.staged.append(effects)

    def check(self) -> None:
        """The supply identity, and every number alike, in the transaction as it is."""
        assert self.ledger.is_sound()
        assert supply_balances(self.transaction.supply())
        assert {key: amount for key, amount in self.transaction.supply().items() if amount} == self.ledger.totals()
        assert self.transaction.counts() == (len(self.ledger.blocks), len(self.ledger.accounts))

    def pause(self, how: str) -> None:
        """Commits, or forgets what is staged, or does that by opening the store again."""
        if how == "none":
            return
        if how == "commit":
            self.transaction.commit()
            self.committed += self.staged
        else:
            self.ledger = MemoryLedger(GENESIS)
            for effects in self.committed:
                self.ledger.apply(effects)
        self.staged = []
        self.transaction.discard()
        if how == "reopen":
            self.store.close()
            self.store = open_store(self.path)
        self.transaction = self.store.transaction()

    def compare(self) -> None:
        """Everything committed is read back as the naive ledger has it."""
        with self.store.snapshot() as snapshot:
            assert snapshot.accounts() == sorted(self.ledger.accounts.values())
            assert [item.block for item in snapshot.blocks_since(0)] == list(self.ledger.blocks.values())
            assert snapshot.pendings() == [self.ledger.pendings[key] for key in sorted(self.ledger.pendings)]
            by_time = sorted(self.ledger.leases.values(), key=lambda item: (item.created_at, item.lease_hash))
            assert snapshot.leases() == by_time
        assert verify_store(self.store, checks_signatures=False) == []


@pytest.mark.slow
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTS, min_size=20, max_size=80))
def test_the_store_is_the_naive_ledger(acts: list[Act]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        pair = Pair(Path(directory))
        try:
            for act in acts:
                pair.offer(make(pair.ledger, act))
                pair.check()
                pair.pause(act.pause)
            pair.pause("commit")
            pair.compare()
            pair.pause("reopen")
            pair.compare()
        finally:
            pair.store.close()
