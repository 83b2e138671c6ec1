"""Machines on virtual time: what would be on a provider's disk is in `Disk`, which outlives the node that used it."""

from collections import Counter
from collections.abc import Callable

import trio

from tests.support.ledger import key_of
from xnode.core.faults import MachineFault, NotFound, WrongState
from xnode.core.lease import EndProof
from xnode.core.machine import ExecResult, Machine, MachineSpec, MachineStatus, machine_name
from xnode.core.values import Hash, PublicKey
from xnode.vm.driver import Driver

BOOT_SECONDS = 5.0


class Disk:
    """Machines by lease, and a record of what was done to them. The next `boots_to_fail` boots fail."""

    def __init__(self) -> None:
        self.machines: dict[Hash, Machine] = {}
        self.destroyed: dict[Hash, EndProof] = {}
        self.boots: Counter[Hash] = Counter()
        self.boots_to_fail = 0
        self.boot_seconds = BOOT_SECONDS
        self.adopt_seconds = 0.0
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
    accelerator = "tcg"

    def __init__(self, disk: Disk, clock: Callable[[], int]) -> None:
        self.disk = disk
        self._clock = clock

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
        return machine

    async def start(self, lease_hash: Hash) -> Machine:
        if self._known(lease_hash).status is MachineStatus.RUNNING:
            return self._known(lease_hash)
        self.disk.boots[lease_hash] += 1
        self._set(lease_hash, MachineStatus.PROVISIONING)
        await trio.sleep(self.disk.boot_seconds)
        if self.disk.boots_to_fail > 0:
            self.disk.boots_to_fail -= 1
            self._set(lease_hash, MachineStatus.FAILED, reason="no SSH login in time")
            raise MachineFault("boot_failed", "the machine did not answer on SSH in time")
        return self._set(lease_hash, MachineStatus.RUNNING, ssh_port=22)

    async def stop(self, lease_hash: Hash) -> Machine:
        await trio.lowlevel.checkpoint()
        return self._set(lease_hash, MachineStatus.STOPPED, reason="stopped")

    async def destroy(self, lease_hash: Hash, proof: EndProof) -> None:
        await trio.lowlevel.checkpoint()
        assert proof.lease_hash == lease_hash
        if self.disk.machines.pop(lease_hash, None) is not None:
            self.disk.destroyed[lease_hash] = proof

    async def execute(self, lease_hash: Hash, command: str, timeout: float) -> ExecResult:
        await trio.lowlevel.checkpoint()
        self._known(lease_hash)
        return ExecResult(0, command.encode(), b"", 0, False)

    async def dial_ssh(self, lease_hash: Hash) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        if self._known(lease_hash).status is not MachineStatus.RUNNING:
            raise WrongState("not_running", "the machine does not run")
        ours, guest = trio.socket.socketpair()
        self.disk.guests.append(trio.SocketStream(guest))
        return trio.SocketStream(ours)

    async def adopt(self) -> tuple[Machine, ...]:
        await trio.sleep(self.disk.adopt_seconds)
        return self.machines()

    async def refresh(self) -> tuple[Machine, ...]:
        await trio.lowlevel.checkpoint()
        return self.machines()

    def machines(self) -> tuple[Machine, ...]:
        return tuple(self.disk.machines[lease_hash] for lease_hash in sorted(self.disk.machines))

    def _known(self, lease_hash: Hash) -> Machine:
        if lease_hash not in self.disk.machines:
            raise NotFound("vm_unknown", "there is no such machine")
        return self.disk.machines[lease_hash]

    def _set(self, lease_hash: Hash, status: MachineStatus, ssh_port: int = 0, reason: str = "") -> Machine:
        machine = self._known(lease_hash)._replace(
            status=status, ssh_port=ssh_port, reason=reason, state_since=self._clock()
        )
        self.disk.machines[lease_hash] = machine
        return machine
