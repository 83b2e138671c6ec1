"""What sync needs of the ledger, and tells it: the two sides that `roles/ledger_sync.py` implements."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from xnode.core.values import Address, Hash
from xnode.net.streams import PeerId
from xnode.net.sync_plan import Frontier, Resume, Taken


class Extent(NamedTuple):
    """How large the ledger is; `digest` has 32 bytes, equal on two nodes exactly if all their frontiers are."""

    digest: bytes
    blocks: int
    last_arrival: int


class Logged(NamedTuple):
    """An entry of the log of arrivals; `wire` is empty where it is of a part that is not asked for."""

    arrival: int
    wire: bytes


class SyncSource(ABC):
    """What this node can give. No call, and no step of an iterator, takes longer than a few milliseconds."""

    @abstractmethod
    def extent(self) -> Extent:
        """How large it is now."""

    @abstractmethod
    def parts(self) -> bytes:
        """The fingerprints of all parts."""

    @abstractmethod
    def buckets(self, parts: Sequence[int]) -> bytes:
        """The fingerprints of the buckets of these parts."""

    @abstractmethod
    def frontiers(self, buckets: Sequence[int]) -> Iterator[Frontier]:
        """(account, height, head) of every account with blocks in these buckets (in order), sorted by account."""

    @abstractmethod
    def missing(self, wanted: Mapping[Address, tuple[int, Hash]], limit: int) -> Iterator[bytes]:
        """Up to `limit` wire blocks above these heights and heads, in their order of arrival here.

        May yield b"" where it searches for long, so that others can run.
        """

    @abstractmethod
    def log(self, parts: frozenset[int], after: int) -> Iterator[Logged]:
        """All arrivals after that one, oldest first, with the blocks of these parts."""


class Judging(Protocol):
    """Blocks that are being checked."""

    def land(self, resume: Resume | None) -> Awaitable[Taken]:
        """Waits for the checks, then judges and applies the blocks, in order; `resume` is remembered with them.

        Raises PeerFault where one of them is bad whoever looks.
        """


class SyncSink(ABC):
    """Where fetched blocks go."""

    @abstractmethod
    def start(self, peer_id: PeerId, wires: Sequence[bytes]) -> Judging:
        """Begins to check blocks that a peer sent; several pages may be under way, and land in their order."""

    @abstractmethod
    def flush(self) -> None:
        """Lets everything that has landed be seen, and be on disk."""

    @abstractmethod
    def resume(self, peer_id: PeerId) -> Resume | None:
        """How far this peer was followed, also before a restart."""

    @abstractmethod
    def is_crowded(self) -> bool:
        """Whether so many blocks wait for others that only what they need should be asked for."""
