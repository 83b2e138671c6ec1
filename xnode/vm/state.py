"""The durable record of one machine: `machine.json` in its directory. It holds no secret.

Written only by `save`, which replaces it atomically; read at start, when the node looks for the machines it left.
"""

import json
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from xnode.core.faults import CallerFault, MachineFault
from xnode.core.machine import Machine, MachineSpec, MachineStatus, machine_name
from xnode.core.values import Hash, PublicKey, hash_from_hex, public_key_from_hex
from xnode.vm.durable import write_file
from xnode.vm.limits import RECORD_BYTES_MAX

RECORD_NAME: Final = "machine.json"
_FORMAT: Final = 1


class Record(NamedTuple):
    """What must survive the node. Times in ns since the epoch; `started_ticks` as in /proc/PID/stat."""

    spec: MachineSpec
    image: str  # the image directory's name, content-addressed
    memory_mb: int  # what the machine really gets, the image's least included
    host_key: PublicKey
    accelerator: str
    created_at: int
    status: MachineStatus
    state_since: int
    reason: str = ""
    pid: int = 0
    started_ticks: int = 0
    ssh_port: int = 0
    uid: int = 0  # QEMU's user, where the machine has one of its own
    boots_itself: bool = False  # by its disk's boot loader; else by our kernel and initrd
    has_internet: bool = False  # its QEMU is in a network namespace of its own, and there `ssh_port` is too
    born_as: str = ""  # the id of the spare that this machine was before it was leased, in hexadecimal
    is_arriving: bool = False  # the consumer's key is not, or not surely, in it yet (spares.py)

    @property
    def born(self) -> Hash:
        """What its QEMU and its cgroup are named for, as long as the machine lives."""
        return hash_from_hex(self.born_as) if self.born_as else self.spec.lease_hash

    @property
    def uuid(self) -> str:
        """The machine's UUID, by which its QEMU process is known again."""
        return machine_uuid(self.born)

    def at(self, status: MachineStatus, now: int, reason: str = "") -> "Record":
        """The record after a change of state; a stopped machine has neither process nor port."""
        if (status, reason) == (self.status, self.reason):
            return self
        moved = self._replace(status=status, state_since=now, reason=reason)
        lives = status in (MachineStatus.PROVISIONING, MachineStatus.RUNNING, MachineStatus.PAUSED)
        return moved if lives else moved._replace(pid=0, started_ticks=0, ssh_port=0)

    def machine(self, driver: str) -> Machine:
        """The value that the roles see."""
        port = self.ssh_port if self.status is MachineStatus.RUNNING and not self.has_internet else 0
        return Machine(
            self.spec, machine_name(self.spec.lease_hash), self.status, self.host_key, port, driver, self.image,
            self.accelerator, self.created_at, self.state_since, self.reason,
        )  # fmt: skip


def machine_uuid(lease_hash: Hash) -> str:
    """The first half of the lease hash, written as a UUID."""
    return str(UUID(bytes=lease_hash[:16]))


def save(directory: Path, record: Record) -> None:
    """Replaces the record durably; blocks for an fsync."""
    write_file(directory / RECORD_NAME, render(record))


def load(directory: Path) -> Record:
    """Reads it; raises MachineFault(machine_record_damaged)."""
    path = directory / RECORD_NAME
    try:
        with path.open("rb") as file:
            return parse(file.read(RECORD_BYTES_MAX))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CallerFault) as error:
        message = f"{path} can't be read ({error}): restore it, or remove {directory} if its lease is over"
        raise MachineFault("machine_record_damaged", message) from error


def render(record: Record) -> bytes:
    """The record as JSON."""
    plain: dict[str, object] = {"format": _FORMAT, **record._asdict()}
    plain["host_key"] = record.host_key.hex()
    spec = record.spec._asdict()
    plain["spec"] = {**spec, "lease_hash": spec["lease_hash"].hex(), "access_key": spec["access_key"].hex()}
    return json.dumps(plain, indent=1).encode() + b"\n"


def parse(data: bytes) -> Record:
    """The record from JSON; raises ValueError, KeyError, TypeError, AttributeError or CallerFault where it is not."""
    plain = json.loads(data)
    if plain.pop("format") != _FORMAT:
        raise ValueError("written by another version of the node")
    spec = plain.pop("spec")
    lease_hash, access_key = hash_from_hex(spec.pop("lease_hash")), public_key_from_hex(spec.pop("access_key"))
    return Record(
        spec=MachineSpec(lease_hash=lease_hash, access_key=access_key, **spec),
        host_key=public_key_from_hex(plain.pop("host_key")),
        status=MachineStatus(plain.pop("status")),
        **plain,
    )
