"""The default driver: QEMU run directly, unprivileged and sandboxed, one process a machine.

Theory of operation. `machine.json` says what a machine is; /proc and QEMU's monitor say whether it runs. A machine's
QEMU outlives the node: the next run finds it by its UUID. Each machine has a lock that whoever changes it holds;
stopping and destroying interrupt a boot. A machine's files go only against the proof that its lease is over.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import trio

from xnode.core.faults import MachineFault, NotAllowed, NotFound, Unavailable, WrongState
from xnode.core.lease import EndProof
from xnode.core.machine import ExecResult, Machine, MachineSpec, MachineStatus, machine_name
from xnode.core.values import Hash
from xnode.vm import accelerator, console, machine_files, qmp, shell, state
from xnode.vm.asyncio_thread import AsyncioThread, open_asyncio_thread
from xnode.vm.boot import Boot
from xnode.vm.driver import Driver
from xnode.vm.limits import DISK_GB_MIN, POWER_OFF_SECONDS, PROCESS_POLL_SECONDS, QUIT_SECONDS
from xnode.vm.machine_maker import MachineMaker
from xnode.vm.qemu_command import CONSOLE, Guest, qemu_command
from xnode.vm.qemu_process import Identity, Process, find, is_alive, kill, spawn
from xnode.vm.qemu_settings import QemuSettings
from xnode.vm.state import Record

LOG = logging.getLogger(__name__)
_UP = (MachineStatus.RUNNING, MachineStatus.PAUSED)


class _Entry:
    """One machine in memory."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.saved = record  # as it stands in machine.json
        self.lock = trio.Lock()
        self.boot: trio.CancelScope | None = None
        self.shell: shell.Shell | None = None
        self.shell_lock = trio.Lock()

    @property
    def process(self) -> Process:
        return Process(self.record.pid, self.record.started_ticks)


