"""Random stories of several accounts, leases and time: what holds after every step (protocol section 4).

Each step asks for one block, sensible or not, of a random account; the rules accept or refuse it.
"""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.group import TRIO
from tests.support.ledger import DAY, NOW, MemoryLedger, address_of, make_genesis
from tests.support.rules import altered, moved
from xnode.core.blocks import Block, BlockType
from xnode.core.genesis import DEFAULT_TIMING, Allocation
from xnode.core.lease import TRANSITIONS, LeaseRecord, Resources
from xnode.core.ledger import GAPS, Effects, Outcome, Refusal
from xnode.core.values import NS, U64_MAX, ZERO_HASH, Asset, Hash

PEOPLE = ("alice", "bob", "carol")
NAMES = (*PEOPLE, TRIO)
GROUPS = (TRIO, "1:dan,eve", "2:ann,dan,eve")  # keysets that rotate
GENESIS = make_genesis(
    allocations=(
        Allocation(address_of("alice"), Asset.XUSD, 300),
        Allocation(address_of("bob"), Asset.XUSD, 300),
        Allocation(address_of("bob"), Asset.XE, 3),
    ),
    timing=DEFAULT_TIMING._replace(settle_grace=DAY),  # so that random times often hit it
)
ADDRESSES = {MemoryLedger(GENESIS).chain(name).address: name for name in NAMES}
CHOICES: dict[str, list[Any]] = {
    "name": list(NAMES),
    "kind": ["send", "receive", "claim", "lease", "accept", "settle", "cancel", "force_settle", "open", "update"],
    "other": list(NAMES),
    "amount": [*range(12), 50, 120, 301],
    "asset": list(Asset),
    "later": [0, 0, 1, 600, 3600, 3600 + 1500, DAY],
    "pick": list(range(20)),
    "spoil": [None, None, None, None, "balance", "asset", "previous", "timestamp"],
}


class Step(NamedTuple):
    """One wish: who, what, to whom, how much, how many s after the step before, which of the sources, what to spoil."""

    name: str
    kind: str
    other: str
    amount: int
    asset: Asset
    later: int
    pick: int
    spoil: str | None


stories = st.lists(st.builds(Step, *map(st.sampled_from, CHOICES.values())), min_size=5, max_size=30)


def lease_picked(ledger: MemoryLedger, step: Step) -> LeaseRecord | None:
    """Mostly a live one, sometimes any."""
    leases = [item for item in ledger.leases.values() if step.pick > 15 or not item.is_final]
    return leases[step.pick % len(leases)] if leases else None


def by_party(step: Step, lease: LeaseRecord, party: str) -> str:
    """Mostly whoever may do it, sometimes anybody."""
    return step.name if step.pick > 17 else ADDRESSES[getattr(lease, party)]


def send(ledger: MemoryLedger, step: Step, now: int) -> Block:
    return ledger.chain(step.name).send(
        ledger, ledger.chain(step.other).address, step.amount, step.asset, timestamp=now
    )


def receive(ledger: MemoryLedger, step: Step, now: int) -> Block:
    entries = list(ledger.pendings.values())
    source = entries[step.pick % len(entries)].source if entries else Hash(b"?" * 32)
    names = {entry.source: ADDRESSES[entry.destination] for entry in entries}
    return ledger.chain(names.get(source, step.name)).receive(ledger, source, timestamp=now)


def claim(ledger: MemoryLedger, step: Step, now: int) -> Block:
    return ledger.chain(step.name).claim(ledger, timestamp=now)


def lease(ledger: MemoryLedger, step: Step, now: int) -> Block:
    provider = ledger.chain(step.other).address
    return ledger.chain(step.name).lease(ledger, provider, Resources(step.amount, 1024, 0), 3600, 10_000, timestamp=now)


def accept(ledger: MemoryLedger, step: Step, now: int) -> Block:
    picked = lease_picked(ledger, step)
    if picked is None:
        return lease(ledger, step, now)
    return ledger.chain(by_party(step, picked, "provider")).accept(ledger, picked.lease_hash, now, timestamp=now)


def settle(ledger: MemoryLedger, step: Step, now: int) -> Block:
    picked = lease_picked(ledger, step)
    if picked is None:
        return lease(ledger, step, now)
    return ledger.chain(by_party(step, picked, "provider")).settle(ledger, picked.lease_hash, now, timestamp=now)


def cancel(ledger: MemoryLedger, step: Step, now: int) -> Block:
    picked = lease_picked(ledger, step)
    if picked is None:
        return claim(ledger, step, now)
    return ledger.chain(by_party(step, picked, "consumer")).cancel(ledger, picked.lease_hash, timestamp=now)


def force_settle(ledger: MemoryLedger, step: Step, now: int) -> Block:
    picked = lease_picked(ledger, step)
    if picked is None:
        return claim(ledger, step, now)
    return ledger.chain(by_party(step, picked, "consumer")).force_settle(ledger, picked.lease_hash, now, timestamp=now)


