"""The table of core/strikes.py, row by row."""

import pytest

from tests.support.ledger import NOW
from xnode.core.strikes import (
    BOOTS_MAX,
    COUNT_MAX,
    GUEST_FAULTS,
    NONE,
    RESTARTS_MAX,
    STEADY,
    Strikes,
    describe,
    on_asked,
    on_boot,
    on_failed_boot,
    on_restart,
    on_running,
)


def test_a_restart_counts_once_for_a_row_of_tries() -> None:
    assert on_restart(NONE) == Strikes(restarts=1)
    assert on_restart(Strikes(failed=1, restarts=1)) == Strikes(failed=1, restarts=1)
    assert on_restart(Strikes(broken=1, restarts=1)) == Strikes(broken=1, restarts=1)


@pytest.mark.parametrize("code", sorted(GUEST_FAULTS))
def test_a_boot_that_the_guest_spoilt_is_not_the_hosts_fault(code: str) -> None:
    assert on_failed_boot(NONE, code) == Strikes(broken=1)
    assert not Strikes(broken=COUNT_MAX).is_unpaid


@pytest.mark.parametrize("code", ["qemu_exited", "qmp_failed", "disk_full", "qemu_missing", "image_damaged"])
def test_a_boot_that_the_host_spoilt_is_not_paid_for_in_the_end(code: str) -> None:
    strikes = NONE
    for _ in range(BOOTS_MAX):
        assert not strikes.is_unpaid
        strikes = on_failed_boot(strikes, code)
    assert strikes == Strikes(failed=BOOTS_MAX)
    assert strikes.is_unpaid


def test_a_boot_ends_the_row() -> None:
    assert on_boot(Strikes(2, 1, 2)) == Strikes(restarts=2)


def test_a_start_by_its_consumer_forgets_all_but_the_hosts_faults() -> None:
    assert on_asked(Strikes(2, 3, 3)) == Strikes(failed=2)
    assert on_asked(NONE) == NONE


def test_steady_running_forgets() -> None:
    assert on_running(Strikes(restarts=2), NOW, NOW + STEADY - 1) == Strikes(restarts=2)
    assert on_running(Strikes(restarts=2), NOW, NOW + STEADY) == NONE


def test_three_strikes() -> None:
    assert NONE.may_restart
    assert Strikes(failed=1, broken=1, restarts=RESTARTS_MAX).may_restart, "this row of tries goes on"
    assert not Strikes(failed=2, broken=1).may_restart
    assert not Strikes(restarts=RESTARTS_MAX).may_restart


def test_counts_fit_a_byte() -> None:
    full = Strikes(COUNT_MAX, COUNT_MAX, COUNT_MAX)
    assert on_failed_boot(full, "boot_timeout") == on_failed_boot(full, "disk_full") == full
    assert bytes(full) == b"\xff\xff\xff"


def test_it_says_why_it_is_not_tried_again() -> None:
    assert "3 boots have failed" in describe(Strikes(failed=3))
    assert "fell 3 times" in describe(Strikes(restarts=3))
