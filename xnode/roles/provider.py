"""The provider: compares its leases with its machines and does the next step for each (protocol section 12).

What the next step is says `core.provision.next_action`; this role only does it. One task a lease at a time; a step that
fails is tried again at a later look, for as long as the table says so.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from xnode.core import price
from xnode.core.attestations import Attestation, lower_median, valid_ones
from xnode.core.blocks import LeaseAccept, LeaseSettle
from xnode.core.faults import CallerFault, Fault, MachineFault, NotFound, OperatorFault, Unavailable, WrongState
from xnode.core.genesis import Genesis
from xnode.core.lease import LeaseRecord, LeaseState, prove_ended, prove_expired
from xnode.core.machine import Machine, MachineSpec, MachineStatus
from xnode.core.provision import DOWN, Action, Situation, is_too_old, is_written_off, next_action
from xnode.core.strikes import NONE, describe, on_asked, on_boot, on_failed_boot, on_restart, on_running
from xnode.core.values import NS, ZERO_HASH, Asset, Hash
from xnode.net.pulse import Pulse
from xnode.roles.admission import Admission
from xnode.roles.attesting import Attesting
from xnode.roles.author import Author, Draft
from xnode.roles.capacity import LEASES_MAX, Capacity
from xnode.roles.confirmation import is_confirmed
from xnode.roles.lease_log import LeaseLog, Stopwatch
from xnode.roles.orphan_book import OrphanBook
from xnode.roles.power_book import PowerBook
from xnode.roles.spares import Spares
from xnode.roles.strike_book import StrikeBook
from xnode.roles.withdrawals import Withdrawals
from xnode.store.store import Store
from xnode.vm.driver import Driver

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 2.0  # seconds between looks when nothing fires
RETRY_AFTER: Final = 3.0  # seconds before a failed step is tried again
BOOT_FAULTS: Final = (MachineFault, OperatorFault, Unavailable, CallerFault)  # told to stop is none of them
Pair = tuple[Hash, LeaseRecord | None, Machine | None]


class Provider:
    """Hosts the machines of the leases that name this node's account."""

    def __init__(
        self,
        store: Store,
        genesis: Genesis,
        author: Author,
        attesting: Attesting,
        driver: Driver,
        capacity: Capacity,
        admission: Admission,
        strikes: StrikeBook,
        orphans: OrphanBook,
        power: PowerBook,
        spares: Spares,
        log: LeaseLog,
        changed: Pulse,
        clock: Callable[[], int],
        on_end: Callable[[Hash], None],
        is_synced: Callable[[], bool],
    ) -> None:
        self._store = store
        self._genesis = genesis
        self._author = author
        self._attesting = attesting
        self._driver = driver
        self._capacity = capacity
        self._admission = admission
        self._strikes = strikes
        self._orphans = orphans
        self._power = power
        self._withdrawals = Withdrawals(store)
        self._spares = spares
        self._log = log
        self._changed = changed
        self._clock = clock
        self._on_end = on_end
        self._is_synced = is_synced
        self.trouble = ""  # why the last look at the machines failed; "" where it did not
        self._refused: dict[Hash, CallerFault] = {}
        self.busy: set[Hash] = set()  # leases that a step or an act is under way for
        self._accepting: set[Hash] = set()
        self._not_before: dict[Hash, float] = {}
        self._faults: dict[Hash, str] = {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Looks, acts, waits; runs for as long as the node. Started once it has counted the machines that are here."""
        await self._take_over()
        async with trio.open_nursery() as nursery:
            await self._look(nursery)
            task_status.started()
            while True:
                await self._changed.wait(LOOK_EVERY)
                await self._look(nursery)

    async def _take_over(self) -> None:
        """Nothing is offered and no machine is changed before the host shows what is there."""
        while True:
            if await self._looks(self._driver.adopt):
                return
            await trio.sleep(RETRY_AFTER)

    async def _looks(self, look: Callable[[], Awaitable[object]]) -> bool:
        """Whether the host lets it look at the machines; `trouble` says why not."""
        try:
            await look()
        except MachineFault as fault:
            self.trouble = f"the machines can't be looked at: {fault}"
            log.warning("%s", self.trouble)
            return False
        self.trouble = ""
        return True

    def withdraw(self, lease_hash: Hash) -> bool:
        """Never accepts this lease from now on, also after a restart; False where it is accepted or about to be."""
        with self._store.snapshot() as view:
            lease = view.lease(lease_hash)
        if lease is None or lease.state is not LeaseState.CREATED or lease_hash in self._accepting:
            return False
        self._withdrawals.add(lease_hash, lease.created_at)
        self._capacity.release(lease_hash)
        return True

    @property
    def orphans(self) -> int:
        """Machines here whose lease the ledger does not know."""
        return len(self._orphans)

    def progress(self, lease_hash: Hash) -> tuple[str, str]:
        """How far a lease is here, for its consumer: (waiting, booting, failed or the machine's state; why)."""
        reason = self._faults.get(lease_hash, "")
        if self._strikes.of(lease_hash).boots > 0:
            return "failed", reason
        machine = self._machine(lease_hash)
        if machine is None:
            return "waiting", reason
        return ("booting" if machine.status is MachineStatus.PROVISIONING else str(machine.status)), reason

    def find(self, lease_hash: Hash) -> LeaseRecord | None:
        """A lease at this provider; None for any other."""
        with self._store.snapshot() as view:
            lease = view.lease(lease_hash)
        return lease if lease is not None and lease.provider == self._author.address else None

    async def boot_as_asked(self, lease: LeaseRecord) -> None:
        """Boots the machine of an accepted lease because its consumer says so, however often it has fallen."""
        self._strikes.update(lease.lease_hash, on_asked)
        self._log.record(lease.lease_hash, "booting", _described(lease))
        await self._bring_up(lease)

    async def _look(self, nursery: trio.Nursery) -> None:
        await self._looks(self._driver.refresh)
        await self._spares.look_at_images()
        pairs = self._pairs()
        self._forget_all_but({lease_hash for lease_hash, _, _ in pairs} | self.busy)
        self._write_off(pairs)
        self._orphans.keep_only({lease_hash for lease_hash, lease, _ in pairs if lease is None})
        for lease_hash, lease, machine in pairs:
            if lease_hash in self.busy or trio.current_time() < self._not_before.get(lease_hash, 0):
                continue
            situation = self._situation(lease, machine)
            action = next_action(situation)
            self._note_down(situation, action)
            if action is not Action.NOTHING:
                self.busy.add(lease_hash)
                nursery.start_soon(
                    self._step, action, lease_hash, lease, name=f"lease {lease_hash.hex()[:12]} {action}"
                )

        if self._spares.is_used:
            self._act_on_spares(nursery, pairs)

    def _act_on_spares(self, nursery: trio.Nursery, pairs: list[Pair]) -> None:
        waiting = {lease_hash for lease_hash, lease, _ in pairs if lease and lease.state is LeaseState.CREATED}
        is_closed = bool(self._admission.closed(self._clock()))
        self._spares.act(nursery, waiting | self.busy, is_calm=not self.busy, is_closed=is_closed)

    def _forget_all_but(self, current: set[Hash]) -> None:
        """A lease that ended without a machine, as a declined one does, is not met again."""
        self._capacity.keep_only(current)
        self._strikes.keep_only(current)
        self._power.keep_only(current)
        self._withdrawals.forget_old(self._clock())
        for memory in (self._refused, self._not_before, self._faults):
            for lease_hash in memory.keys() - current:
                del memory[lease_hash]

    def _write_off(self, pairs: list[Pair]) -> None:
        """Leases that only their consumer can end now, and may never end, hold no capacity."""
        now, grace = self._clock(), self._genesis.timing.settle_grace
        self._capacity.write_off(
            lease_hash for lease_hash, lease, machine in pairs if lease and is_written_off(lease, machine, now, grace)
        )

    def _pairs(self) -> list[Pair]:
        """Every lease that has a machine here, is accepted or may be accepted yet, with that machine."""
        ours = (machine for machine in self._driver.machines() if not self._spares.owns(machine))
        machines = {machine.spec.lease_hash: machine for machine in ours}
        live = self._capacity.leases(LeaseState.ACCEPTED) + self._capacity.waiting(self._clock())
        leases = {lease.lease_hash: lease for lease in live}
        with self._store.snapshot() as view:
            for lease_hash in machines.keys() - leases.keys():
                known = view.lease(lease_hash)
                if known is not None:
                    leases[lease_hash] = known
        hashes = sorted(machines.keys() | leases.keys())
        return [(item, leases.get(item), machines.get(item)) for item in hashes[: 2 * LEASES_MAX]]

    def _situation(self, lease: LeaseRecord | None, machine: Machine | None) -> Situation:
        now = self._clock()
        grace = self._genesis.timing.settle_grace
        if lease is None:
            is_over = machine is not None and self._is_orphaned(machine, now)
            return Situation(None, machine, now, grace, False, False, NONE, False, is_over)
        with self._store.snapshot() as view:
            confirmed = is_confirmed(view, lease.moved_by)
        withdrawn = self._withdrawals.has(lease.lease_hash)
        strikes = self._strikes.of(lease.lease_hash)
        if strikes != NONE and machine is not None and machine.status is MachineStatus.RUNNING:
            strikes = self._strikes.update(lease.lease_hash, lambda item: on_running(item, machine.state_since, now))
        room = confirmed and strikes.boots == 0 and not withdrawn and self._has_room(lease, machine, now)
        is_off = self._power.is_off(lease.lease_hash)
        return Situation(lease, machine, now, grace, confirmed, room, strikes, withdrawn, False, is_off)

    def _is_orphaned(self, machine: Machine, now: int) -> bool:
        return self._orphans.look(machine.spec.lease_hash, now, is_synced=self._is_synced())

    def _has_room(self, lease: LeaseRecord, machine: Machine | None, now: int) -> bool:
        if lease.state is not LeaseState.CREATED or is_too_old(lease, now):
            return False
        if machine is not None:
            self._capacity.count_in(lease)
            return True
        refused = self._admission.of_lease(lease, now)
        if refused is not None:
            self._refused[lease.lease_hash] = refused
        return refused is None and self._capacity.admit(lease, now)

    def _note_down(self, situation: Situation, action: Action) -> None:
        """An accepted lease whose machine is down and stays down says so, once."""
        lease, machine = situation.lease, situation.machine
        if lease is None or lease.state is not LeaseState.ACCEPTED or action is not Action.NOTHING:
            return
        if machine is None:
            self._log.record(lease.lease_hash, "machine_lost", "there is no such machine on this host any more")
        elif machine.status in DOWN and not situation.is_off:
            self._log.record(lease.lease_hash, "given_up", describe(situation.strikes))

    async def _step(self, action: Action, lease_hash: Hash, lease: LeaseRecord | None) -> None:
        try:
            if lease is None:
                await (self._remove_orphan if action is Action.REMOVE else self._stop_orphan)(lease_hash)
            else:
                await self._steps[action](self, lease)
            self._faults.pop(lease_hash, None)
        except Fault as fault:
            self._faults[lease_hash] = str(fault)
            self._not_before[lease_hash] = trio.current_time() + RETRY_AFTER
            self._log.record(lease_hash, f"{action}_failed", f"{fault.code}: {fault}")
        finally:
            self.busy.discard(lease_hash)
            self._changed.fire()

    async def _boot(self, lease: LeaseRecord) -> None:
        if lease.state is LeaseState.ACCEPTED:
            self._strikes.update(lease.lease_hash, on_restart)
        else:
            self._log.record(lease.lease_hash, "admitted", duration_ms=_ms_since(lease.created_at, self._clock()))
        self._log.record(lease.lease_hash, "booting", _described(lease))
        await self._bring_up(lease)

    async def _bring_up(self, lease: LeaseRecord) -> None:
        """Each step of it with its time."""
        watch = self._log.stopwatch(lease.lease_hash)
        try:
            await self._make(lease, watch)
            await self._driver.start(lease.lease_hash, watch.step)
        except BOOT_FAULTS as fault:
            code, self._faults[lease.lease_hash] = fault.code, str(fault)  # before anybody sees the strike
            self._strikes.update(lease.lease_hash, lambda item: on_failed_boot(item, code))
            await self._give_up(lease)
            raise
        self._strikes.update(lease.lease_hash, on_boot)
        self._faults.pop(lease.lease_hash, None)
        watch.step("ssh_answered")
        watch.whole("machine_ready", "it answers on SSH")

    async def _make(self, lease: LeaseRecord, watch: Stopwatch) -> None:
        """The machine, one of the pool or a new one; it does not run yet."""
        spec = self._spec(lease)
        if self._machine(lease.lease_hash) is None:
            if await self._spares.give(spec):
                watch.step("from_pool", "a machine that runs already becomes this lease's")
                return
            await self._spares.make_room(lease.resources)
        await self._driver.create(spec)
        watch.step("disk_made")

    def _spec(self, lease: LeaseRecord) -> MachineSpec:
        """What its machine was made to, or is to be made to."""
        machine = self._machine(lease.lease_hash)
        if machine is not None:
            return machine.spec
        image = self._capacity.image_of(lease.lease_hash)
        return MachineSpec(lease.lease_hash, *lease.resources, lease.access_pub_key, image)

    def _machine(self, lease_hash: Hash) -> Machine | None:
        return next((item for item in self._driver.machines() if item.spec.lease_hash == lease_hash), None)

    async def _give_up(self, lease: LeaseRecord) -> None:
        """A boot that failed frees what it held."""
        if lease.state is LeaseState.CREATED:
            self._capacity.release(lease.lease_hash)
        try:
            await self._driver.stop(lease.lease_hash)
        except NotFound:
            return  # it failed before there was anything to stop

    async def _decline(self, lease: LeaseRecord) -> None:
        refused = self._refused.pop(lease.lease_hash, CallerFault("no_capacity", "this provider has no room left"))
        self._strikes.update(lease.lease_hash, lambda item: on_failed_boot(item, refused.code))
        self._capacity.release(lease.lease_hash)
        raise refused

    async def _accept(self, lease: LeaseRecord) -> None:
        machine = self._machine(lease.lease_hash)
        assert machine is not None, "only a running machine's lease is accepted"
        watch = self._log.stopwatch(lease.lease_hash)
        await self._author.be_in_step()
        await self._author.prepare()  # once it has said that it accepts, nothing may take long
        attestations = await self._attesting.quorum(lease.lease_hash)
        watch.step("attested", f"by {len(attestations)} timekeepers")
        if is_too_old(lease, self._clock()) or self._withdrawals.has(lease.lease_hash):
            raise WrongState("withdrawn", "its consumer does not wait for this lease any more")
        self._accepting.add(lease.lease_hash)
        try:
            body = LeaseAccept(lease.lease_hash, lease.stake, ZERO_HASH, machine.host_key, attestations)
            await self._author.append(Draft(Asset.XUSD, -lease.stake, body))
        finally:
            self._accepting.discard(lease.lease_hash)
        self._capacity.release(lease.lease_hash)  # from now on the ledger counts it
        watch.step("accepted", f"stake {lease.stake} XUSD")

    async def _settle(self, lease: LeaseRecord) -> None:
        attestations = await self._attesting.quorum(lease.lease_hash)
        if self._median(attestations, lease) < lease.expiry:
            raise Unavailable("too_early", "the timekeepers say that the lease has not expired yet", retryable=True)
        reward = price.reward(lease.cost)
        await self._author.append(Draft(Asset.XE, reward, LeaseSettle(lease.lease_hash, reward, attestations)))
        self._log.record(lease.lease_hash, "settled", f"{reward} XE minted")

    async def _expire(self, lease: LeaseRecord) -> None:
        attested = self._median(await self._attesting.quorum(lease.lease_hash), lease)
        self._on_end(lease.lease_hash)
        await self._driver.destroy(lease.lease_hash, prove_expired(lease, attested, self._genesis.timing.settle_grace))
        self._log.record(lease.lease_hash, "destroyed", "expired without being settled")

    async def _destroy(self, lease: LeaseRecord) -> None:
        with self._store.snapshot() as view:
            proof = prove_ended(lease, is_confirmed(view, lease.end_hash))
        self._capacity.release(lease.lease_hash)
        self._on_end(lease.lease_hash)
        await self._driver.destroy(lease.lease_hash, proof)
        self._log.record(lease.lease_hash, "destroyed", f"the lease is {lease.state}")

    async def _stop(self, lease: LeaseRecord) -> None:
        self._capacity.release(lease.lease_hash)
        await self._driver.stop(lease.lease_hash)
        self._log.record(lease.lease_hash, "stopped", "its consumer does not wait for it any more")

    async def _power_off(self, lease: LeaseRecord) -> None:
        await self._driver.stop(lease.lease_hash)
        self._log.record(lease.lease_hash, "switched_off", "as its consumer had asked before")

    async def _stop_orphan(self, lease_hash: Hash) -> None:
        self._log.record(lease_hash, "orphan_stopped", "the ledger does not know its lease; it is kept for a grace")
        await self._driver.stop(lease_hash)

    async def _remove_orphan(self, lease_hash: Hash) -> None:
        with self._store.snapshot() as view:  # it may have come since the look
            lease = view.lease(lease_hash)
        proof = self._orphans.prove(lease_hash, lease, is_synced=self._is_synced())
        await self._driver.destroy(lease_hash, proof)
        self._log.record(lease_hash, "orphan_removed", f"its lease was unknown for {proof.unknown_for // NS} s")

    def _median(self, attestations: tuple[Attestation, ...], lease: LeaseRecord) -> int:
        valid = valid_ones(attestations, lease.lease_hash, self._store.charter_at(self._clock()).timekeepers.keys)
        return lower_median([item.timestamp for item in valid])

    _steps: Final[dict[Action, Callable[["Provider", LeaseRecord], Awaitable[None]]]] = {
        Action.BOOT: _boot,
        Action.DECLINE: _decline,
        Action.ACCEPT: _accept,
        Action.SETTLE: _settle,
        Action.EXPIRE: _expire,
        Action.DESTROY: _destroy,
        Action.STOP: _stop,
        Action.POWER_OFF: _power_off,
    }


def _ms_since(at: int, now: int) -> int:
    """Times in ns, by clocks of two nodes: 0 where that comes out negative."""
    return max(0, now - at) * 1000 // NS


def _described(lease: LeaseRecord) -> str:
    vcpus, memory_mb, disk_gb = lease.resources
    return f"{vcpus} vCPU, {memory_mb} MB memory, {disk_gb} GB disk"
