"""The machines that a driver knows: entries in memory, `machine.json` on disk, one lock and one kept shell each."""

import contextlib
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import trio

from xnode.core.faults import NotFound, WrongState
from xnode.core.machine import Machine, MachineStatus
from xnode.core.values import Hash
from xnode.vm import machine_files, shell, state
from xnode.vm.asyncio_thread import AsyncioThread
from xnode.vm.driver import Driver
from xnode.vm.host_room import HostLimits
from xnode.vm.qemu_process import Process
from xnode.vm.state import Record

LOG = logging.getLogger(__name__)
UP: Final = (MachineStatus.RUNNING, MachineStatus.PAUSED)


class Entry:
    """One machine in memory."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.saved = record  # as it stands in machine.json
        self.lock = trio.Lock()
        self.boot: trio.CancelScope | None = None
        self.shell: shell.Shell | None = None
        self.shell_lock = trio.Lock()
        self.has_grown = True  # a spare's disk, when it was leased; not known of one that an earlier run has leased

    @property
    def lease_hash(self) -> Hash:
        """Whose machine it is."""
        return self.record.spec.lease_hash

    @property
    def inside(self) -> Process | None:
        """The process in whose network its SSH port is; None for the host's."""
        return Process(self.record.pid, self.record.started_ticks) if self.record.has_internet else None


class MachineKeeper(Driver):
    """`root` holds the machines' records, one directory each (machine_files.py)."""

    def __init__(self, root: Path, host_limits: HostLimits, clock: Callable[[], int], thread: AsyncioThread) -> None:
        self.damaged: tuple[str, ...] = ()  # what `adopt` could not read, one message each
        self._root = root
        self._host_limits = host_limits
        self._clock = clock
        self._thread = thread
        self._entries: dict[Hash, Entry] = {}
        self._creating = trio.Lock()

    def machines(self) -> tuple[Machine, ...]:
        return tuple(self._machine(entry) for _, entry in sorted(self._entries.items()))

    def _machine(self, entry: Entry) -> Machine:
        return entry.record.machine(self.name)

    def _entry(self, lease_hash: Hash) -> Entry:
        entry = self._entries.get(lease_hash)
        if entry is None:
            raise NotFound("machine_not_found", f"this node has no machine for lease {lease_hash.hex()}")
        return entry

    def _up(self, lease_hash: Hash) -> Entry:
        entry = self._entry(lease_hash)
        if entry.record.status not in UP or not self._is_alive(entry):
            raise _not_running(lease_hash, "start")
        return entry

    def _running(self, lease_hash: Hash) -> Entry:
        entry = self._up(lease_hash)
        if entry.record.status is not MachineStatus.RUNNING:
            raise _not_running(lease_hash, "resume")
        return entry

    @contextlib.asynccontextmanager
    async def _changing(self, lease_hash: Hash) -> AsyncIterator[Entry]:
        entry = self._entry(lease_hash)
        async with entry.lock:
            if self._entry(lease_hash) is not entry:  # destroyed and made anew while we waited
                raise WrongState("machine_replaced", "the machine was replaced meanwhile")
            yield entry

    @contextlib.asynccontextmanager
    async def _changing_up(self, lease_hash: Hash) -> AsyncIterator[Entry]:
        """For what a machine must be up for; one that boots is refused at once, not waited for."""
        self._up(lease_hash)
        async with self._changing(lease_hash) as entry:
            self._up(lease_hash)
            yield entry

    def _interrupt_boot(self, lease_hash: Hash) -> None:
        entry = self._entries.get(lease_hash)
        if entry is not None and entry.boot is not None:
            entry.boot.cancel()

    async def _address(self, entry: Entry, port: int) -> shell.Address:
        directory = machine_files.directory_of(self._root, entry.lease_hash)
        seed = await trio.to_thread.run_sync((directory / machine_files.PROVIDER_KEY).read_bytes)
        return shell.Address(port, entry.record.host_key, seed, entry.inside)

    async def _move(self, entry: Entry, status: MachineStatus, reason: str = "", port: int = 0) -> None:
        """Notes a change, in memory and, unless the host's disk is full, durably."""
        moved = entry.record.at(status, self._clock(), reason)
        entry.record = moved._replace(ssh_port=port) if port else moved
        if entry.record != entry.saved:
            directory = machine_files.directory_of(self._root, moved.spec.lease_hash)
            try:
                await trio.to_thread.run_sync(state.save, directory, entry.record)
            except (
                OSError
            ) as error:  # a full disk: it is tried again at each look, and /proc knows the machine meanwhile
                LOG.error("%s can't be written: %s", directory, error.strerror)
                return
            entry.saved = entry.record

    async def _close_shell(self, entry: Entry) -> None:
        kept, entry.shell = entry.shell, None
        if kept is not None:
            await self._thread.run(kept.close)

    async def _close_shells(self) -> None:
        with trio.CancelScope(shield=True):
            for entry in self._entries.values():
                await self._close_shell(entry)

    @abstractmethod
    def _is_alive(self, entry: Entry) -> bool:
        """Whether it runs, without waiting."""


def _not_running(lease_hash: Hash, verb: str) -> WrongState:
    return WrongState("not_running", f"the machine of lease {lease_hash.hex()} does not run: {verb} it first")
