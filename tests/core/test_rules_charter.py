"""A lease is judged by the rates of its own time, attested time by the timekeepers of the block's own (section 9)."""

import pytest

from tests.support.ledger import NOW, SMALL, MemoryLedger, address_of, attest, key_of
from tests.support.rules import accepted, altered, new_ledger, refused
from xnode.core import price
from xnode.core.attestations import Timekeepers
from xnode.core.blocks import Block, LeaseAccept, LeaseForceSettle, LeaseSettle
from xnode.core.charter import Charter, Era
from xnode.core.ledger import Effects, Outcome, Refusal, live_context, synced_context
from xnode.core.price import Rates
from xnode.core.rules import judge, judge_checked
from xnode.core.values import NS, Hash

CHANGE = NOW + 600 * NS
DOUBLE = Rates(vcpu=40, memory_gb=20, disk_gb=2)
NEW = ("new-1", "new-2")


def changed(ledger: MemoryLedger, **values: object) -> None:
    charter: Charter = ledger.charters.latest._replace(**values)  # type: ignore[arg-type]
    ledger.charters = ledger.charters.extended(Era(1, CHANGE, charter))


def lease_at(ledger: MemoryLedger, rates: Rates, timestamp: int) -> Block:
    """Alice's lease at these rates."""
    alice = ledger.chain("alice")
    block = alice.lease(ledger, address_of("bob"), timestamp=timestamp)
    amount = price.cost(SMALL, block.body.duration, rates)  # type: ignore[union-attr]
    balance = alice.record(ledger).xusd - amount
    return alice.sign(block._replace(body=block.body._replace(amount=amount), balance=balance))  # type: ignore[call-arg]


def test_a_lease_before_the_change_is_judged_by_the_old_rates() -> None:
    ledger = new_ledger()
    changed(ledger, rates=DOUBLE)
    refused(ledger, lease_at(ledger, DOUBLE, CHANGE - 1), Outcome.BAD_AMOUNT)
    accepted(ledger, lease_at(ledger, ledger.genesis.rates, CHANGE - 1))


def test_a_lease_from_the_change_on_is_judged_by_the_new_rates() -> None:
    ledger = new_ledger()
    changed(ledger, rates=DOUBLE)
    refused(ledger, lease_at(ledger, ledger.genesis.rates, CHANGE), Outcome.BAD_AMOUNT)
    accepted(ledger, lease_at(ledger, DOUBLE, CHANGE))


def test_a_lease_of_the_old_rates_ends_at_its_own_price() -> None:
    ledger = new_ledger()
    lease = ledger.play(lease_at(ledger, ledger.genesis.rates, NOW))
    changed(ledger, rates=DOUBLE)
    bob = ledger.chain("bob")
    accepted(ledger, bob.accept(ledger, lease, timestamp=CHANGE))
    settled = accepted(ledger, bob.settle(ledger, lease), None)
    assert settled.block.body.amount == 7  # type: ignore[union-attr]


def by(ledger: MemoryLedger, block: Block, signer: str, lease: Hash, time: int, *names: str) -> Block:
    """The same block attested by others."""
    body = block.body
    assert isinstance(body, LeaseAccept | LeaseSettle | LeaseForceSettle)
    body = body._replace(attestations=attest(lease, *[time] * len(names), names=names))
    return ledger.chain(signer).sign(block._replace(body=body))


def test_time_is_attested_by_the_timekeepers_of_the_blocks_own_time() -> None:
    ledger = new_ledger()
    changed(ledger, timekeepers=Timekeepers(tuple(key_of(name).public_key for name in NEW), 2))
    bob, lease = ledger.chain("bob"), ledger.play(lease_at(ledger, ledger.genesis.rates, NOW))
    early, late = (bob.accept(ledger, lease, timestamp=time) for time in (CHANGE - 1, CHANGE))
    refused(ledger, late, Outcome.BAD_ATTESTATIONS)
    refused(ledger, by(ledger, early, "bob", lease, NOW, *NEW), Outcome.BAD_ATTESTATIONS)
    accepted(ledger, by(ledger, late, "bob", lease, NOW, *NEW))
    expiry = ledger.leases[lease].expiry
    settle = bob.settle(ledger, lease)
    refused(ledger, settle, Outcome.BAD_ATTESTATIONS, None)
    accepted(ledger, by(ledger, settle, "bob", lease, expiry, *NEW), None)


def test_force_settle_too() -> None:
    ledger = new_ledger()
    bob, alice = ledger.chain("bob"), ledger.chain("alice")
    lease = ledger.play(lease_at(ledger, ledger.genesis.rates, NOW))
    ledger.play(bob.accept(ledger, lease))
    changed(ledger, timekeepers=Timekeepers(tuple(key_of(name).public_key for name in NEW), 2))
    time = ledger.leases[lease].expiry + 100_000 * NS
    block = alice.force_settle(ledger, lease, time)
    refused(ledger, block, Outcome.BAD_ATTESTATIONS, None)
    accepted(ledger, by(ledger, block, "alice", lease, time, *NEW), None)


