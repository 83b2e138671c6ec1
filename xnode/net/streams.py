"""One conversation with a peer, as bytes: the only shape of a stream that the rest of the node sees.

libp2p's own streams end with an exception, call a half-close `close`, and give up after five seconds of a
full window. `Stream` has none of that: an end is `b""`, a reset is PeerFault(stream_reset), a write waits.
"""

from abc import ABC, abstractmethod
from typing import Final, NewType

import trio

from xnode.core.faults import PeerFault

PeerId = NewType("PeerId", str)  # libp2p's base58 text, e.g. 12D3Koo...

SPLICE_CHUNK_BYTES: Final = 64 * 1024
FRAME_HEADER_BYTES: Final = 4
CLOSE_TIMEOUT_SECONDS: Final = 5.0  # longest polite close or reset after the last byte


class Stream(ABC):
    """A two-way byte stream with half-close. One reader and one writer at a time."""

    peer_id: PeerId

    @abstractmethod
    async def read(self, count: int) -> bytes:
        """Up to `count` bytes, at least one; b"" at the end. Raises PeerFault(stream_reset)."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Sends all of `data`, waiting for the peer's window as long as it takes.

        Raises PeerFault(stream_reset). May be cancelled: the connection lives on, but part of `data`
        may be sent, so the stream must then be reset.
        """

    @abstractmethod
    async def close_write(self) -> None:
        """Says that nothing more is written; reading goes on. Raises PeerFault(stream_reset)."""

    @abstractmethod
    async def aclose(self) -> None:
        """Ends both ways politely, in bounded time; never raises but Cancelled."""

    @abstractmethod
    async def reset(self) -> None:
        """Drops the stream at once, both ways; never raises, is not cancelled, and is bounded in time."""

    async def read_exactly(self, count: int) -> bytes:
        """Exactly `count` bytes. Raises PeerFault(stream_ended) when the peer ends before."""
        data = bytearray()
        while len(data) < count:
            piece = await self.read(count - len(data))
            if not piece:
                raise PeerFault("stream_ended", f"the peer ended after {len(data)} of {count} bytes")
            data += piece
        return bytes(data)


async def read_frame(stream: Stream, bytes_max: int) -> bytes:
    """One frame: 4 bytes of big-endian length, then so many bytes. Raises PeerFault(frame_too_long)."""
    length = int.from_bytes(await stream.read_exactly(FRAME_HEADER_BYTES), "big")
    if length > bytes_max:
        raise PeerFault("frame_too_long", f"the peer announced {length} bytes, at most {bytes_max} are taken")
    return await stream.read_exactly(length)


async def write_frame(stream: Stream, data: bytes) -> None:
    """The counterpart of `read_frame`, in one write."""
    await stream.write(len(data).to_bytes(FRAME_HEADER_BYTES, "big") + data)


async def splice(stream: Stream, sock: trio.abc.HalfCloseableStream, early: bytes, eof: bool) -> None:
    """Carries bytes both ways until both ways have ended, and passes each half-close on.

    `early` is what the socket's side sent before the splice, `eof` says that it has ended already.
    Owns and closes both ends. When either breaks, both are dropped at once; that is no error here,
    for it is how most tunnels end.
    """
    polite = False
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_upstream, stream, sock, early, eof)
            nursery.start_soon(_downstream, stream, sock)
        polite = True
    except* (PeerFault, trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        pass
    finally:
        await _close_both(stream, sock, polite)


async def _upstream(stream: Stream, sock: trio.abc.HalfCloseableStream, early: bytes, eof: bool) -> None:
    if early:
        await stream.write(early)
    while not eof:
        data = await sock.receive_some(SPLICE_CHUNK_BYTES)
        if not data:
            break
        await stream.write(bytes(data))
    await stream.close_write()


async def _downstream(stream: Stream, sock: trio.abc.HalfCloseableStream) -> None:
    while data := await stream.read(SPLICE_CHUNK_BYTES):
        await sock.send_all(data)
    await sock.send_eof()


async def _close_both(stream: Stream, sock: trio.abc.HalfCloseableStream, polite: bool) -> None:
    with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_TIMEOUT_SECONDS):
        if polite:
            await stream.aclose()
        else:
            await stream.reset()
    await trio.aclose_forcefully(sock)
