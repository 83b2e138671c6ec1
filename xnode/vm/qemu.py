"""The default driver: QEMU run directly, unprivileged and sandboxed, one process a machine.

What it shares with other drivers is in local_driver.py. /proc and QEMU's monitor say whether a machine runs: its QEMU
outlives the node, and the next run finds it by its UUID.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import trio

from xnode.core.faults import MachineFault
from xnode.core.machine import Machine, MachineSpec, MachineStatus, machine_name
from xnode.core.values import Hash
from xnode.vm import accelerator, cgroups, console, host_figures, machine_files, qmp, state
from xnode.vm.asyncio_thread import AsyncioThread, open_asyncio_thread
from xnode.vm.boot import Boot
from xnode.vm.cgroups import Limit
from xnode.vm.driver import MOVED_IN, Tell
from xnode.vm.host_fault import tells_host_failed
from xnode.vm.host_figures import HostFigures
from xnode.vm.host_room import Tenant
from xnode.vm.internet import Internet
from xnode.vm.limits import DISK_GB_MIN, OVERHEAD_MB, POWER_OFF_SECONDS, QUIT_SECONDS
from xnode.vm.machine_keeper import UP, Entry
from xnode.vm.machine_maker import MachineMaker
from xnode.vm.machine_users import UserRange, is_mapped
from xnode.vm.net_namespace import is_apart
from xnode.vm.qemu_command import CONSOLE, DISK, Guest, qemu_command
from xnode.vm.qemu_process import Identity, Process, find, gone, is_alive, kill, spawn
from xnode.vm.qemu_settings import QemuSettings
from xnode.vm.spares import SpareDriver
from xnode.vm.state import Record


class QemuDriver(SpareDriver):
    """Made by `open`."""

    name = "qemu"

    def __init__(
        self, settings: QemuSettings, clock: Callable[[], int], random: Callable[[int], bytes],
        choice: accelerator.Choice, thread: AsyncioThread,
    ) -> None:  # fmt: skip
        super().__init__(settings.root, settings.host_limits(), clock, thread)
        self.accelerator = choice.accelerator
        self.accelerator_reason = choice.why
        groups = accelerator.kvm_groups() if choice.accelerator == accelerator.KVM else ()
        self._settings = settings
        self._user: Identity = settings.identity(groups)
        self._resolver = str(settings.internet.resolver) if settings.internet else ""
        self._maker = MachineMaker(settings.root, settings.image_store, random, self._resolver)
        self._cgroups = cgroups.find()
        self._users = settings.users if is_mapped(settings.users) else UserRange(0, 0)
        self._internet = Internet(settings.internet, settings.root)
        self.internet = "open" if settings.internet else "none"
        users = "a user each" if self._users.size else f"all as user {self._user.uid}"
        self.limits = f"{self._cgroups.describe()}; {users}"

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, settings: QemuSettings, clock: Callable[[], int], random: Callable[[int], bytes]
    ) -> AsyncIterator["QemuDriver"]:
        """The driver until the block is left; machines run on after that. Probing KVM may take seconds."""
        settings.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        choice = await accelerator.choose(settings.accelerator, settings.identity(accelerator.kvm_groups()))
        await trio.to_thread.run_sync(Internet(settings.internet, settings.root).check)
        async with open_asyncio_thread() as thread:
            driver = cls(settings, clock, random, choice, thread)
            try:
                yield driver
            finally:
                await driver._close_shells()

    async def _make(self, spec: MachineSpec) -> Record:
        await self._check_room(spec, DISK_GB_MIN)
        image = spec.image or self._default_image()
        return await self._maker.make(spec, image, self.accelerator, self._new_user(spec.lease_hash), self._clock())

    def _default_image(self) -> str:
        return self._settings.default_image

    def _new_user(self, lease_hash: Hash) -> Identity:
        if not self._users.size:
            return self._user
        uid = self._users.choose(lease_hash, {entry.record.uid for entry in self._entries.values()})
        return self._user._replace(uid=uid, gid=uid)

    def _user_of(self, record: Record) -> Identity:
        return self._user._replace(uid=record.uid, gid=record.uid) if self._is_own(record) else self._user

    def _is_own(self, record: Record) -> bool:
        """Whether its user is one of its own: it may have been made before that was so."""
        return record.uid not in (0, self._user.uid)

    @tells_host_failed
    async def refresh(self) -> tuple[Machine, ...]:
        await trio.to_thread.run_sync(self._internet.tend, self._clock())
        machines = await super().refresh()
        await trio.to_thread.run_sync(self._cgroups.sweep)
        return machines

    def _tenant(self, entry: Entry) -> Tenant:
        made, disk = entry.record, self._run_directory(entry.lease_hash) / DISK
        return Tenant(disk, max(made.spec.disk_gb, DISK_GB_MIN), made.memory_mb, made.pid)

    async def _bring_up(self, entry: Entry, tell: Tell) -> None:
        if entry.record.is_arriving and await self._arrive(entry):
            tell(MOVED_IN)
            return
        if entry.record.status in UP and self._is_alive(entry):
            if entry.record.status is MachineStatus.PAUSED:
                await self._unpause(entry)
                await self._move(entry, MachineStatus.RUNNING)
            return
        if not self._is_alive(entry):
            await self._close_shell(entry)
            await self._power_off(entry.lease_hash, gently=False)  # one that could not be taken over
            await self._spawn(entry)
        boot = Boot(self._thread, self._run_directory(entry.lease_hash), _process(entry))
        port = await boot.forwarded_port(entry.record.uuid)
        address = await self._address(entry, port)
        patience = self._settings.boot_timeout if entry.record.boots_itself else self._settings.login_timeout
        entry.shell = await boot.up(address, self._settings.boot_timeout, patience, tell)
        await self._move(entry, MachineStatus.RUNNING, port=port)

    async def _spawn(self, entry: Entry) -> None:
        record, run = entry.record, self._run_directory(entry.lease_hash)
        for leftover in (run / CONSOLE, run / qmp.SOCKET_NAME):
            leftover.unlink(missing_ok=True)  # so that nothing of an earlier boot is taken for this one's
        spec, name = record.spec, machine_name(record.born)
        size = max(1, spec.vcpus), record.memory_mb
        terms, user = self._internet.terms, self._user_of(record)
        command = qemu_command(Guest(name, record.uuid, self.accelerator, *size, record.boots_itself, self._resolver))
        begin = partial(spawn, command, run, user, self._file_limit(record), is_spare=spec.is_spare)
        if terms:
            begin = partial(self._internet.within_new, record.born, user.gid, begin)
        process = await trio.to_thread.run_sync(begin)
        held = Limit(record.memory_mb + OVERHEAD_MB, max(1, spec.vcpus))
        await trio.to_thread.run_sync(self._cgroups.put, name, process.pid, held)
        entry.record = record._replace(
            accelerator=self.accelerator, pid=process.pid, started_ticks=process.started_ticks,
            has_internet=terms is not None,
        )  # fmt: skip
        await self._move(entry, MachineStatus.PROVISIONING)

    def _file_limit(self, record: Record) -> int:
        gib = max(record.spec.disk_gb, DISK_GB_MIN) * 9 // 8 + 1  # the disk, its format's tables, the console
        return gib << 30

    def _born(self, lease_hash: Hash) -> Hash:
        entry = self._entries.get(lease_hash)
        return entry.record.born if entry is not None else lease_hash

    async def _power_off(self, lease_hash: Hash, gently: bool) -> bool:
        process = await trio.to_thread.run_sync(find, state.machine_uuid(self._born(lease_hash)))
        if process is None:
            return False
        steps = ((qmp.power_button, POWER_OFF_SECONDS), (qmp.leave, QUIT_SECONDS)) if gently else ()
        for step, patience in steps:
            with contextlib.suppress(MachineFault):
                await self._thread.run(step, self._run_directory(lease_hash))
            if await gone(process, patience):
                return True
        kill(process)
        if not await gone(process, QUIT_SECONDS):
            message = f"QEMU process {process.pid} does not end: look at the host"
            raise MachineFault("kill_failed", message, retryable=True)
        return True

    def _monitor_folder(self, entry: Entry) -> Path:
        return self._run_directory(entry.lease_hash)

    async def _remove(self, lease_hash: Hash) -> None:
        self._cgroups.remove(machine_name(self._born(lease_hash)))
        await trio.to_thread.run_sync(self._internet.remove, self._born(lease_hash))
        await trio.to_thread.run_sync(machine_files.remove, self._root, lease_hash)

    async def _adopt(self, entry: Entry) -> None:
        record = entry.record
        process = await trio.to_thread.run_sync(find, record.uuid)
        if process is None:
            await self._note_end(entry, "its QEMU ended while the node was away")
            return
        try:
            uuid, port = await self._thread.run(qmp.identity, self._run_directory(entry.lease_hash))
        except MachineFault:  # busy, or not there yet: its command line names the machine, so it is ours all the same
            uuid, port = record.uuid, record.ssh_port if process == _process(entry) else 0
        if uuid != record.uuid:
            await self._move(entry, MachineStatus.FAILED, f"its QEMU can't be taken over: {uuid}")
            return
        apart = is_apart(process)
        entry.record = record._replace(pid=process.pid, started_ticks=process.started_ticks, has_internet=apart)
        is_up = record.status in UP and port != 0
        status, reason = (record.status, record.reason) if is_up else (MachineStatus.PROVISIONING, "")
        await self._move(entry, status, reason, port)

    async def _look_at(self, entry: Entry) -> None:
        if not self._is_alive(entry):
            await self._note_end(entry, "its QEMU ended")
        elif entry.record.status in UP:
            run = self._run_directory(entry.lease_hash)
            with contextlib.suppress(MachineFault):  # a busy monitor is no proof of anything
                await self._note_status(entry, await self._thread.run(qmp.status, run))
            console.trim(run / CONSOLE)

    def _is_alive(self, entry: Entry) -> bool:
        return is_alive(_process(entry))

    def _console_file(self, entry: Entry) -> Path:
        return self._run_directory(entry.lease_hash) / CONSOLE

    async def _host_figures(self, entry: Entry) -> HostFigures:
        run = self._run_directory(entry.lease_hash)
        traffic = await self._thread.run(qmp.disk_traffic, run)
        return host_figures.measure(entry.record.pid, run / DISK, traffic)

    def _run_directory(self, lease_hash: Hash) -> Path:
        return machine_files.run_directory(self._root, lease_hash)


def _process(entry: Entry) -> Process:
    return Process(entry.record.pid, entry.record.started_ticks)