class QemuDriver(Driver):
    """Made by `open`."""

    name = "qemu"

    def __init__(
        self, settings: QemuSettings, clock: Callable[[], int], random: Callable[[int], bytes],
        choice: accelerator.Choice, thread: AsyncioThread,
    ) -> None:  # fmt: skip
        self.accelerator = choice.accelerator
        self.accelerator_reason = choice.why
        self.damaged: tuple[str, ...] = ()  # what `adopt` could not read, one message each
        groups = accelerator.kvm_groups() if choice.accelerator == accelerator.KVM else ()
        self._settings = settings
        self._clock = clock
        self._user: Identity = settings.identity(groups)
        self._maker = MachineMaker(settings.root, settings.image_store, self._user, random)
        self._thread = thread
        self._entries: dict[Hash, _Entry] = {}
        self._creating = trio.Lock()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, settings: QemuSettings, clock: Callable[[], int], random: Callable[[int], bytes]
    ) -> AsyncIterator["QemuDriver"]:
        """The driver until the block is left; machines run on after that. Probing KVM may take seconds."""
        settings.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        choice = await accelerator.choose(settings.accelerator, settings.identity(accelerator.kvm_groups()))
        async with open_asyncio_thread() as thread:
            driver = cls(settings, clock, random, choice, thread)
            try:
                yield driver
            finally:
                await driver._close_shells()

    async def create(self, spec: MachineSpec) -> Machine:
        async with self._creating:
            entry = self._entries.get(spec.lease_hash)
            if entry is None:
                entry = _Entry(await self._make(spec))
                self._entries[spec.lease_hash] = entry
            elif entry.record.spec != spec:
                raise WrongState("machine_differs", "this lease's machine was made to another specification")
            return self._machine(entry)

    async def _make(self, spec: MachineSpec) -> Record:
        if len(self._entries) >= self._settings.max_machines:
            message = f"this node keeps at most {self._settings.max_machines} machines at once"
            raise Unavailable("machines_full", message, retryable=True)
        directory = machine_files.directory_of(self._settings.root, spec.lease_hash)
        if directory.exists():
            raise MachineFault("machine_record_damaged", f"{directory} is there, but was not readable at the start")
        await trio.to_thread.run_sync(self._check_room, spec)
        image = spec.image or self._settings.default_image
        return await self._maker.make(spec, image, self.accelerator, self._clock())

    def _check_room(self, spec: MachineSpec) -> None:
        disks = [
            (self._run_directory(entry), max(entry.record.spec.disk_gb, DISK_GB_MIN))
            for entry in tuple(self._entries.values())
        ]
        wanted = max(spec.disk_gb, DISK_GB_MIN)
        machine_files.check_room(self._settings.root, disks, wanted, self._settings.disk_reserve_bytes)

    async def start(self, lease_hash: Hash) -> Machine:
        async with self._changing(lease_hash) as entry:
            with trio.CancelScope() as entry.boot:
                try:
                    await self._bring_up(entry)
                except MachineFault as fault:
                    await self._give_up(entry, str(fault))
                    raise
            interrupted, entry.boot = entry.boot.cancelled_caught, None
            if interrupted:
                raise WrongState("machine_stopped", "the machine was told to stop while it booted")
            return self._machine(entry)

    async def _bring_up(self, entry: _Entry) -> None:
        if entry.record.status in _UP and is_alive(entry.process):
            if entry.record.status is MachineStatus.PAUSED:
                await self._thread.run(qmp.resume, self._run_directory(entry))
                await self._move(entry, MachineStatus.RUNNING)
            return
        if not is_alive(entry.process):
            await self._close_shell(entry)
            await self._end(entry.record.spec.lease_hash, gently=False)  # one that could not be taken over
            await self._spawn(entry)
        boot = Boot(self._thread, self._run_directory(entry), entry.process)
        port = await boot.forwarded_port(entry.record.uuid)
        address = await self._address(entry, port)
        entry.shell = await boot.up(address, self._settings.boot_timeout, self._settings.login_timeout)
        await self._move(entry, MachineStatus.RUNNING, port=port)

    async def _spawn(self, entry: _Entry) -> None:
        record, run = entry.record, self._run_directory(entry)
        for leftover in (run / CONSOLE, run / qmp.SOCKET_NAME):
            leftover.unlink(missing_ok=True)  # so that nothing of an earlier boot is taken for this one's
        spec, name = record.spec, machine_name(record.spec.lease_hash)
        command = qemu_command(Guest(name, record.uuid, self.accelerator, max(1, spec.vcpus), record.memory_mb))
        limit = max(spec.disk_gb, DISK_GB_MIN) * 9 // 8 + 1  # GiB: the disk, its format's tables, the console
        process = await trio.to_thread.run_sync(spawn, command, run, self._user, limit << 30)
        entry.record = record._replace(
            accelerator=self.accelerator, pid=process.pid, started_ticks=process.started_ticks
        )
        await self._move(entry, MachineStatus.PROVISIONING)

    async def _give_up(self, entry: _Entry, reason: str) -> None:
        with trio.CancelScope(shield=True):
            await self._end(entry.record.spec.lease_hash, gently=False)
            await self._move(entry, MachineStatus.FAILED, reason)

    async def stop(self, lease_hash: Hash) -> Machine:
        self._interrupt_boot(lease_hash)
        async with self._changing(lease_hash) as entry:
            await self._close_shell(entry)
            if await self._end(lease_hash, gently=True) or entry.record.status in _UP:
                await self._move(entry, MachineStatus.STOPPED, "stopped by this node")
            return self._machine(entry)

    async def destroy(self, lease_hash: Hash, proof: EndProof) -> None:
        if proof.lease_hash != lease_hash:
            raise NotAllowed("wrong_proof", "the proof is of another lease's end, so this machine stays")
        self._interrupt_boot(lease_hash)
        async with self._creating, contextlib.AsyncExitStack() as stack:
            entry = self._entries.get(lease_hash)
            if entry is not None:
                await stack.enter_async_context(entry.lock)
                await self._close_shell(entry)
            await self._end(lease_hash, gently=False)
            await trio.to_thread.run_sync(machine_files.remove, self._settings.root, lease_hash)
            self._entries.pop(lease_hash, None)

    async def _end(self, lease_hash: Hash, *, gently: bool) -> bool:
        """Ends the machine's QEMU, however it came to be; False when there was none. Raises MachineFault."""
        process = await trio.to_thread.run_sync(find, state.machine_uuid(lease_hash))
        if process is None:
            return False
        run = machine_files.run_directory(self._settings.root, lease_hash)
        steps = ((qmp.power_button, POWER_OFF_SECONDS), (qmp.leave, QUIT_SECONDS)) if gently else ()
        for step, patience in steps:
            with contextlib.suppress(MachineFault):
                await self._thread.run(step, run)
            if await _gone(process, patience):
                return True
        kill(process)
        if not await _gone(process, QUIT_SECONDS):
            message = f"QEMU process {process.pid} does not end: look at the host"
            raise MachineFault("kill_failed", message, retryable=True)
        return True

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
        sock = trio.socket.socket()
        try:
            await sock.connect(("127.0.0.1", entry.record.ssh_port))
        except OSError as error:
            sock.close()
            raise shell.unreachable(error) from error
        return trio.SocketStream(sock)

    async def adopt(self) -> tuple[Machine, ...]:
        await trio.to_thread.run_sync(machine_files.sweep, self._settings.root)
        damaged = []
        for directory in machine_files.machine_directories(self._settings.root):
            try:
                record = await trio.to_thread.run_sync(state.load, directory)
            except MachineFault as fault:
                LOG.error("%s", fault)
                damaged.append(str(fault))
                continue
            if record.spec.lease_hash not in self._entries:
                self._entries[record.spec.lease_hash] = entry = _Entry(record)
                await self._adopt(entry)
        self.damaged = tuple(damaged)
        return self.machines()

    async def _adopt(self, entry: _Entry) -> None:
        record = entry.record
        process = await trio.to_thread.run_sync(find, record.uuid)
        if process is None:
            await self._note_end(entry, "its QEMU ended while the node was away")
            return
        try:
            uuid, port = await self._thread.run(qmp.identity, self._run_directory(entry))
        except MachineFault as fault:
            uuid, port = str(fault), 0
        if uuid != record.uuid:
            await self._move(entry, MachineStatus.FAILED, f"its QEMU can't be taken over: {uuid}")
            return
        entry.record = record._replace(pid=process.pid, started_ticks=process.started_ticks)
        await self._move(entry, record.status if record.status in _UP else MachineStatus.PROVISIONING, port=port)

    async def refresh(self) -> tuple[Machine, ...]:
        async with trio.open_nursery() as nursery:
            for entry in self._entries.values():
                nursery.start_soon(self._look, entry)
        return self.machines()

    async def _look(self, entry: _Entry) -> None:
        """Leaves a machine alone that somebody is changing."""
        with contextlib.suppress(trio.WouldBlock):
            entry.lock.acquire_nowait()
            try:
                await self._look_at(entry)
            finally:
                entry.lock.release()

    async def _look_at(self, entry: _Entry) -> None:
        if not is_alive(entry.process):
            await self._note_end(entry, "its QEMU ended")
        elif entry.record.status in _UP:
            run = self._run_directory(entry)
            console.trim(run)
            with contextlib.suppress(MachineFault):  # a busy monitor is no proof of anything
                await self._note_status(entry, await self._thread.run(qmp.status, run))

    async def _note_status(self, entry: _Entry, status: str) -> None:
        if status == qmp.INTERNAL_ERROR:
            await self._give_up(entry, "QEMU: internal-error")
        elif status == "running":
            await self._move(entry, MachineStatus.RUNNING)
        else:
            await self._move(entry, MachineStatus.PAUSED, f"QEMU: {status}")

    async def _note_end(self, entry: _Entry, reason: str) -> None:
        """A machine without a QEMU: one that ran has stopped, one that was booting has failed."""
        await self._close_shell(entry)
        if entry.record.status in _UP:
            await self._move(entry, MachineStatus.STOPPED, reason)
        elif entry.record.status is MachineStatus.PROVISIONING and entry.record.pid:
            await self._move(entry, MachineStatus.FAILED, reason)

    def machines(self) -> tuple[Machine, ...]:
        return tuple(self._machine(entry) for _, entry in sorted(self._entries.items()))

    def _machine(self, entry: _Entry) -> Machine:
        return entry.record.machine(self.name)

    def _run_directory(self, entry: _Entry) -> Path:
        return machine_files.run_directory(self._settings.root, entry.record.spec.lease_hash)

    def _entry(self, lease_hash: Hash) -> _Entry:
        entry = self._entries.get(lease_hash)
        if entry is None:
            raise NotFound("machine_not_found", f"this node has no machine for lease {lease_hash.hex()}")
        return entry

    def _running(self, lease_hash: Hash) -> _Entry:
        entry = self._entry(lease_hash)
        if entry.record.status is not MachineStatus.RUNNING or not is_alive(entry.process):
            raise WrongState("not_running", f"the machine of lease {lease_hash.hex()} does not run: start it first")
        return entry

    @contextlib.asynccontextmanager
    async def _changing(self, lease_hash: Hash) -> AsyncIterator[_Entry]:
        entry = self._entry(lease_hash)
        async with entry.lock:
            if self._entry(lease_hash) is not entry:  # destroyed and made anew while we waited
                raise WrongState("machine_replaced", "the machine was replaced meanwhile")
            yield entry

    def _interrupt_boot(self, lease_hash: Hash) -> None:
        entry = self._entries.get(lease_hash)
        if entry is not None and entry.boot is not None:
            entry.boot.cancel()

    async def _address(self, entry: _Entry, port: int) -> shell.Address:
        directory = machine_files.directory_of(self._settings.root, entry.record.spec.lease_hash)
        seed = await trio.to_thread.run_sync((directory / machine_files.PROVIDER_KEY).read_bytes)
        return shell.Address(port, entry.record.host_key, seed)

    async def _move(self, entry: _Entry, status: MachineStatus, reason: str = "", port: int = 0) -> None:
        """Notes a change, in memory and durably."""
        moved = entry.record.at(status, self._clock(), reason)
        entry.record = moved._replace(ssh_port=port) if port else moved
        if entry.record != entry.saved:
            directory = machine_files.directory_of(self._settings.root, moved.spec.lease_hash)
            await trio.to_thread.run_sync(state.save, directory, entry.record)
            entry.saved = entry.record

    async def _close_shell(self, entry: _Entry) -> None:
        kept, entry.shell = entry.shell, None
        if kept is not None:
            await self._thread.run(kept.close)

    async def _close_shells(self) -> None:
        with trio.CancelScope(shield=True):
            for entry in self._entries.values():
                await self._close_shell(entry)


async def _gone(process: Process, patience: float) -> bool:
    """Waits up to `patience` seconds for a process to end."""
    with trio.move_on_after(patience):
        while is_alive(process):  # noqa: ASYNC110 - another process can't set an event
            await trio.sleep(PROCESS_POLL_SECONDS)
    return not is_alive(process)
