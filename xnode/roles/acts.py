"""What consumers do to the machines of this host: one act a machine at a time, kept out of the reconciler's way.

An act goes on to its end whoever waits for it, since a machine must not be left half way when its consumer hangs up.
A stop writes its wish first and may end a boot, whoever has begun it; all others are refused while somebody is at work
on the machine. What an act leaves undone because the node died, the reconciler finds (core/provision.py).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import trio

from xnode.core.faults import Ended, Fault, NotFound, Unavailable, WrongState
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.machine import Machine, MachineStatus
from xnode.core.machine_calls import Done
from xnode.core.power import Verb, check_allowed
from xnode.core.values import Hash
from xnode.roles.lease_log import LeaseLog
from xnode.roles.power_book import PowerBook
from xnode.vm.driver import Driver

REMEMBERED_MAX: Final = 1_000  # last acts of so many leases
STATUS_AFTER: Final = {Verb.STOP: MachineStatus.STOPPED, Verb.PAUSE: MachineStatus.PAUSED}  # else it runs
BOOTING: Final = (Verb.START, Verb.REBOOT, Verb.RESET)
ENDING: Final = frozenset((Verb.STOP, verb) for verb in BOOTING)  # a stop need not wait for these
SAYS: Final = {
    Verb.STOP: "switched off by its consumer; it stays off until it is told to start",
    Verb.START: "switched on by its consumer",
    Verb.REBOOT: "rebooted by its consumer",
    Verb.RESET: "reset by its consumer",
    Verb.PAUSE: "paused by its consumer",
    Verb.RESUME: "resumed by its consumer",
}


class Act:
    """One act; `fault` counts once it is over."""

    def __init__(self, verb: Verb, number: int) -> None:
        self.verb = verb
        self.number = number
        self.over = trio.Event()
        self.fault: Fault | None = Unavailable("node_stopping", "the provider's node stopped meanwhile; look again")
        self.done: Done | None = None

    def result(self) -> Done:
        """Raises the fault that ended it."""
        if self.fault is not None:
            raise self.fault
        assert self.done is not None
        return self.done


class Acts:
    """Made with its provider: `find` gives a lease that is ours, `boot` brings its machine up."""

    def __init__(
        self,
        driver: Driver,
        power: PowerBook,
        log: LeaseLog,
        clock: Callable[[], int],
        find: Callable[[Hash], LeaseRecord | None],
        boot: Callable[[LeaseRecord], Awaitable[None]],
        busy: set[Hash],
        changed: Callable[[], None],
    ) -> None:
        self._driver = driver
        self._power = power
        self._log = log
        self._clock = clock
        self._find = find
        self._boot = boot
        self._busy = busy
        self._changed = changed
        self._last: dict[Hash, Act] = {}
        self._nursery: trio.Nursery | None = None
        self._verbs: Mapping[Verb, Callable[[LeaseRecord], Awaitable[object]]] = {
            Verb.STOP: lambda lease: driver.stop(lease.lease_hash),
            Verb.START: boot,
            Verb.REBOOT: lambda lease: driver.reboot(lease.lease_hash, log.stopwatch(lease.lease_hash).step),
            Verb.RESET: lambda lease: driver.reset(lease.lease_hash, log.stopwatch(lease.lease_hash).step),
            Verb.PAUSE: lambda lease: driver.pause(lease.lease_hash),
            Verb.RESUME: lambda lease: driver.resume(lease.lease_hash),
        }

    async def run(self) -> None:
        """Carries the acts; runs for as long as the node."""
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    def begin(self, lease_hash: Hash, verb: Verb, number: int) -> Act:
        """Starts an act, which `number` names; raises NotFound, Ended, WrongState, Unavailable."""
        lease, machine = self.hosted(lease_hash)
        current = self._last.get(lease_hash)
        if current is not None and not current.over.is_set() and (verb, current.verb) not in ENDING:
            raise WrongState("vm_busy", f"the machine is told to {current.verb} already: wait for that", retryable=True)
        check_allowed(verb, machine.status, self._power.is_off(lease_hash))
        if lease_hash in self._busy and verb is not Verb.STOP:
            raise WrongState("vm_busy", "its provider is at work on the machine: try again soon", retryable=True)
        if self._nursery is None:
            raise Unavailable("not_ready", "this node has just started; try again soon", retryable=True)
        if verb in (Verb.STOP, Verb.START):
            self._power.switch(lease_hash, is_off=verb is Verb.STOP)
        act = self._last[lease_hash] = Act(verb, number)
        self._forget()
        self._busy.add(lease_hash)
        self._nursery.start_soon(self._do, lease, act, name=f"lease {lease_hash.hex()[:12]} {verb}")
        return act

    def find(self, lease_hash: Hash, number: int) -> Act:
        """The last act upon a machine; raises NotFound where it was another one."""
        act = self._last.get(lease_hash)
        if act is None or act.number != number:
            raise NotFound("act_unknown", "nothing is known of that act any more: look at the machine")
        return act

    def hosted(self, lease_hash: Hash) -> tuple[LeaseRecord, Machine]:
        """A lease of ours that runs, and its machine; raises NotFound, Ended, WrongState."""
        lease = self._find(lease_hash)
        machine = next((item for item in self._driver.machines() if item.spec.lease_hash == lease_hash), None)
        if lease is None or (machine is None and lease.state is not LeaseState.CREATED):
            raise NotFound("vm_unknown", "this node has no machine for that lease")
        if lease.state is LeaseState.CREATED or machine is None:
            raise WrongState("lease_created", "the lease is not accepted yet: wait for its machine")
        if lease.is_final or self._clock() >= lease.expiry:
            raise Ended("lease_ended", "the lease's time is over")
        return lease, machine

    async def _do(self, lease: LeaseRecord, act: Act) -> None:
        lease_hash, watch = lease.lease_hash, self._log.stopwatch(lease.lease_hash)
        try:
            await self._verbs[act.verb](lease)
        except Fault as fault:
            act.fault = fault
            self._log.record(lease_hash, f"{act.verb}_failed", f"{fault.code}: {fault}")
        else:
            duration_ms = watch.step(f"consumer_{act.verb}", SAYS[act.verb])
            status = STATUS_AFTER.get(act.verb, MachineStatus.RUNNING)
            act.fault, act.done = None, Done(status, duration_ms)
        finally:
            self._busy.discard(lease_hash)
            act.over.set()
            self._changed()

    def _forget(self) -> None:
        over = [lease_hash for lease_hash, act in self._last.items() if act.over.is_set()]
        for lease_hash in over[: max(0, len(self._last) - REMEMBERED_MAX)]:
            del self._last[lease_hash]
