"""Random blocks, good and bad, rollbacks and confirmations, through the rules and the store, against the naive ledger.

The naive ledger knows no undoing: it plays all blocks but one anew, and those that are refused then rest on that one.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.support.group import TRIO
from tests.support.ledger import DAY, NOW, Chain, MemoryLedger
from tests.support.store import GENESIS, facts, open_store, stage
from xnode.core.blocks import Block
from xnode.core.lease import LeaseState
from xnode.core.ledger import Context, Effects, Refusal, supply_balances
from xnode.core.rules import judge, judge_checked
from xnode.core.values import NS, ZERO_HASH, Asset, Hash
from xnode.store.invariants import InvariantBroken
from xnode.store.store import Store
from xnode.store.transaction import Transaction
from xnode.store.verify import verify_store

PEOPLE = ("alice", "bob", "carol", TRIO)
GROUPS = (TRIO, "1:dan,eve", "2:ann,dan,eve")  # keysets that rotate
KINDS = (
    *("send", "send_xe", "receive", "claim", "lease", "accept", "settle", "cancel", "force", "old", "update"),
    *("send", "receive", "receive", "accept", "rollback", "confirm"),
)
LATE = 25  # of so many of the last blocks one is taken back: an early one would often take all

ADDRESSES = {name: MemoryLedger(GENESIS).chain(name).address for name in PEOPLE}
NAMES = {address: name for name, address in ADDRESSES.items()}


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
    kind=st.sampled_from(KINDS),
    other=st.sampled_from(PEOPLE),
    number=st.integers(0, 1000),
    fault=st.sampled_from(["none"] * 18 + ["balance", "previous", "signature", "fork", "asset", "huge"]),
    pause=st.sampled_from(["none"] * 6 + ["commit"] * 6 + ["discard", "reopen"]),
)


def pick(items: Sequence[Hash], number: int) -> Hash:
    """One of them, or a hash that is none."""
    return items[number % len(items)] if items else ZERO_HASH


def sends(ledger: MemoryLedger, me: Chain, act: Act, asset: Asset) -> Block:
    return me.send(ledger, ADDRESSES[act.other], act.number, asset)


def receives(ledger: MemoryLedger, me: Chain, act: Act) -> Block:
    """Mostly what is pending by whom it is for, else anything by anybody."""
    if not ledger.pendings or act.number % 4 == 0:
        return me.receive(ledger, pick(list(ledger.blocks), act.number))
    entry = list(ledger.pendings.values())[act.number % len(ledger.pendings)]
    return ledger.chain(NAMES[entry.destination]).receive(ledger, entry.source)


def claims(ledger: MemoryLedger, me: Chain, act: Act) -> Block:
    later = NOW + (act.number % 4) * DAY * NS
    return me.claim(ledger, timestamp=later, representative=ADDRESSES[act.other])


def leases(ledger: MemoryLedger, me: Chain, act: Act) -> Block:
    return me.lease(ledger, ADDRESSES[act.other], duration=DAY * (act.number % 40), timestamp=NOW + act.number)


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


def updates(ledger: MemoryLedger, act: Act) -> Block:
    """The opening of the multisig account, then rotations of its keyset."""
    trio = ledger.group(TRIO)
    is_open = act.number % 10 > 0 and ledger.account(trio.address) is not None
    return trio.update(ledger, GROUPS[act.number % len(GROUPS)]) if is_open else trio.open(ledger)


MAKERS: dict[str, Callable[[MemoryLedger, Chain, Act], Block]] = {
    "send": lambda ledger, me, act: sends(ledger, me, act, Asset.XUSD),
    "send_xe": lambda ledger, me, act: sends(ledger, me, act, Asset.XE),
    "receive": receives,
    "claim": claims,
    "lease": leases,
    "update": lambda ledger, me, act: updates(ledger, act),
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


def replayed(blocks: list[Block], final: set[Hash], without: Hash = ZERO_HASH) -> MemoryLedger:
    """The ledger of those of these blocks, but one, that can still be played."""
    ledger = MemoryLedger(GENESIS)
    for block in blocks:
        effects = judge_checked(ledger, block, Context(GENESIS, None))
        if isinstance(effects, Effects) and effects.block_hash != without:
            ledger.apply(effects)
    for block_hash in final:
        account = ledger.accounts[ledger.blocks[block_hash].account]
        ledger.accounts[account.address] = account._replace(final_height=account.final_height + 1)
    return ledger


class Pair:
    """The store and the naive ledger side by side; `committed` is what a discard goes back to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store: Store = open_store(path)
        self.transaction: Transaction = self.store.transaction()
        self.ledger = MemoryLedger(GENESIS)
        self.final: set[Hash] = set()
        self.committed = self.state()

    def state(self) -> tuple[list[Block], set[Hash]]:
        """The blocks in their order of arrival, and which are final."""
        return list(self.ledger.blocks.values()), set(self.final)

    def act(self, act: Act) -> None:
        """Does it to both."""
        if act.kind not in ("rollback", "confirm"):
            self.offer(make(self.ledger, act))
        elif self.ledger.blocks:
            blocks = list(self.ledger.blocks)
            if act.kind == "rollback":
                self.roll_back(pick(blocks[-LATE:], act.number))
            else:
                self.confirm(pick(blocks[: len(blocks) // 2 + 1], act.number))

    def roll_back(self, target: Hash) -> None:
        """The store undoes exactly what the naive ledger can't play any more."""
        if target in self.final:
            with pytest.raises(InvariantBroken):
                self.transaction.rollback_with_descendants(target)
            event("refused rollback")
            return
        left = replayed(list(self.ledger.blocks.values()), self.final, without=target)
        gone = [item for item in self.ledger.blocks if item not in left.blocks]
        undone = self.transaction.rollback_with_descendants(target)
        assert sorted(item.block_hash for item in undone) == sorted(gone)
        event(f"rollback of {min(len(gone), 5)}")
        self.ledger = left

    def confirm(self, target: Hash) -> None:
        """What is confirmed with the target are blocks without which it can't be played."""
        confirmed = self.transaction.confirm_with_ancestors(target)
        assert confirmed == [item for item in self.ledger.blocks if item in confirmed]  # in order of arrival
        assert self.final.isdisjoint(confirmed)
        assert target in self.final.union(confirmed)
        blocks = list(self.ledger.blocks.values())
        if confirmed:
            assert target not in replayed(blocks, set(), without=confirmed[0]).blocks
        self.final.update(confirmed)
        self.ledger = replayed(blocks, self.final)
        event(f"confirmed {min(len(confirmed), 5)}")

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
            self.committed = self.state()
        else:
            blocks, self.final = self.committed[0], set(self.committed[1])
            self.ledger = replayed(blocks, self.final)
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
            heads = {self.ledger.blocks[item].account: item for item in self.unconfirmed()}
            assert [item.block_hash for item in snapshot.unconfirmed_heads(limit=1000)] == list(heads.values())
        with self.store.snapshot() as snapshot:  # that search has told the next ones where to begin
            assert [item.block_hash for item in snapshot.unconfirmed(limit=1000)] == self.unconfirmed()
        assert verify_store(self.store, checks_signatures=False) == []

    def unconfirmed(self) -> list[Hash]:
        """By account, then in the order of its chain."""
        blocks = self.ledger.blocks
        return sorted((item for item in blocks if item not in self.final), key=lambda item: blocks[item].account)

    def compare_with_straight(self, path: Path) -> None:
        """Nothing is left of what was undone: the same blocks without any detour make the same store."""
        with open_store(path) as straight:
            with straight.transaction() as transaction:
                for block in self.ledger.blocks.values():
                    stage(transaction, block)
                for block_hash in sorted(self.final):
                    transaction.confirm_with_ancestors(block_hash)
                transaction.commit()
            assert facts(straight) == facts(self.store)


@pytest.mark.slow
@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTS, min_size=20, max_size=80))
def test_the_store_is_the_naive_ledger(acts: list[Act]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        pair = Pair(Path(directory))
        try:
            for act in acts:
                pair.act(act)
                pair.check()
                pair.pause(act.pause)
            pair.pause("commit")
            pair.compare()
            pair.pause("reopen")
            pair.compare()
            pair.compare_with_straight(Path(directory) / "straight")
        finally:
            pair.store.close()
