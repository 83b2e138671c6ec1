"""Which block wants which step of a lease, and who has taken it (protocol sections 4 and 8)."""

from tests.support.ledger import MemoryLedger, address_of
from tests.support.rules import accepted, new_ledger
from xnode.core.blocks import Block
from xnode.core.lease import LeaseState
from xnode.core.steps import LEAVES, Step, step_of, taker
from xnode.core.values import Hash

CREATED, ACCEPTED = LeaseState.CREATED, LeaseState.ACCEPTED


def leased() -> tuple[MemoryLedger, Hash]:
    ledger = new_ledger()
    return ledger, accepted(ledger, ledger.chain("alice").lease(ledger, address_of("bob"))).block_hash


def taken(ledger: MemoryLedger, lease: Hash) -> tuple[Hash | None, Hash | None]:
    return taker(ledger.leases[lease], CREATED), taker(ledger.leases[lease], ACCEPTED)


def test_only_what_moves_a_lease_wants_a_step() -> None:
    ledger, lease = leased()
    alice = ledger.chain("alice")
    blocks: list[Block] = [alice.send(ledger, address_of("bob"), 1), alice.claim(ledger), ledger.blocks[lease]]
    assert [step_of(block) for block in blocks] == [None, None, None]
    assert len(LEAVES) == 4


def test_acceptance_and_cancellation_want_the_same_step() -> None:
    ledger, lease = leased()
    assert step_of(ledger.chain("alice").cancel(ledger, lease)) == Step(lease, CREATED)
    assert step_of(ledger.chain("bob").accept(ledger, lease)) == Step(lease, CREATED)
    assert taken(ledger, lease) == (None, None)


def test_settlement_and_forced_settlement_want_the_next() -> None:
    ledger, lease = leased()
    accept = accepted(ledger, ledger.chain("bob").accept(ledger, lease)).block_hash
    settle = ledger.chain("bob").settle(ledger, lease)
    assert step_of(settle) == step_of(ledger.chain("alice").force_settle(ledger, lease)) == Step(lease, ACCEPTED)
    assert taken(ledger, lease) == (accept, None)
    assert accepted(ledger, settle, now=None).block_hash == taken(ledger, lease)[1]


def test_a_cancellation_takes_the_first_step_and_the_second_never_comes() -> None:
    ledger, lease = leased()
    cancel = accepted(ledger, ledger.chain("alice").cancel(ledger, lease)).block_hash
    assert taken(ledger, lease) == (cancel, None)