def open_(ledger: MemoryLedger, step: Step, now: int) -> Block:
    return ledger.group(TRIO).open(ledger, timestamp=now)


def update(ledger: MemoryLedger, step: Step, now: int) -> Block:
    return ledger.group(TRIO).update(ledger, GROUPS[step.pick % len(GROUPS)], timestamp=now)


MAKERS: dict[str, Callable[[MemoryLedger, Step, int], Block]] = {
    item.__name__.rstrip("_"): item
    for item in (send, receive, claim, lease, accept, settle, cancel, force_settle, open_, update)
}
SPOILT: dict[str, Any] = {"previous": Hash(b"?" * 32), "timestamp": NOW * 2, "balance": U64_MAX}


def spoilt(ledger: MemoryLedger, step: Step, block: Block) -> Block:
    if step.spoil is None:
        return block
    name = ADDRESSES[block.account]
    value = Asset(1 - block.asset) if step.spoil == "asset" else SPOILT[step.spoil]
    return altered(ledger, name, block, **{step.spoil: value})


def state_of(ledger: MemoryLedger) -> tuple[Any, ...]:
    parts = (ledger.accounts, ledger.pendings, ledger.leases, ledger.blocks, ledger.issued)
    return tuple(dict(part) for part in parts)


def check_step(ledger: MemoryLedger, effects: Effects, totals: Any, leases: dict[Hash, LeaseRecord]) -> None:
    """What holds after every accepted block."""
    assert ledger.is_sound()
    assert ledger.totals() == moved(totals, effects)
    assert all(amount >= 0 for amount in ledger.totals().values())
    for account in ledger.accounts.values():
        assert 0 <= account.xusd <= U64_MAX
        assert 0 <= account.xe <= U64_MAX
    after = ledger.leases
    changed = {key for key in after if key in leases and after[key] != leases[key]}
    assert changed <= ({effects.lease.lease_hash} if effects.lease else set())
    for key in changed:
        assert not leases[key].is_final
        assert after[key].state in {new for (old, _), new in TRANSITIONS.items() if old is leases[key].state}
        assert after[key].is_final is (after[key].end_hash != ZERO_HASH)


@settings(max_examples=40)
@given(stories)
def test_every_step_keeps_the_ledger_sound(story: list[Step]) -> None:
    ledger, now = MemoryLedger(GENESIS), NOW
    for step in story:
        now += step.later * NS
        block = spoilt(ledger, step, MAKERS[step.kind](ledger, step, now))
        before, totals, leases = state_of(ledger), ledger.totals(), dict(ledger.leases)
        verdict = ledger.judge(block, now)
        assert state_of(ledger) == before
        if isinstance(verdict, Effects):
            ledger.apply(verdict)
            check_step(ledger, verdict, totals, leases)
            again = ledger.judge(block, now)
            assert isinstance(again, Refusal)
            assert again.outcome is Outcome.OLD


@settings(max_examples=15)
@given(stories, st.randoms(use_true_random=False))
def test_accounts_end_the_same_in_any_order_that_the_rules_allow(story: list[Step], random: Random) -> None:
    """Every block of a story, offered in random order until it lands, leads another node to the same end."""
    ledger, now = MemoryLedger(GENESIS), NOW
    for step in story:
        now += step.later * NS
        verdict = ledger.judge(MAKERS[step.kind](ledger, step, now), now)
        if isinstance(verdict, Effects):
            ledger.apply(verdict)
    other = MemoryLedger(GENESIS)
    waiting = list(ledger.blocks.values())
    for _ in range(len(waiting)):
        random.shuffle(waiting)
        held = []
        for block in waiting:
            verdict = other.judge(block, None)
            if isinstance(verdict, Effects):
                other.apply(verdict)
            else:
                early = block.type is BlockType.LEASE_FORCE_SETTLE and verdict.outcome is Outcome.WRONG_STATE
                assert early or verdict.outcome in GAPS, verdict
                held.append(block)
        waiting = held
    assert other.accounts == ledger.accounts
    assert other.leases == ledger.leases
    assert other.totals() == ledger.totals()


def test_stories_reach_every_kind_of_block_and_many_refusals() -> None:
    """The generator itself: a fixed long story gets everywhere, so that the properties above are not empty."""
    source = Random(7)
    ledger, now = MemoryLedger(GENESIS), NOW
    played: set[BlockType] = set()
    refusals: set[Outcome] = set()
    for _ in range(600):
        step = Step(*(source.choice(choices) for choices in CHOICES.values()))
        now += step.later * NS
        block = spoilt(ledger, step, MAKERS[step.kind](ledger, step, now))
        verdict = ledger.judge(block, now)
        if isinstance(verdict, Effects):
            ledger.apply(verdict)
            played.add(block.type)
        else:
            refusals.add(verdict.outcome)
    assert played == set(BlockType)
    assert len(refusals) >= 12, refusals
    assert ledger.is_sound()
