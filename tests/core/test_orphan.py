"""A machine without a lease goes only after a grace that was really looked at, with the ledger in step (section 12)."""

import pytest

from tests.core.test_provision import LEASE
from tests.support.ledger import NOW
from xnode.core.faults import WrongState
from xnode.core.orphan import LOOK_COUNTS_MAX, OrphanProof, OrphanWatch, is_over, look, prove_orphaned
from xnode.core.values import NS

GRACE = 3600
OVER = OrphanWatch(NOW, GRACE * NS)


def test_the_first_look_counts_nothing() -> None:
    assert look(None, NOW, is_synced=True) == OrphanWatch(NOW, 0)


def test_looks_add_up() -> None:
    watch = look(None, NOW, is_synced=True)
    for number in range(1, 4):
        watch = look(watch, NOW + number * 2 * NS, is_synced=True)
    assert watch == OrphanWatch(NOW + 6 * NS, 6 * NS)


def test_a_clock_that_leaps_or_a_node_that_was_off_shortens_nothing() -> None:
    watch = look(OrphanWatch(NOW, 0), NOW + 10**9 * NS, is_synced=True)
    assert watch.unknown_for == LOOK_COUNTS_MAX
    assert look(watch, NOW, is_synced=True) == OrphanWatch(NOW, LOOK_COUNTS_MAX)


def test_nothing_counts_while_the_ledger_is_not_in_step() -> None:
    assert look(OrphanWatch(NOW, 5), NOW + 9 * NS, is_synced=False) == OrphanWatch(NOW + 9 * NS, 5)


def test_the_proof_needs_the_whole_grace() -> None:
    assert not is_over(OVER._replace(unknown_for=GRACE * NS - 1), GRACE)
    with pytest.raises(WrongState, match="another 1 s") as caught:
        prove_orphaned(LEASE.lease_hash, None, OVER._replace(unknown_for=GRACE * NS - 1), GRACE, is_synced=True)
    assert caught.value.code == "orphan_kept"
    assert is_over(OVER, GRACE)
    expected = OrphanProof(LEASE.lease_hash, GRACE * NS)
    assert prove_orphaned(LEASE.lease_hash, None, OVER, GRACE, is_synced=True) == expected


def test_there_is_no_proof_for_a_lease_that_is_known() -> None:
    with pytest.raises(WrongState) as caught:
        prove_orphaned(LEASE.lease_hash, LEASE, OVER, GRACE, is_synced=True)
    assert caught.value.code == "lease_known"


def test_there_is_no_proof_from_a_ledger_that_is_not_in_step() -> None:
    with pytest.raises(WrongState) as caught:
        prove_orphaned(LEASE.lease_hash, None, OVER, GRACE, is_synced=False)
    assert caught.value.code == "not_synced"
