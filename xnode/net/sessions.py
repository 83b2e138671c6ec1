"""What every stream protocol shares: few sessions per peer, each of bounded time and with a certain end."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType

import trio

from xnode.core.codec import Malformed, Plain, decode, encode
from xnode.core.faults import PeerFault, Unavailable
from xnode.net.streams import PeerId, Stream, read_frame, write_frame


class PeerSlots:
    """Counts sessions, in all and per peer, and refuses more than so many."""

    def __init__(self, total_max: int, per_peer_max: int) -> None:
        self._total_max = total_max
        self._per_peer_max = per_peer_max
        self._taken: Counter[PeerId] = Counter()

    @property
    def taken(self) -> int:
        """Slots in use."""
        return self._taken.total()

    @contextmanager
    def take(self, peer_id: PeerId) -> Iterator[None]:
        """Holds a slot during the block; raises Unavailable(busy) at once when none is free."""
        if self.taken >= self._total_max or self._taken[peer_id] >= self._per_peer_max:
            raise Unavailable("busy", "too many requests at once; try again later", retryable=True)
        self._taken[peer_id] += 1
        try:
            yield
        finally:
            self._taken[peer_id] -= 1
            if not self._taken[peer_id]:
                del self._taken[peer_id]


class TimeLimit:
    """See `time_limit`; a class, because there is one for every message."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._scope = trio.move_on_after(seconds)

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.__exit__(kind, error, trace)
        if self._scope.cancelled_caught:
            raise PeerFault("peer_too_slow", f"the peer did not finish within {self._seconds:g} s")


def time_limit(seconds: float) -> TimeLimit:
    """Raises PeerFault(peer_too_slow) when the block takes longer than `seconds`."""
    return TimeLimit(seconds)


@asynccontextmanager
async def session(stream: Stream, seconds: float) -> AsyncIterator[None]:
    """Ends the stream politely after the block, or resets it after anything else.

    Raises PeerFault(peer_too_slow) when the block takes longer than `seconds`.
    """
    done = False
    try:
        with time_limit(seconds):
            yield
        done = True
    finally:
        if done:
            await stream.aclose()
        else:
            await stream.reset()


async def read_record(stream: Stream, bytes_max: int) -> tuple[Plain, ...]:
    """One frame holding one canonical record. Raises PeerFault."""
    frame = await read_frame(stream, bytes_max)
    try:
        return decode(frame, bytes_max)
    except Malformed as error:
        raise PeerFault("malformed", f"the peer sent a bad frame: {error}") from error


async def write_record(stream: Stream, record: tuple[Plain, ...]) -> None:
    """The counterpart of `read_record`."""
    await write_frame(stream, encode(record))
