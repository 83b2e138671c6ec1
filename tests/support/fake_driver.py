"""Machines on virtual time: what would be on a provider's disk is in `Disk`, which outlives the node that used it."""

from collections import Counter
from collections.abc import Callable

import trio

from tests.support.ledger import key_of
from xnode.core.faults import MachineFault, NotAllowed, NotFound, WrongState
from xnode.core.machine import (
    ConsolePart,
    ExecResult,
    HostRoom,
    Machine,
    MachineFigures,
    MachineSpec,
    MachineStatus,
    machine_name,
)
from xnode.core.orphan import Proof
from xnode.core.pool import SpareProof
from xnode.core.values import Hash, PublicKey
from xnode.vm.driver import BOOTED, MOVED_IN, Driver, Tell, nobody

BOOT_SECONDS = 5.0
ARRIVE_SECONDS = 0.2  # what a spare needs to become a lease's machine


class Disk:
    """Machines by lease, and a record of what was done to them. The next `boots_to_fail` boots fail."""

    def __init__(self) -> None:
        self.machines: dict[Hash, Machine] = {}
        self.destroyed: dict[Hash, Proof] = {}
        self.consoles: dict[Hash, bytes] = {}
        self.boots: Counter[Hash] = Counter()
        self.arriving: set[Hash] = set()  # leases whose machine was a spare and has no consumer's key yet
        self.arrived: set[Hash] = set()
        self.spares_spoilt = False
        self.boots_to_fail = 0
        self.boot_seconds = BOOT_SECONDS
        self.adopt_seconds = 0.0
        self.fault_code = "boot_failed"
        self.room: HostRoom | None = None
        self.guests: list[trio.SocketStream] = []  # the machines' ends of connections to their SSH ports

    def status(self, lease_hash: Hash) -> MachineStatus | None:
        """The machine's state; None where there is none."""
        machine = self.machines.get(lease_hash)
        return machine.status if machine is not None else None

    def power_cut(self) -> None:
        """The host went down with all its machines."""
        for lease_hash, machine in self.machines.items():
            self.machines[lease_hash] = machine._replace(status=MachineStatus.STOPPED, ssh_port=0)