def test_a_change_of_the_threshold_counts_too() -> None:
    ledger = new_ledger()
    changed(ledger, timekeepers=ledger.genesis.timekeepers._replace(threshold=3))
    bob, lease = ledger.chain("bob"), ledger.play(lease_at(ledger, ledger.genesis.rates, NOW))
    block = bob.accept(ledger, lease, timestamp=CHANGE)
    names = ("timekeeper-1", "timekeeper-2", "timekeeper-3")
    refused(ledger, block, Outcome.BAD_ATTESTATIONS)
    accepted(ledger, by(ledger, block, "bob", lease, NOW, *names))


LEEWAY = 4_200 * NS  # a live block is within an hour of now, its attestations within ten minutes


def ends(ledger: MemoryLedger, lease: Hash) -> dict[str, tuple[Block, int]]:
    """Both ways to end a lease, each with the time (ns) it is attested at."""
    timing, expiry = ledger.genesis.timing, ledger.leases[lease].expiry
    late = expiry + (timing.settle_grace + timing.force_settle_gap) * NS
    return {
        "bob": (ledger.chain("bob").settle(ledger, lease, expiry), expiry),
        "alice": (ledger.chain("alice").force_settle(ledger, lease, late), late),
    }


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", ["bob", "alice"])
def test_a_lease_is_ended_by_a_block_that_is_dated_near_its_attested_time(name: str, sign: int) -> None:
    ledger = new_ledger()
    lease = ledger.play(lease_at(ledger, ledger.genesis.rates, NOW))
    ledger.play(ledger.chain("bob").accept(ledger, lease))
    block, time = ends(ledger, lease)[name]
    beyond = altered(ledger, name, block, timestamp=time + sign * (LEEWAY + 1))
    refused(ledger, beyond, Outcome.BAD_TIMESTAMP, None)
    accepted(ledger, altered(ledger, name, block, timestamp=time + sign * LEEWAY), None)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_lease_is_accepted_by_a_block_that_is_dated_near_its_attested_time(sign: int) -> None:
    ledger = new_ledger()
    lease, bob = ledger.play(lease_at(ledger, ledger.genesis.rates, NOW)), ledger.chain("bob")
    refused(ledger, bob.accept(ledger, lease, timestamp=NOW + sign * (LEEWAY + 1)), Outcome.BAD_TIMESTAMP, None)
    accepted(ledger, bob.accept(ledger, lease, timestamp=NOW + sign * LEEWAY), None)


def test_keys_that_are_listed_no_more_end_no_lease_by_a_block_dated_back() -> None:
    """They may sign any time; what they sign must be near the block's date, and that in the time they were listed."""
    ledger = new_ledger()
    lease, bob = ledger.play(lease_at(ledger, ledger.genesis.rates, NOW)), ledger.chain("bob")
    ledger.play(bob.accept(ledger, lease))
    changed(ledger, timekeepers=Timekeepers(tuple(key_of(name).public_key for name in NEW), 2))
    refused(ledger, bob.settle(ledger, lease, timestamp=CHANGE - 1), Outcome.BAD_TIMESTAMP, None)
    refused(ledger, bob.settle(ledger, lease), Outcome.BAD_ATTESTATIONS, None)


def test_a_lease_is_not_accepted_at_a_time_before_it_was_made() -> None:
    """Else keys that are listed no more could start it, by a block dated back."""
    ledger = new_ledger()
    lease, bob = ledger.play(lease_at(ledger, ledger.genesis.rates, NOW)), ledger.chain("bob")
    early = NOW - LEEWAY - 1
    refused(ledger, bob.accept(ledger, lease, early, timestamp=early), Outcome.BAD_TIME, None)
    accepted(ledger, bob.accept(ledger, lease, early + 1, timestamp=early + 1), None)


def test_a_lease_dated_ahead_waits_for_its_time() -> None:
    """Its rates may still change: who judged it before would price it otherwise than who comes later."""
    ledger = new_ledger()
    ahead = NOW + ledger.genesis.timing.live_window * NS
    soon, late = (lease_at(ledger, ledger.genesis.rates, time) for time in (ahead, ahead + 1))
    for context in (synced_context(ledger.genesis, NOW), live_context(ledger.genesis, NOW)):
        verdict = judge_checked(ledger, late, context)
        assert isinstance(verdict, Refusal)
        assert verdict.outcome is Outcome.BAD_TIMESTAMP
    assert isinstance(judge(ledger, soon, synced_context(ledger.genesis, NOW)), Effects)
    assert isinstance(judge(ledger, late, synced_context(ledger.genesis, NOW + 1)), Effects)


def test_a_lease_of_a_ledger_that_is_judged_anew_is_good_whatever_the_clock_says() -> None:
    ledger = new_ledger()
    accepted(ledger, lease_at(ledger, ledger.genesis.rates, NOW + 86_400 * NS), None)
