"""The verbs of the port as the drivers of real machines share them.

Theory of operation. `machine.json` says what a machine is; the host says whether it runs. Whoever changes a machine
holds its lock; stopping and destroying interrupt a boot. A machine outlives the node: the next run finds it again. Its
files go only against the proof that its lease is over. What differs from driver to driver is in the abstract methods
at the end: they run under the machine's lock.
"""

import contextlib
import logging
from abc import abstractmethod
from pathlib import Path

import trio

from xnode.core.admission import host_shortage
from xnode.core.faults import Fault, MachineFault, NotAllowed, Unavailable, WrongState
from xnode.core.lease import Resources
from xnode.core.machine import ConsolePart, ExecResult, Machine, MachineFigures, MachineSpec, MachineStatus
from xnode.core.orphan import Proof
from xnode.core.pool import SpareProof
from xnode.core.provision import DOWN
from xnode.core.values import Hash
from xnode.vm import console, guest_figures, host_room, machine_files, qmp, shell, state
from xnode.vm.driver import Tell, no_pool, nobody
from xnode.vm.guest_figures import GuestFigures
from xnode.vm.host_fault import host_failed, tells_host_failed
from xnode.vm.host_figures import HostFigures
from xnode.vm.host_room import Tenant
from xnode.vm.limits import CONSOLE_FOLLOW_SECONDS, CONSOLE_PATIENCE_SECONDS_MAX, FIGURES_SECONDS, RESUME_FREE_BYTES
from xnode.vm.machine_keeper import UP, Entry, MachineKeeper
from xnode.vm.net_namespace import dial
from xnode.vm.state import Record

LOG = logging.getLogger(__name__)