class FakeDriver(Driver):
    """Keeps the contract of `Driver`; a machine that was booting when its node died stays in provisioning."""

    name = "fake"
    has_pool = True
    accelerator = "tcg"

    def __init__(self, disk: Disk, clock: Callable[[], int]) -> None:
        self.disk = disk
        self._clock = clock
        self._booting: dict[Hash, trio.CancelScope] = {}

    async def create(self, spec: MachineSpec) -> Machine:
        await trio.lowlevel.checkpoint()
        machine = self.disk.machines.get(spec.lease_hash)
        if machine is None:
            host_key = PublicKey(key_of(f"host-key {spec.lease_hash.hex()}").public_key)
            machine = Machine(
                spec,
                machine_name(spec.lease_hash),
                MachineStatus.PROVISIONING,
                host_key,
                ssh_port=0,
                driver=self.name,
                image=spec.image or "default",
                accelerator=self.accelerator,
                created_at=self._clock(),
                state_since=self._clock(),
                reason="",
            )
            self.disk.machines[spec.lease_hash] = machine
        elif machine.spec != spec:
            raise WrongState("machine_differs", "this lease's machine was made to another specification")
        return machine

    async def full_image(self, image: str) -> str:
        await trio.lowlevel.checkpoint()
        return image or "default"

    async def take(self, spare: Hash, spec: MachineSpec) -> Machine:
        await trio.lowlevel.checkpoint()
        machine = self.disk.machines.get(spec.lease_hash)
        if machine is not None:
            if machine.spec != spec:
                raise WrongState("machine_differs", "this lease's machine is another one")
            return machine
        was = self._known(spare)
        if not was.spec.is_spare or spec.is_spare:
            raise WrongState("not_a_spare", "only a spare becomes a lease's machine")
        sizes = (was.spec.vcpus, was.spec.memory_mb, was.image)
        fits = sizes == (spec.vcpus, spec.memory_mb, await self.full_image(spec.image))
        if self.disk.spares_spoilt or was.status is not MachineStatus.RUNNING or not fits:
            raise MachineFault("spare_unfit", "the spare can't become the lease's machine")
        self.disk.arriving.add(spec.lease_hash)
        del self.disk.machines[spare]
        self.disk.machines[spec.lease_hash] = was._replace(spec=spec, name=machine_name(spec.lease_hash))
        return self._set(spec.lease_hash, MachineStatus.PROVISIONING)

    async def start(self, lease_hash: Hash, tell: Tell = nobody) -> Machine:
        await trio.lowlevel.checkpoint()
        status = self._known(lease_hash).status
        if status is MachineStatus.PAUSED:
            return await self.resume(lease_hash)
        if status is MachineStatus.RUNNING:
            return self._known(lease_hash)
        return await self._boot(lease_hash, tell)

    async def _boot(self, lease_hash: Hash, tell: Tell) -> Machine:
        if lease_hash in self.disk.arriving:
            return await self._arrive(lease_hash, tell)
        self.disk.boots[lease_hash] += 1
        self.disk.consoles[lease_hash] = b""
        self._set(lease_hash, MachineStatus.PROVISIONING)
        with trio.CancelScope() as self._booting[lease_hash]:
            await trio.sleep(self.disk.boot_seconds)
        if self._booting.pop(lease_hash).cancelled_caught:
            raise WrongState("machine_stopped", "the machine was told to stop while it booted")
        if self.disk.boots_to_fail > 0:
            self.disk.boots_to_fail -= 1
            self._set(lease_hash, MachineStatus.FAILED, reason="no SSH login in time")
            raise MachineFault(self.disk.fault_code, "the machine did not answer on SSH in time")
        self.disk.consoles[lease_hash] += b"up\n"
        tell(BOOTED)
        return self._set(lease_hash, MachineStatus.RUNNING, ssh_port=22)

    async def _arrive(self, lease_hash: Hash, tell: Tell) -> Machine:
        await trio.sleep(ARRIVE_SECONDS)
        self.disk.arriving.discard(lease_hash)
        self.disk.arrived.add(lease_hash)
        tell(MOVED_IN)
        return self._set(lease_hash, MachineStatus.RUNNING, ssh_port=22)

    async def stop(self, lease_hash: Hash) -> Machine:
        self._interrupt(lease_hash)
        await trio.lowlevel.checkpoint()
        if self._known(lease_hash).status is MachineStatus.STOPPED:
            return self._known(lease_hash)
        return self._set(lease_hash, MachineStatus.STOPPED, reason="stopped")

    async def pause(self, lease_hash: Hash) -> Machine:
        await trio.lowlevel.checkpoint()
        if self._up(lease_hash).status is MachineStatus.PAUSED:
            return self._known(lease_hash)
        return self._set(lease_hash, MachineStatus.PAUSED, reason="paused")

    async def resume(self, lease_hash: Hash) -> Machine:
        await trio.lowlevel.checkpoint()
        if self._up(lease_hash).status is MachineStatus.RUNNING:
            return self._known(lease_hash)
        return self._set(lease_hash, MachineStatus.RUNNING, ssh_port=22)

    async def reboot(self, lease_hash: Hash, tell: Tell = nobody) -> Machine:
        self._up(lease_hash)
        return await self._boot(lease_hash, tell)

    async def reset(self, lease_hash: Hash, tell: Tell = nobody) -> Machine:
        return await self.reboot(lease_hash, tell)

    async def destroy(self, lease_hash: Hash, proof: Proof) -> None:
        await trio.lowlevel.checkpoint()
        if proof.lease_hash != lease_hash:
            raise NotAllowed("wrong_proof", "the proof is of another lease's end, so this machine stays")
        machine = self.disk.machines.get(lease_hash)
        if isinstance(proof, SpareProof) and machine is not None and not machine.spec.is_spare:
            raise NotAllowed("not_a_spare", "the proof says that nobody leased it, but somebody has: it stays")
        self._interrupt(lease_hash)
        if self.disk.machines.pop(lease_hash, None) is not None:
            self.disk.destroyed[lease_hash] = proof

    async def execute(self, lease_hash: Hash, command: str, timeout: float) -> ExecResult:
        await trio.lowlevel.checkpoint()
        self._running(lease_hash)
        return ExecResult(0, command.encode(), b"", 0, False)

    async def dial_ssh(self, lease_hash: Hash) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        self._running(lease_hash)
        ours, guest = trio.socket.socketpair()
        self.disk.guests.append(trio.SocketStream(guest))
        return trio.SocketStream(ours)

    async def console(self, lease_hash: Hash, position: int, patience: float = 0) -> ConsolePart:
        self._known(lease_hash)
        written = self.disk.consoles.get(lease_hash, b"")
        start = max(0, len(written) + position) if position < 0 else position if position <= len(written) else 0
        if start == len(written):
            await trio.sleep(patience)
        written = self.disk.consoles.get(lease_hash, b"")
        return ConsolePart(written[start:], len(written))

    async def figures(self, lease_hash: Hash) -> MachineFigures:
        await trio.lowlevel.checkpoint()
        running = self._up(lease_hash).status is MachineStatus.RUNNING
        return MachineFigures(self._clock(), 1, 1, 1, 0, 0, *((1, 0, 0) if running else (None, None, None)))

    async def adopt(self) -> tuple[Machine, ...]:
        await trio.sleep(self.disk.adopt_seconds)
        return self.machines()

    async def refresh(self) -> tuple[Machine, ...]:
        await trio.lowlevel.checkpoint()
        self.room = self.room_beside_spares = self.disk.room
        return self.machines()

    def machines(self) -> tuple[Machine, ...]:
        return tuple(self.disk.machines[lease_hash] for lease_hash in sorted(self.disk.machines))

    def _known(self, lease_hash: Hash) -> Machine:
        if lease_hash not in self.disk.machines:
            raise NotFound("machine_not_found", "there is no such machine")
        return self.disk.machines[lease_hash]

    def _up(self, lease_hash: Hash) -> Machine:
        machine = self._known(lease_hash)
        if machine.status not in (MachineStatus.RUNNING, MachineStatus.PAUSED):
            raise WrongState("not_running", "the machine does not run: start it first")
        return machine

    def _running(self, lease_hash: Hash) -> None:
        if self._up(lease_hash).status is not MachineStatus.RUNNING:
            raise WrongState("not_running", "the machine does not run: resume it first")

    def _interrupt(self, lease_hash: Hash) -> None:
        if lease_hash in self._booting:
            self._booting[lease_hash].cancel()

    def _set(self, lease_hash: Hash, status: MachineStatus, ssh_port: int = 0, reason: str = "") -> Machine:
        machine = self._known(lease_hash)._replace(
            status=status, ssh_port=ssh_port, reason=reason, state_since=self._clock()
        )
        self.disk.machines[lease_hash] = machine
        return machine
