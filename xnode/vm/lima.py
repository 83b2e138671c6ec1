"""The second driver: Lima's own program, `limactl`, as an unprivileged user with a directory of its own (LIMA_HOME).

Lima keeps the instances and their QEMUs; this node keeps the records (local_driver.py) and each machine's keys. Lima
says what runs; pausing, and the figures of drives, go by QEMU's monitor in the instance's directory. It isolates less
than the `qemu` driver: its guests reach the loopback of the host, so the operator must opt in.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import trio

from xnode.core.faults import CallerFault, MachineFault
from xnode.core.machine import Machine, MachineSpec, MachineStatus, machine_name
from xnode.core.values import Hash
from xnode.vm import accelerator, console, host_figures, lima_files, lima_seed, machine_files, qmp, shell, ssh_keys
from xnode.vm.asyncio_thread import AsyncioThread, open_asyncio_thread
from xnode.vm.driver import BOOTED, Tell, no_pool
from xnode.vm.host_fault import tells_host_failed
from xnode.vm.host_figures import HostFigures
from xnode.vm.host_room import Tenant
from xnode.vm.lima_settings import Account, LimaSettings, prepare
from xnode.vm.lima_yaml import Instance, render
from xnode.vm.limactl import Limactl, LimaInstance
from xnode.vm.limits import (
    LIMA_CONSOLE_BYTES_MAX,
    LIMA_DISK_GB_MIN,
    LIMA_FETCH_SECONDS,
    LIMA_MEMORY_MB_MIN,
    LIMA_SEED_SECONDS,
    LOGIN_PAUSE_SECONDS,
    POWER_OFF_SECONDS,
)
from xnode.vm.local_driver import LocalDriver
from xnode.vm.machine_keeper import UP, Entry
from xnode.vm.qemu_process import Process, is_alive, started_ticks
from xnode.vm.state import Record

LOG = logging.getLogger(__name__)
_SERIAL_LOG = "serial.log"
_DISKS = ("disk", "diffdisk")  # as newer and older Lima call it


class LimaDriver(LocalDriver):
    """Made by `open`."""

    name = "lima"
    internet = "open"  # by Lima's own means, which close nothing

    def __init__(
        self, settings: LimaSettings, clock: Callable[[], int], random: Callable[[int], bytes],
        choice: accelerator.Choice, thread: AsyncioThread, account: Account,
    ) -> None:  # fmt: skip
        super().__init__(settings.root, settings.host_limits(), clock, thread)
        self.accelerator = choice.accelerator
        self.accelerator_reason = choice.why
        self._settings = settings
        self._random = random
        self._lima = Limactl(account, settings.home, choice.accelerator)
        self._seen: dict[str, LimaInstance] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, settings: LimaSettings, clock: Callable[[], int], random: Callable[[int], bytes]
    ) -> AsyncIterator["LimaDriver"]:
        """The driver until the block is left; machines run on after that. Probing KVM may take seconds."""
        settings.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        account = prepare(settings)
        choice = await accelerator.choose(settings.accelerator, account.identity)
        async with open_asyncio_thread() as thread:
            driver = cls(settings, clock, random, choice, thread, account)
            try:
                yield driver
            finally:
                await driver._close_shells()

    @tells_host_failed
    async def adopt(self) -> tuple[Machine, ...]:
        self._seen = await self._lima.instances()
        await super().adopt()
        ours = {machine_name(lease_hash) for lease_hash in self._entries}
        orphans = sorted(name for name in self._seen if name.startswith("xnode-") and name not in ours)
        self.damaged += tuple(f"Lima has {name}, of which this node has no record" for name in orphans)
        return self.machines()

    @tells_host_failed
    async def refresh(self) -> tuple[Machine, ...]:
        self._seen = await self._lima.instances()
        return await super().refresh()

    async def full_image(self, image: str) -> str:  # noqa: ARG002 - the port's
        raise no_pool(self.name)

    async def take(self, spare: Hash, spec: MachineSpec) -> Machine:  # noqa: ARG002 - the port's
        raise no_pool(self.name)

    async def _make(self, spec: MachineSpec) -> Record:
        if spec.image not in ("", self._settings.image_name):
            raise CallerFault("bad_image_name", f"this provider's machines run {self._settings.image_name} only")
        await self._check_room(spec, LIMA_DISK_GB_MIN)
        record, provider_seed, host_seed = lima_files.new_record(
            spec, self._settings.image_name, max(spec.memory_mb, LIMA_MEMORY_MB_MIN), self.accelerator,
            self._clock(), self._random,
        )  # fmt: skip
        await trio.to_thread.run_sync(lima_files.publish, self._root, record, provider_seed, host_seed)
        try:
            await self._create_instance(record)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._remove(spec.lease_hash)
            raise
        return record

    def _tenant(self, entry: Entry) -> Tenant:
        made, disk = entry.record, _disk(self._directory(entry.lease_hash))
        return Tenant(disk, max(made.spec.disk_gb, LIMA_DISK_GB_MIN), made.memory_mb, made.pid)

    async def _create_instance(self, record: Record) -> None:
        spec = record.spec
        instance = Instance(
            max(1, spec.vcpus), record.memory_mb, max(spec.disk_gb, LIMA_DISK_GB_MIN),
            self._settings.image, self._settings.image_digest,
        )  # fmt: skip
        name = machine_name(spec.lease_hash)
        words = ("create", f"--name={name}", "-")
        await self._lima.run(*words, given=render(instance).encode(), patience=LIMA_FETCH_SECONDS)

    async def _bring_up(self, entry: Entry, tell: Tell) -> None:
        if entry.record.status in UP and self._is_alive(entry):
            if entry.record.status is MachineStatus.PAUSED:
                await self._unpause(entry)
                await self._move(entry, MachineStatus.RUNNING)
            return
        await self._close_shell(entry)
        instance = await self._start_instance(entry)
        entry.record = entry.record._replace(
            accelerator=self.accelerator, pid=instance.pid, started_ticks=started_ticks(instance.pid)
        )
        await self._move(entry, MachineStatus.PROVISIONING)
        tell(BOOTED)
        await self._seed(entry)
        entry.shell = await self._login(entry, instance.ssh_port)
        await self._move(entry, MachineStatus.RUNNING, port=instance.ssh_port)

    async def _start_instance(self, entry: Entry) -> LimaInstance:
        name = machine_name(entry.lease_hash)
        found = (await self._lima.instances()).get(name)
        if found is None:  # the node died between making the record and the instance
            await self._create_instance(entry.record)
        elif not found.is_running and not found.is_off:
            await self._lima.run("stop", "-f", name)
        seconds = self._settings.boot_timeout
        words = ("start", f"--timeout={seconds:.0f}s", name)
        await self._lima.run(*words, patience=seconds + LIMA_FETCH_SECONDS)  # its own timeout begins with the boot
        started = (await self._lima.instances()).get(name)
        if started is None or not started.is_running:
            raise MachineFault("boot_failed", f"Lima has started {name}, but shows it as {started}")
        return started

    async def _seed(self, entry: Entry) -> None:
        provider_seed, host_seed = await trio.to_thread.run_sync(lima_files.seeds, self._root, entry.lease_hash)
        script = lima_seed.seed_script(entry.record.spec, ssh_keys.public_key_of(provider_seed), host_seed)
        words = ("shell", "--workdir", "/", machine_name(entry.lease_hash), "sudo", "-n", "sh", "-s")
        await self._lima.run(*words, given=script.encode(), patience=LIMA_SEED_SECONDS)

    async def _login(self, entry: Entry, port: int) -> shell.Shell:
        """The first login; the server may still be the one with the guest's earlier host key."""
        address = await self._address(entry, port)
        deadline = trio.current_time() + self._settings.login_timeout
        while True:
            try:
                return await self._thread.run(shell.connect, address)
            except MachineFault:
                if trio.current_time() > deadline:
                    raise
            await trio.sleep(LOGIN_PAUSE_SECONDS)

    async def _power_off(self, lease_hash: Hash, gently: bool) -> bool:
        name = machine_name(lease_hash)
        found = (await self._lima.instances()).get(name)
        if found is None or found.is_off:
            return False
        if gently and found.is_running:
            with contextlib.suppress(MachineFault):
                await self._lima.run("stop", name, patience=2 * POWER_OFF_SECONDS)
                return True
        await self._lima.run("stop", "-f", name)
        return True

    def _monitor_folder(self, entry: Entry) -> Path:
        return self._directory(entry.lease_hash)

    async def _remove(self, lease_hash: Hash) -> None:
        await self._lima.run("delete", "-f", machine_name(lease_hash))
        await trio.to_thread.run_sync(machine_files.remove, self._root, lease_hash)

    async def _adopt(self, entry: Entry) -> None:
        record, found = entry.record, self._seen.get(machine_name(entry.lease_hash))
        if found is None or not found.is_running:
            await self._note_end(entry, "it ended while the node was away")
            return
        status, reason = (record.status, record.reason) if record.status in UP else (MachineStatus.PROVISIONING, "")
        entry.record = record._replace(pid=found.pid, started_ticks=started_ticks(found.pid))
        await self._move(entry, status, reason, found.ssh_port)

    async def _look_at(self, entry: Entry) -> None:
        found = self._seen.get(machine_name(entry.lease_hash))
        if not self._is_alive(entry):
            await self._note_end(entry, "; ".join(found.errors) if found and found.errors else "its QEMU ended")
        elif entry.record.status in UP:
            directory = self._directory(entry.lease_hash)
            with contextlib.suppress(MachineFault):  # a busy monitor is no proof of anything
                await self._note_status(entry, await self._thread.run(qmp.status, directory))
            console.trim(directory / _SERIAL_LOG, LIMA_CONSOLE_BYTES_MAX)

    def _is_alive(self, entry: Entry) -> bool:
        return is_alive(Process(entry.record.pid, entry.record.started_ticks))

    def _console_file(self, entry: Entry) -> Path:
        return self._directory(entry.lease_hash) / _SERIAL_LOG

    async def _host_figures(self, entry: Entry) -> HostFigures:
        directory = self._directory(entry.lease_hash)
        traffic = await self._thread.run(qmp.disk_traffic, directory)
        return host_figures.measure(entry.record.pid, _disk(directory), traffic)

    def _directory(self, lease_hash: Hash) -> Path:
        return self._settings.home / machine_name(lease_hash)


def _disk(directory: Path) -> Path:
    return next((directory / name for name in _DISKS if (directory / name).exists()), directory / _DISKS[0])