class LocalDriver(MachineKeeper):
    """The verbs of the port, by what the real drivers differ in."""

    @tells_host_failed
    async def create(self, spec: MachineSpec) -> Machine:
        async with self._creating:
            entry = self._entries.get(spec.lease_hash)
            if entry is None:
                self._check_new(spec)
                entry = Entry(await self._make(spec))
                self._entries[spec.lease_hash] = entry
            elif entry.record.spec != spec:
                raise WrongState("machine_differs", "this lease's machine was made to another specification")
            return self._machine(entry)

    def _check_new(self, spec: MachineSpec) -> None:
        if spec.is_spare and not self.has_pool:
            raise no_pool(self.name)
        if len(self._entries) >= self._host_limits.machines_max:
            message = f"this node keeps at most {self._host_limits.machines_max} machines at once"
            raise Unavailable("machines_full", message, retryable=True)
        directory = machine_files.directory_of(self._root, spec.lease_hash)
        if directory.exists():
            raise MachineFault("machine_record_damaged", f"{directory} is there, but was not readable at the start")

    @tells_host_failed
    async def start(self, lease_hash: Hash, tell: Tell = nobody) -> Machine:
        async with self._changing(lease_hash) as entry:
            return await self._boot(entry, tell)

    async def _boot(self, entry: Entry, tell: Tell) -> Machine:
        with trio.CancelScope() as entry.boot:
            try:
                await self._bring_up(entry, tell)
            except MachineFault as fault:
                _log_evidence(entry.lease_hash, fault)
                await self._give_up(entry, str(fault))
                raise
            except OSError as error:
                failed = host_failed(error)
                await self._give_up(entry, str(failed))
                raise failed from error
        interrupted, entry.boot = entry.boot.cancelled_caught, None
        if interrupted:
            raise WrongState("machine_stopped", "the machine was told to stop while it booted")
        return self._machine(entry)

    async def _give_up(self, entry: Entry, reason: str) -> None:
        with trio.CancelScope(shield=True):
            await self._power_off(entry.lease_hash, gently=False)
            await self._move(entry, MachineStatus.FAILED, reason)

    @tells_host_failed
    async def stop(self, lease_hash: Hash) -> Machine:
        self._interrupt_boot(lease_hash)
        async with self._changing(lease_hash) as entry:
            up = entry.record.status in UP  # one that never came up has nobody who would hear the power button
            ended = await self._end(entry, gently=up)
            if ended or entry.record.status not in DOWN:  # also one that was never started
                await self._move(entry, MachineStatus.STOPPED, "stopped by this node")
            return self._machine(entry)

    async def _end(self, entry: Entry, *, gently: bool) -> bool:
        await self._close_shell(entry)
        if gently and entry.record.status is MachineStatus.PAUSED:
            with contextlib.suppress(MachineFault):  # it is ended in another way
                await self._unpause(entry)  # or it could not hear that it is to shut down
        return await self._power_off(entry.lease_hash, gently)

    @tells_host_failed
    async def reboot(self, lease_hash: Hash, tell: Tell = nobody) -> Machine:
        return await self._restart(lease_hash, tell, gently=True)

    @tells_host_failed
    async def reset(self, lease_hash: Hash, tell: Tell = nobody) -> Machine:
        return await self._restart(lease_hash, tell, gently=False)

    async def _restart(self, lease_hash: Hash, tell: Tell, *, gently: bool) -> Machine:
        async with self._changing_up(lease_hash) as entry:
            await self._end(entry, gently=gently)
            await self._move(entry, MachineStatus.PROVISIONING, "restarted by this node")
            return await self._boot(entry, tell)

    @tells_host_failed
    async def pause(self, lease_hash: Hash) -> Machine:
        async with self._changing_up(lease_hash) as entry:
            if entry.record.status is MachineStatus.RUNNING:
                await self._pause(entry)
                await self._move(entry, MachineStatus.PAUSED, "paused by this node")
            return self._machine(entry)

    @tells_host_failed
    async def resume(self, lease_hash: Hash) -> Machine:
        async with self._changing_up(lease_hash) as entry:
            if entry.record.status is MachineStatus.PAUSED:
                await self._unpause(entry)
                await self._move(entry, MachineStatus.RUNNING)
            return self._machine(entry)

    @tells_host_failed
    async def destroy(self, lease_hash: Hash, proof: Proof) -> None:
        if proof.lease_hash != lease_hash:
            raise NotAllowed("wrong_proof", "the proof is of another lease's end, so this machine stays")
        self._check_proof(lease_hash, proof)
        self._interrupt_boot(lease_hash)
        async with self._creating, contextlib.AsyncExitStack() as stack:
            entry = self._entries.get(lease_hash)
            if entry is not None:
                await stack.enter_async_context(entry.lock)
                await self._close_shell(entry)
            self._check_proof(lease_hash, proof)  # it may have been leased while we waited
            await self._power_off(lease_hash, gently=False)
            await self._remove(lease_hash)
            self._entries.pop(lease_hash, None)

    def _check_proof(self, lease_hash: Hash, proof: Proof) -> None:
        records = [entry.record for entry in self._entries.values()]
        meant = [record for record in records if lease_hash in (record.born, record.spec.lease_hash)]
        if isinstance(proof, SpareProof) and any(not record.spec.is_spare for record in meant):
            raise NotAllowed("not_a_spare", "the proof says that nobody leased it, but somebody has: it stays")

    @tells_host_failed
    async def execute(self, lease_hash: Hash, command: str, timeout: float) -> ExecResult:
        shell.check_command(command, timeout)
        entry = self._running(lease_hash)
        async with entry.shell_lock:
            if entry.shell is None or not entry.shell.is_open:
                address = await self._address(entry, entry.record.ssh_port)
                entry.shell = await self._thread.run(shell.connect, address)
        return await self._thread.run(entry.shell.execute, command, timeout)

    async def dial_ssh(self, lease_hash: Hash) -> trio.SocketStream:
        entry = self._running(lease_hash)
        try:
            sock = await trio.to_thread.run_sync(dial, entry.record.ssh_port, entry.inside)
        except OSError as error:
            raise shell.unreachable(error) from error
        return trio.SocketStream(trio.socket.from_stdlib_socket(sock))

    async def console(self, lease_hash: Hash, position: int, patience: float = 0) -> ConsolePart:
        path = self._console_file(self._entry(lease_hash))
        deadline = trio.current_time() + min(patience, CONSOLE_PATIENCE_SECONDS_MAX)
        while True:
            part = await trio.to_thread.run_sync(console.read_part, path, position)
            if part.data or trio.current_time() >= deadline:
                return part
            position = part.position
            await trio.sleep(min(CONSOLE_FOLLOW_SECONDS, deadline - trio.current_time()))

    @tells_host_failed
    async def figures(self, lease_hash: Hash) -> MachineFigures:
        entry = self._up(lease_hash)
        host = await self._host_figures(entry)
        guest = await self._guest_figures(entry)
        return MachineFigures(self._clock(), *host, *guest)

    async def _guest_figures(self, entry: Entry) -> GuestFigures:
        """What the guest says of itself; nothing when it does not answer in time."""
        with contextlib.suppress(Fault), trio.move_on_after(FIGURES_SECONDS):
            result = await self.execute(entry.lease_hash, guest_figures.COMMAND, FIGURES_SECONDS)
            return guest_figures.parse(result.stdout)
        return guest_figures.NOTHING

    @tells_host_failed
    async def adopt(self) -> tuple[Machine, ...]:
        for path, error in await trio.to_thread.run_sync(machine_files.sweep, self._root):
            LOG.error("%s can't be removed (%s): it is tried again at the next start", path, error.strerror)
        damaged = []
        for directory in machine_files.machine_directories(self._root):
            try:
                await self._take_over(directory)
            except MachineFault as fault:
                LOG.error("%s", fault)
                damaged.append(str(fault))
        self.damaged = tuple(damaged)
        return self.machines()

    async def _take_over(self, directory: Path) -> None:
        record = await trio.to_thread.run_sync(state.load, directory)
        lease_hash = record.spec.lease_hash
        try:
            if directory.name != lease_hash.hex():  # the node died while a spare became a lease's machine
                await trio.to_thread.run_sync(machine_files.rename, self._root, directory, lease_hash)
            if lease_hash not in self._entries:
                self._entries[lease_hash] = entry = Entry(record)
                await self._adopt(entry)
        except OSError as error:
            message = f"{directory} can't be taken over ({error.strerror}): mend the disk and start the node again"
            raise MachineFault("machine_record_damaged", message) from error

    async def _check_room(self, spec: MachineSpec, least_disk_gb: int) -> None:
        await self._look_at_host()
        needed = Resources(spec.vcpus, 0, max(spec.disk_gb, least_disk_gb))
        shortage = host_shortage(needed, self.room_beside_spares)
        if shortage:
            raise Unavailable("disk_full", shortage)

    async def _look_at_host(self) -> None:
        spares = [self._tenant(entry) for entry in self._entries.values() if entry.record.spec.is_spare]
        others = [self._tenant(entry) for entry in self._entries.values() if not entry.record.spec.is_spare]
        self.room = await trio.to_thread.run_sync(host_room.look, self._host_limits, others, spares)
        self.room_beside_spares = self.room
        if spares:
            self.room_beside_spares = await trio.to_thread.run_sync(host_room.look, self._host_limits, others + spares)

    @tells_host_failed
    async def refresh(self) -> tuple[Machine, ...]:
        async with trio.open_nursery() as nursery:
            for entry in self._entries.values():
                nursery.start_soon(self._look, entry)
        await self._look_at_host()  # after the machines, who are looked at also where this fails
        return self.machines()

    async def _look(self, entry: Entry) -> None:
        """Leaves a machine alone that somebody is changing; what hinders the look at one hinders that of no other."""
        with contextlib.suppress(trio.WouldBlock):
            entry.lock.acquire_nowait()
            try:
                if self._entries.get(entry.lease_hash) is entry:  # or it was destroyed since this look began
                    await self._look_at(entry)
            except (MachineFault, OSError) as error:
                LOG.warning("the machine of lease %s can't be looked at: %s", entry.lease_hash.hex(), error)
            finally:
                entry.lock.release()

    async def _pause(self, entry: Entry) -> None:
        await self._thread.run(qmp.pause, self._monitor_folder(entry))

    async def _unpause(self, entry: Entry) -> None:
        await self._thread.run(qmp.resume, self._monitor_folder(entry))

    async def _note_status(self, entry: Entry, status: str) -> None:
        """What QEMU's monitor says of a machine that is up."""
        if status == qmp.INTERNAL_ERROR:
            await self._give_up(entry, "QEMU: internal-error")
        elif status == "running":
            await self._move(entry, MachineStatus.RUNNING)
        elif status == qmp.IO_ERROR and host_room.free_bytes(self._host_limits.folder) >= RESUME_FREE_BYTES:
            await self._unpause(entry)  # it stopped because the host's disk was full; the next look notes that it runs
        elif entry.record.status is not MachineStatus.PAUSED:
            await self._move(entry, MachineStatus.PAUSED, f"QEMU: {status}")

    async def _note_end(self, entry: Entry, reason: str) -> None:
        """A machine that does not run any more: one that ran has stopped, one that was booting has failed."""
        await self._close_shell(entry)
        if entry.record.status in UP:
            await self._move(entry, MachineStatus.STOPPED, reason)
        elif entry.record.status is MachineStatus.PROVISIONING and entry.record.pid:
            await self._move(entry, MachineStatus.FAILED, reason)

    @abstractmethod
    async def _make(self, spec: MachineSpec) -> Record:
        """Makes a machine's files, or nothing."""

    @abstractmethod
    async def _bring_up(self, entry: Entry, tell: Tell) -> None:
        """From whatever it is in to RUNNING and logged in to; raises MachineFault."""

    @abstractmethod
    async def _power_off(self, lease_hash: Hash, gently: bool) -> bool:
        """Ends the machine, known to us or not; False when it did not run. Raises MachineFault."""

    @abstractmethod
    def _monitor_folder(self, entry: Entry) -> Path:
        """Where the socket of its QEMU's monitor is."""

    @abstractmethod
    async def _remove(self, lease_hash: Hash) -> None:
        """Removes all files of a machine that does not run."""

    @abstractmethod
    async def _adopt(self, entry: Entry) -> None:
        """Sets right the state of a machine left by an earlier run."""

    @abstractmethod
    async def _look_at(self, entry: Entry) -> None:
        """Sets right the state of a machine that nobody is changing."""

    @abstractmethod
    def _tenant(self, entry: Entry) -> Tenant: ...

    @abstractmethod
    def _console_file(self, entry: Entry) -> Path: ...

    @abstractmethod
    async def _host_figures(self, entry: Entry) -> HostFigures: ...


def _log_evidence(lease_hash: Hash, fault: MachineFault) -> None:
    if fault.evidence:
        LOG.warning("lease %s: %s; its last words: %s", lease_hash.hex(), fault, fault.evidence)
