"""The port that every machine driver fills: one-sentence contracts, the same for QEMU, Lima and the simulator's fake.

A driver keeps what it knows on disk, so that a node that was killed finds its machines again. All methods run on the
node's trio loop and block it for no more than a few milliseconds; they fail with MachineFault, NotFound or WrongState.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

import trio

from xnode.core.faults import NotAllowed
from xnode.core.machine import ConsolePart, ExecResult, HostRoom, Machine, MachineFigures, MachineSpec
from xnode.core.orphan import Proof
from xnode.core.values import Hash

Tell = Callable[[str], object]
MOVED_IN: Final = "moved_in"  # told when a former spare has taken the lease's name and key, and no other lets in
BOOTED: Final = "booted"  # told when the guest has said that its SSH server starts; the login comes after that


def nobody(step: str) -> None:
    """Whom steps are told where nobody asks."""


class Driver(ABC):
    """One kind of virtual machine on this host."""

    name: str
    accelerator: str  # "kvm" or "tcg": what guests really run on
    room: HostRoom | None = None  # what the host had left at the last look; None where the driver does not look
    internet: str = "none"  # what guests reach beside their own SSH port: "none", or "open"
    room_beside_spares: HostRoom | None = None  # the same with spares counted as what they take; `room` leaves them out
    has_pool: bool = False  # whether it can boot spares and make them a lease's machine
    limits: str = "the guest's own size"  # how memory and CPU of machines are held, for people
    damaged: tuple[str, ...] = ()  # machines whose records `adopt` could not read, one message each

    @abstractmethod
    async def create(self, spec: MachineSpec) -> Machine:
        """Prepares a machine's files (disk, seed, host key) durably; repeated for the same spec it changes nothing."""

    @abstractmethod
    async def full_image(self, image: str) -> str:
        """The content-addressed name of what leases get for an image's name now; NotAllowed(no_pool) without a pool."""

    @abstractmethod
    async def take(self, spare: Hash, spec: MachineSpec) -> Machine:
        """Makes a running spare, created with the key NOBODY, the machine of a lease: durably, before its consumer's
        key is anywhere; `start` then puts that in, or boots the machine anew. Done already is success. Whatever it
        raises, the spare is still one: NotFound, WrongState, MachineFault(spare_unfit), NotAllowed(no_pool)."""

    @abstractmethod
    async def start(self, lease_hash: Hash, tell: Tell = nobody) -> Machine:
        """Boots it and returns once an SSH login with the provider's own key has worked; already running is success.

        What is behind it on the way is told by its word, such as BOOTED, once each.
        """

    @abstractmethod
    async def stop(self, lease_hash: Hash) -> Machine:
        """Powers it off, gently then firmly, and keeps its disk; already stopped is success."""

    @abstractmethod
    async def pause(self, lease_hash: Hash) -> Machine:
        """Holds it still with all that is in its memory; already paused is success, not up WrongState(not_running)."""

    @abstractmethod
    async def resume(self, lease_hash: Hash) -> Machine:
        """Lets a paused machine run on; already running is success, not up WrongState(not_running)."""

    @abstractmethod
    async def reboot(self, lease_hash: Hash, tell: Tell = nobody) -> Machine:
        """Powers it off like `stop` and boots it like `start`; WrongState(not_running) when it is not up."""

    @abstractmethod
    async def reset(self, lease_hash: Hash, tell: Tell = nobody) -> Machine:
        """Like `reboot`, but its guest is not asked, as by a power cut; for one that hangs."""

    @abstractmethod
    async def destroy(self, lease_hash: Hash, proof: Proof) -> None:
        """Ends it and removes its files; only with the proof that its lease is over, or is none, or that it never was
        leased, which a machine that is no spare refuses; gone is success."""

    @abstractmethod
    async def execute(self, lease_hash: Hash, command: str, timeout: float) -> ExecResult:
        """Runs a shell command in it as root; after `timeout` seconds the command is killed and exit code is 124."""

    @abstractmethod
    async def dial_ssh(self, lease_hash: Hash) -> trio.SocketStream:
        """Connects to its SSH port; raises WrongState(not_running) when it does not run."""

    @abstractmethod
    async def console(self, lease_hash: Hash, position: int, patience: float = 0) -> ConsolePart:
        """What it has written to its serial console since `position`, waiting up to `patience` seconds for anything.

        Below 0 the position counts from the end; one that lies behind the end, since the console was emptied by a
        start or for its length, is taken for 0. To follow a console is to ask again with the position returned.
        """

    @abstractmethod
    async def figures(self, lease_hash: Hash) -> MachineFigures:
        """What it uses of processor, memory, disk and network; WrongState(not_running) when it is not up."""

    @abstractmethod
    async def adopt(self) -> tuple[Machine, ...]:
        """Called once at start: finds the machines left by an earlier run, running or not, and takes them over."""

    @abstractmethod
    async def refresh(self) -> tuple[Machine, ...]:
        """Looks at every machine's process and returns what is true now, sorted by lease hash."""

    @abstractmethod
    def machines(self) -> tuple[Machine, ...]:
        """What was true at the last look, without waiting, sorted by lease hash."""


def no_pool(driver: str) -> NotAllowed:
    """What a driver without a pool answers to everything about it."""
    return NotAllowed("no_pool", f"the driver {driver} boots no machines beforehand: leave machine_pool empty")
