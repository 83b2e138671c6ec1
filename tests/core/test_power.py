"""What a consumer may do to its machine: every row of the table, from both sides."""

import pytest

from xnode.core.faults import WrongState
from xnode.core.machine import MachineStatus
from xnode.core.power import Verb, check_allowed, is_allowed

P, R, H, S, F, D = (
    MachineStatus.PROVISIONING,
    MachineStatus.RUNNING,
    MachineStatus.PAUSED,
    MachineStatus.STOPPED,
    MachineStatus.FAILED,
    MachineStatus.DESTROYED,
)
ALLOWED = {
    Verb.STOP: {P, R, H, S, F},
    Verb.START: {S, F},
    Verb.REBOOT: {R, H},
    Verb.RESET: {R, H},
    Verb.PAUSE: {R},
    Verb.RESUME: {H},
}
EVERY = [(verb, status) for verb in Verb for status in MachineStatus]


@pytest.mark.parametrize(("verb", "status"), EVERY)
def test_every_row_of_a_machine_that_is_meant_to_run(verb: Verb, status: MachineStatus) -> None:
    assert is_allowed(verb, status, is_off=False) is (status in ALLOWED[verb])
    if status in ALLOWED[verb]:
        check_allowed(verb, status, is_off=False)
        return
    with pytest.raises(WrongState) as caught:
        check_allowed(verb, status, is_off=False)
    assert caught.value.code == f"vm_{status}"


@pytest.mark.parametrize(("verb", "status"), EVERY)
def test_a_machine_that_is_switched_off_is_not_stopped_twice(verb: Verb, status: MachineStatus) -> None:
    expected = status in ALLOWED[verb] and not (verb is Verb.STOP and status in (S, F))
    assert is_allowed(verb, status, is_off=True) is expected


@pytest.mark.parametrize(
    ("verb", "status", "is_off", "advice"),
    [
        (Verb.START, R, False, "stop or reboot or pause or reset it"),
        (Verb.PAUSE, H, False, "stop or reboot or resume or reset it"),
        (Verb.RESUME, S, True, "start it"),
        (Verb.STOP, S, True, "start it"),
        (Verb.REBOOT, P, False, "wait until it runs, or stop it"),
        (Verb.START, D, False, "it is gone"),
    ],
)
def test_the_refusal_says_what_to_do(verb: Verb, status: MachineStatus, is_off: bool, advice: str) -> None:
    with pytest.raises(WrongState) as caught:
        check_allowed(verb, status, is_off)
    assert str(caught.value) == f"the machine is {status}, so it can't be told to {verb}: {advice}"
