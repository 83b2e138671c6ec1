"""What the roles and the machine drivers tell each other about virtual machines: plain values (section 12)."""

from enum import StrEnum
from typing import Final, NamedTuple

from xnode.core.values import Hash, PublicKey

NOBODY: Final = PublicKey(bytes(32))  # no key at all: nobody can hold it


class MachineStatus(StrEnum):
    """The states a machine is shown in (http-api: GET /vms)."""

    PROVISIONING = "provisioning"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"
    DESTROYED = "destroyed"


class MachineSpec(NamedTuple):
    """What a lease asks of a machine. memory in MiB, disk in GiB; a zero means the driver's least."""

    lease_hash: Hash
    vcpus: int
    memory_mb: int
    disk_gb: int
    access_key: PublicKey
    image: str  # "" means the driver's default image

    @property
    def is_spare(self) -> bool:
        """Whether it is nobody's yet: a machine of the pool (pool.py), by an id of its own in place of a lease's."""
        return self.access_key == NOBODY


class Machine(NamedTuple):
    """One machine as a driver sees it; times in ns since the epoch, `host_key` ed25519, `ssh_port` on 127.0.0.1."""

    spec: MachineSpec
    name: str  # "xnode-" + the first 12 characters of the lease hash
    status: MachineStatus
    host_key: PublicKey
    ssh_port: int  # 0 while it does not run, and where its network is not this host's
    driver: str
    image: str
    accelerator: str
    created_at: int
    state_since: int
    reason: str  # why it failed or stopped; "" otherwise


class HostRoom(NamedTuple):
    """What a host has left for new machines, its reserves and the growth of those that are there taken off."""

    machines: int
    memory_mb: int  # MiB
    disk_gb: int  # GiB
    overhead_mb: int  # MiB that a machine takes beyond its memory


class ExecResult(NamedTuple):
    """The outcome of one command in a machine; the streams are cut at 1 MiB each, then `truncated` is true."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    duration_ms: int
    truncated: bool


class ConsolePart(NamedTuple):
    """A piece of what a guest wrote to its serial console: any bytes at all, at most 64 KiB of them."""

    data: bytes
    position: int  # of the byte after it, to ask for the next piece


class MachineFigures(NamedTuple):
    """What a machine uses. Counters run since it was last started; what only the guest can tell is None where it
    does not answer, as in a paused machine."""

    at: int  # ns since the epoch
    cpu_ns: int  # of the host's processors
    memory_bytes: int  # of the host's, the emulator's own included
    disk_bytes: int  # of the host's
    disk_read_bytes: int
    disk_written_bytes: int
    guest_memory_bytes: int | None  # in use, as the guest counts it
    network_received_bytes: int | None
    network_sent_bytes: int | None


def machine_name(lease_hash: Hash) -> str:
    """The machine's name (section 12)."""
    return "xnode-" + lease_hash.hex()[:12]
