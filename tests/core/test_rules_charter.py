"""A lease is judged by the rates of its own time, attested time by the timekeepers of the block's own (section 9)."""

from tests.support.ledger import NOW, SMALL, MemoryLedger, address_of, attest, key_of
from tests.support.rules import accepted, new_ledger, refused
from xnode.core import price
from xnode.core.attestations import Timekeepers
from xnode.core.blocks import Block, LeaseAccept, LeaseForceSettle, LeaseSettle
from xnode.core.charter import Charter, Era
from xnode.core.ledger import Outcome
from xnode.core.price import Rates
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
    settled = accepted(ledger, bob.settle(ledger, lease, timestamp=CHANGE), None)
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
    settle = bob.settle(ledger, lease, timestamp=CHANGE)
    refused(ledger, settle, Outcome.BAD_ATTESTATIONS, None)
    accepted(ledger, by(ledger, settle, "bob", lease, expiry, *NEW), None)


def test_force_settle_too() -> None:
    ledger = new_ledger()
    bob, alice = ledger.chain("bob"), ledger.chain("alice")
    lease = ledger.play(lease_at(ledger, ledger.genesis.rates, NOW))
    ledger.play(bob.accept(ledger, lease))
    changed(ledger, timekeepers=Timekeepers(tuple(key_of(name).public_key for name in NEW), 2))
    block = alice.force_settle(ledger, lease, timestamp=CHANGE)
    time = ledger.leases[lease].expiry + 100_000 * NS
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
