"""Spares under QEMU: machines that were booted for nobody become a lease's (core/pool.py).

Theory of operation. A spare is a machine whose record names NOBODY's key. `take` gives its directory the lease's name,
then writes the lease into the record: that is the turn, and no consumer's key is anywhere before it. QEMU and its
cgroup keep the name that they were born with, and work on in the renamed directory. `start` finds a record that says it
is arriving: it tells the guest its name and keys by the login that the spare was booted with, logs in with a new key
after the old one was refused, and writes down that it has arrived before the machine counts as running. Whatever fails
on the way costs the spare only: the machine is made anew and booted cold. Only the provider has been in it until then.

    directory      record                    a run that finds this
    the spare's    a spare                   has a spare
    the lease's    a spare                   renames it back
    the lease's    the lease's, arriving     lets it arrive, or makes it anew
    the lease's    the lease's               has a machine like any other
"""

import logging
from abc import abstractmethod
from pathlib import Path

import trio

from xnode.core.faults import Fault, MachineFault, WrongState
from xnode.core.machine import Machine, MachineSpec, MachineStatus
from xnode.core.values import Hash, PublicKey
from xnode.vm import arrival, machine_files, qmp, shell, ssh_keys, state
from xnode.vm.durable import write_file
from xnode.vm.host_fault import tells_host_failed
from xnode.vm.limits import ARRIVAL_SECONDS, DISK_GB_MIN
from xnode.vm.local_driver import LocalDriver
from xnode.vm.machine_keeper import Entry
from xnode.vm.machine_maker import MachineMaker, check_access_key
from xnode.vm.qemu_process import Identity, Process, set_file_limit
from xnode.vm.state import Record

LOG = logging.getLogger(__name__)
_GIB = 1 << 30


class SpareDriver(LocalDriver):
    """The part of the QEMU driver that turns spares into machines of leases."""

    has_pool = True
    _maker: MachineMaker

    @tells_host_failed
    async def full_image(self, image: str) -> str:
        return await self._maker.full_name(image or self._default_image())

    @tells_host_failed
    async def take(self, spare: Hash, spec: MachineSpec) -> Machine:
        check_access_key(spec)
        async with self._creating:
            done = self._entries.get(spec.lease_hash)
            if done is not None:
                if (done.record.spec, done.record.born) != (spec, spare):
                    raise WrongState("machine_differs", "this lease's machine is another one")
                return self._machine(done)
            entry = self._entry(spare)
            async with entry.lock:
                await self._check_suits(entry, spec)
                await self._turn(entry, spec)
            self._entries[spec.lease_hash] = self._entries.pop(spare)
            return self._machine(entry)

    async def _check_suits(self, entry: Entry, spec: MachineSpec) -> None:
        record, was = entry.record, entry.record.spec
        if spec.is_spare or not was.is_spare:
            raise WrongState("not_a_spare", "only a spare becomes a lease's machine")
        if record.status is not MachineStatus.RUNNING or not self._is_alive(entry):
            raise _unfit("it does not run")
        if (was.vcpus, was.memory_mb) != (spec.vcpus, spec.memory_mb) or was.disk_gb > spec.disk_gb:
            raise _unfit("it has other sizes")
        if await self.full_image(spec.image) != record.image:
            raise _unfit(f"it has the image {record.image}")
        if record.has_internet != (self.internet != "none"):
            raise _unfit("it was booted under another setting of the internet")
        if machine_files.directory_of(self._root, spec.lease_hash).exists():
            raise MachineFault("machine_record_damaged", "the lease has a machine that was not readable at the start")

    async def _turn(self, entry: Entry, spec: MachineSpec) -> None:
        record = entry.record
        turned = record._replace(spec=spec, born_as=record.born.hex(), is_arriving=True)
        turned = turned.at(MachineStatus.PROVISIONING, self._clock())
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(machine_files.turn, self._root, entry.lease_hash, turned)
            except OSError as error:
                raise _unfit(f"the host's disk refuses ({error.strerror})") from error
        entry.has_grown = spec.disk_gb > record.spec.disk_gb
        entry.record = entry.saved = turned

    async def _arrive(self, entry: Entry) -> bool:
        """Whether the spare that this was has become the lease's machine; it is made anew where it has not."""
        arrived = False
        try:
            with trio.fail_after(ARRIVAL_SECONDS):
                await self._move_in(entry)
            arrived = True
        except* (Fault, OSError, trio.TooSlowError) as group:
            reasons = "; ".join(str(error) or type(error).__name__ for error in group.exceptions)
            LOG.warning("lease %s gets a machine booted anew: %s", entry.lease_hash.hex(), reasons)
        if arrived:
            return True
        await self._close_shell(entry)
        await self._power_off(entry.lease_hash, gently=False)
        record = entry.record
        entry.record = entry.saved = await self._maker.renew(record, self._user_of(record), self._clock())
        return False

    async def _move_in(self, entry: Entry) -> None:
        record, directory = entry.record, machine_files.directory_of(self._root, entry.lease_hash)
        spare_seed, host_seed = await trio.to_thread.run_sync(machine_files.spare_keys, directory)
        if not host_seed or not self._is_alive(entry):
            raise _unfit("it does not run any more")
        seed = await trio.to_thread.run_sync(self._new_login, directory, spare_seed)
        process, user = Process(record.pid, record.started_ticks), self._user_of(record)
        await set_file_limit(process, user, self._file_limit(record))
        if entry.has_grown:
            run, disk_gb = machine_files.run_directory(self._root, entry.lease_hash), record.spec.disk_gb
            await self._thread.run(qmp.resize_disk, run, max(disk_gb, DISK_GB_MIN) * _GIB)
        address = await self._address(entry, record.ssh_port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._maker.reseed, record, seed, host_seed, user)
            await self._tell_guest(entry, address._replace(login_seed=spare_seed), ssh_keys.public_key_of(seed))
            entry.shell = await self._thread.run(shell.connect, address, spare_seed)
        arrived = record._replace(is_arriving=False).at(MachineStatus.RUNNING, self._clock())
        await trio.to_thread.run_sync(state.save, directory, arrived)
        entry.record = entry.saved = arrived
        await trio.to_thread.run_sync((directory / machine_files.SPARE_KEYS).unlink, True)

    def _new_login(self, directory: Path, spare_seed: bytes) -> bytes:
        """The provider's key from now on, durably before the guest has it; made once."""
        path = directory / machine_files.PROVIDER_KEY
        seed = path.read_bytes()
        if seed == spare_seed:
            seed = self._maker.new_login()
            write_file(path, seed)
        return seed

    async def _tell_guest(self, entry: Entry, booted_with: shell.Address, key: PublicKey) -> None:
        if entry.shell is None or not entry.shell.is_open:
            try:
                entry.shell = await self._thread.run(shell.connect, booted_with)
            except MachineFault:
                return  # an earlier run may have told it; the login that comes next finds out
        told = arrival.script(entry.record.spec, key, has_grown=entry.has_grown)
        result = await self._thread.run(entry.shell.run_bare, told, ARRIVAL_SECONDS)
        await self._close_shell(entry)
        if result.exit_code:
            raise _unfit(f"its guest did not take the lease's name and key: {result.stderr[:200]!r}")

    @abstractmethod
    def _default_image(self) -> str: ...

    @abstractmethod
    def _user_of(self, record: Record) -> Identity: ...

    @abstractmethod
    def _file_limit(self, record: Record) -> int:
        """The size in bytes that no file of its QEMU may outgrow."""


def _unfit(why: str) -> MachineFault:
    return MachineFault("spare_unfit", f"the spare can't become the lease's machine: {why}")
