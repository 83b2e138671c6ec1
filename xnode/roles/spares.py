"""The provider's pool: boots machines before anybody leases them, hands them out, clears them away (core/pool.py).

What the next steps are says `core.pool.next_steps`; this role does them, one task each, and writes the notes before.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import trio

from xnode.core.admission import room_left
from xnode.core.faults import Fault, OperatorFault
from xnode.core.lease import Resources
from xnode.core.machine import NOBODY, Machine, MachineSpec
from xnode.core.pool import (
    SPARES_MAX,
    Act,
    Flavour,
    Pool,
    Spare,
    Step,
    Want,
    choose,
    next_eviction,
    next_steps,
    pack,
    prove_never_leased,
    retry_after,
    unpack,
)
from xnode.core.values import HASH_BYTES, ZERO_HASH, Hash
from xnode.net.pulse import Pulse
from xnode.roles.capacity import Capacity
from xnode.store.store import Store
from xnode.vm.driver import Driver

log = logging.getLogger(__name__)

SPACE: Final = "pool"  # note space: spare id -> the lease that it was given to, or zeros, and its flavour
NOTES_MAX: Final = 10 * SPARES_MAX  # read at the start
RETRY_AFTER: Final = 3.0  # seconds before a failed step is tried again
CUT_SHORT: Final = frozenset({"machine_stopped", "machine_not_found"})  # a boot that was given up for a lease


class Spares:
    """Machines of the pool by their ids; `wants` are the operator's."""

    def __init__(
        self,
        store: Store,
        driver: Driver,
        capacity: Capacity,
        wants: tuple[Want, ...],
        default_image: str,
        changed: Pulse,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._driver = driver
        self._capacity = capacity
        self._wants = wants
        self._default_image = default_image
        self._changed = changed
        self._clock = clock
        self._random = random
        with store.snapshot() as view:
            self._notes = dict(_readable(view.notes(SPACE, NOTES_MAX)))
        self._images: dict[str, str] = {}
        self._spoilt: set[Hash] = set()
        self._busy: set[Hash] = set()
        self._fixed: set[Hash] = set()  # of them those that nobody may discard now
        self._failures = 0
        self._not_before = 0.0

    @property
    def is_used(self) -> bool:
        """Whether there is or shall be anything in it."""
        return bool(self._wants or self._notes)

    def owns(self, machine: Machine) -> bool:
        """Whether it is a spare of ours, and so no lease's."""
        return machine.spec.is_spare and machine.spec.lease_hash in self._notes

    def count(self) -> tuple[int, int]:
        """How many are ready, and how many are wanted."""
        return sum(item.is_ready for item in self._spares()), sum(want.number for want in self._wants)

    async def look_at_images(self) -> None:
        """Learns what the images of the pool are now: spares of older ones are replaced."""
        names = {want.flavour.image for want in self._wants} | {flavour.image for flavour, _ in self._notes.values()}
        found = {}
        for name in names:
            with suppress(Fault):  # there is no such image, or not now
                found[name] = await self._driver.full_image(name)
        self._images = found

    def act(self, nursery: trio.Nursery, waiting: Collection[Hash], *, is_calm: bool, is_closed: bool) -> None:
        """Starts whatever is to be done; `waiting` are leases that may yet take the spare they were given."""
        now = self._clock()
        made = {machine.spec.lease_hash for machine in self._driver.machines()}
        pool = Pool(
            spares=self._spares(),
            wants=() if is_closed else tuple(want for want in self._wants if want.flavour.image in self._images),
            busy=frozenset(self._busy),
            waiting=frozenset(waiting),
            free=self._capacity.available(now),
            room=room_left(self._driver.room_beside_spares, self._capacity.pending(now, made)),
            is_calm=is_calm and trio.current_time() >= self._not_before,
        )
        for step in next_steps(pool):
            named = step._replace(spare_id=Hash(self._random(HASH_BYTES))) if step.act is Act.MAKE else step
            self._busy.add(named.spare_id)
            nursery.start_soon(self._step, named, name=f"spare {named.spare_id.hex()[:12]} {step.act}")

    async def give(self, spec: MachineSpec) -> bool:
        """Whether the machine of this lease is one of ours now; `start` makes it run."""
        spare = self._given(spec.lease_hash) or self._choose(spec)
        if spare is None or spare in self._busy:
            return False
        with self._holding(spare):
            self._write(spare, self._notes[spare][0], spec.lease_hash)
            try:
                await self._driver.take(spare, spec)
            except Fault as fault:
                log.warning("lease %s gets no machine of the pool: %s", spec.lease_hash.hex(), fault)
                self._spoilt.add(spare)
                self._take_back(spare)
                return False
            self._forget(spare)
        return True

    async def make_room(self, wanted: Resources) -> None:
        """Clears away spares until a machine of this size, whose lease is counted already, fits beside the others."""
        while True:
            room = self._driver.room_beside_spares
            spare = next_eviction(self._spares(), self._fixed, wanted, self._capacity.unleased(), room)
            if spare is None:
                return
            with self._holding(spare):
                log.info("spare %s goes, for a lease has no room beside it", spare.hex()[:12])
                await self._discard(spare)
                await self._driver.refresh()

    def _spares(self) -> tuple[Spare, ...]:
        machines = {machine.spec.lease_hash: machine for machine in self._driver.machines() if machine.spec.is_spare}
        return tuple(
            Spare(spare, flavour, leased_to, machines.get(spare), self._is_sound(spare, flavour, machines.get(spare)))
            for spare, (flavour, leased_to) in self._notes.items()
        )

    def _is_sound(self, spare: Hash, flavour: Flavour, machine: Machine | None) -> bool:
        is_current = machine is not None and machine.image == self._images.get(flavour.image)
        return is_current and spare not in self._spoilt

    def _given(self, lease_hash: Hash) -> Hash | None:
        return next((spare for spare, (_, leased_to) in self._notes.items() if leased_to == lease_hash), None)

    def _choose(self, spec: MachineSpec) -> Hash | None:
        resources = Resources(spec.vcpus, spec.memory_mb, spec.disk_gb)
        return choose(self._spares(), self._busy, Flavour(spec.image or self._default_image, resources))

    async def _step(self, step: Step) -> None:
        try:
            await self._acts[step.act](self, step)
        except Fault as fault:
            log.warning("spare %s: %s failed: %s: %s", step.spare_id.hex()[:12], step.act, fault.code, fault)
            if step.act in (Act.MAKE, Act.BOOT) and fault.code not in CUT_SHORT:
                self._failures += 1
                self._not_before = trio.current_time() + retry_after(self._failures)
            await trio.sleep(RETRY_AFTER)
        finally:
            self._busy.discard(step.spare_id)
            self._changed.fire()

    async def _make(self, step: Step) -> None:
        self._write(step.spare_id, step.flavour, ZERO_HASH)
        spec = MachineSpec(step.spare_id, *step.flavour.resources, NOBODY, step.flavour.image)
        with self._holding(step.spare_id):
            await self._driver.create(spec)
        await self._boot(step)

    async def _boot(self, step: Step) -> None:
        await self._driver.start(step.spare_id)
        self._failures = 0
        log.info("spare %s stands ready", step.spare_id.hex()[:12])

    async def _clear(self, step: Step) -> None:
        with self._holding(step.spare_id):
            await self._discard(step.spare_id)

    async def _discard(self, spare: Hash) -> None:
        machine = next((item for item in self._driver.machines() if item.spec.lease_hash == spare), None)
        with self._store.snapshot() as view:
            value = view.note(SPACE, spare)
        proof = prove_never_leased(spare, None if value is None else unpack(value)[1], machine)
        await self._driver.destroy(spare, proof)
        self._forget(spare)

    async def _return(self, step: Step) -> None:
        await trio.lowlevel.checkpoint()
        self._take_back(step.spare_id)

    async def _drop(self, step: Step) -> None:
        await trio.lowlevel.checkpoint()
        self._forget(step.spare_id)

    def _take_back(self, spare: Hash) -> None:
        """It is nobody's after all: the driver says that no consumer's key has been in it."""
        if any(item.spec.lease_hash == spare and item.spec.is_spare for item in self._driver.machines()):
            self._write(spare, self._notes[spare][0], ZERO_HASH)

    @contextmanager
    def _holding(self, spare: Hash) -> Iterator[None]:
        """Nobody else hands it out or discards it meanwhile."""
        was_busy = spare in self._busy
        self._busy.add(spare)
        self._fixed.add(spare)
        try:
            yield
        finally:
            self._fixed.discard(spare)
            if not was_busy:
                self._busy.discard(spare)

    def _write(self, spare: Hash, flavour: Flavour, leased_to: Hash) -> None:
        with self._store.transaction() as transaction:
            transaction.put_note(SPACE, spare, pack(flavour, leased_to))
            transaction.commit()
        self._notes[spare] = (flavour, leased_to)

    def _forget(self, spare: Hash) -> None:
        with self._store.transaction() as transaction:
            transaction.delete_note(SPACE, spare)
            transaction.commit()
        self._notes.pop(spare, None)
        self._spoilt.discard(spare)

    _acts: Final[dict[Act, Callable[["Spares", Step], Awaitable[None]]]] = {
        Act.MAKE: _make,
        Act.BOOT: _boot,
        Act.DISCARD: _clear,
        Act.RETURN: _return,
        Act.FORGET: _drop,
    }


def _readable(notes: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[Hash, tuple[Flavour, Hash]]]:
    """Those of a form that this version writes; the machine of another is an orphan."""
    for key, value in notes:
        with suppress(OperatorFault):
            yield Hash(key), unpack(value)
