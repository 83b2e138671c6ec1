"""What its consumer may do to a machine: (verb, state) -> yes, or why not (http-api: VM life cycle).

Theory of operation. A machine is meant to run for as long as its lease, unless its consumer has switched it off. That
wish is the only thing remembered, and it is written before anything is done, so whoever dies in the middle finds out
from wish and machine what is left to do (provision.py). A pause is no wish: a paused machine whose QEMU dies has lost
what it held, and is booted like any other. A stop holds off the boots of a machine that has fallen; a start is one
boot more for one that had been given up.

    verb     from                                        leads to   wish
    stop     running, paused, provisioning, failed;      stopped    off
             stopped, unless its consumer stopped it
    start    stopped, failed                             running    on
    reboot   running, paused                             running    -
    reset    running, paused                             running    -
    pause    running                                     paused     -
    resume   paused                                      running    -
"""

from enum import StrEnum
from typing import Final

from xnode.core.faults import WrongState
from xnode.core.machine import MachineStatus


class Verb(StrEnum):
    """What a consumer may tell its machine."""

    STOP = "stop"
    START = "start"
    REBOOT = "reboot"
    PAUSE = "pause"
    RESUME = "resume"
    RESET = "reset"


_UP: Final = frozenset({MachineStatus.RUNNING, MachineStatus.PAUSED})
_DOWN: Final = frozenset({MachineStatus.STOPPED, MachineStatus.FAILED})
FROM: Final = {
    Verb.STOP: _UP | _DOWN | {MachineStatus.PROVISIONING},
    Verb.START: _DOWN,
    Verb.REBOOT: _UP,
    Verb.RESET: _UP,
    Verb.PAUSE: frozenset({MachineStatus.RUNNING}),
    Verb.RESUME: frozenset({MachineStatus.PAUSED}),
}


def is_allowed(verb: Verb, status: MachineStatus, is_off: bool) -> bool:
    """Whether the table has this row; `is_off`: its consumer has switched it off."""
    return status in FROM[verb] and not (verb is Verb.STOP and is_off and status in _DOWN)


def check_allowed(verb: Verb, status: MachineStatus, is_off: bool) -> None:
    """Raises WrongState(vm_running, vm_stopped, ...) that says what may be done instead."""
    if is_allowed(verb, status, is_off):
        return
    others = [str(other) for other in Verb if is_allowed(other, status, is_off)]
    waits = "wait until it runs, or " if status is MachineStatus.PROVISIONING else ""
    instead = f"{waits}{' or '.join(others)} it" if others else "it is gone"
    raise WrongState(f"vm_{status}", f"the machine is {status}, so it can't be told to {verb}: {instead}")
