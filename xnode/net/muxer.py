"""Yamux, hardened: what py-libp2p 0.8.1's muxer does wrong is put right here by subclasses.

Cures (runtime spec, "libp2p 0.8.1"), each with a test that fails on the stock library:
- a cancelled write breaks the connection: a frame is written shielded and in bounded time;
- a writer whose peer does not read for 5 s loses the stream: `wait_sendable` waits outside `write`;
- the receive window is not enforced: a peer that overruns it loses its connection; the window is fixed;
- a 64 KiB frame in more than 101 reads kills the connection: an own `read_exactly`;
- silent peers are never dropped: Yamux pings with a deadline.

Found beside these: two writers on one stream interleave their frames (a turn for each); a read that is
cancelled while it announces window loses its data (the announcement comes before the read); a lost
connection reads as an end (it is a reset).
"""

import logging
import struct
from typing import Any, Final

import trio
from libp2p.abc import ISecureConn
from libp2p.io.abc import Reader
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamReset
from libp2p.stream_muxer.yamux import yamux

log = logging.getLogger(__name__)

WINDOW_BYTES: Final = 1024 * 1024  # receive window of a stream, and so its largest buffer
CHUNK_BYTES: Final = yamux.MAX_MESSAGE_SIZE - yamux.HEADER_SIZE  # most that one frame carries
OPENING_BYTES: Final = 1024  # what a stream must have received before its window grows to full
WRITE_TIMEOUT_SECONDS: Final = 15.0  # a peer whose TCP takes no frame for so long is gone
PING_INTERVAL_SECONDS: Final = 5.0
PING_TIMEOUT_SECONDS: Final = 12.0  # with the interval: a silent peer is dropped within 17 s


class WindowOverrun(trio.TooSlowError):
    """A peer sent past its window. A TooSlowError, for that is the one the muxer ends a connection on."""


class _Buffer(bytearray):
    def extend(self, data: Any) -> None:
        if len(self) + len(data) > WINDOW_BYTES:
            raise WindowOverrun(f"the peer sent more than {WINDOW_BYTES} bytes that nobody has read")
        super().extend(data)


class _Buffers(dict[int, bytearray]):
    def __setitem__(self, stream_id: int, buffer: bytearray) -> None:
        super().__setitem__(stream_id, _Buffer(buffer))


async def read_exactly(reader: Reader, n: int) -> bytes:
    """Exactly `n` bytes, in however many pieces they come. Raises IncompleteReadError."""
    data = bytearray()
    while len(data) < n:
        piece = await reader.read(n - len(data))
        if not piece:
            raise IncompleteReadError(
                f"closed after {len(data)} of {n} bytes", expected_bytes=n, received_bytes=len(data)
            )
        data += piece
    return bytes(data)


class HardYamuxStream(yamux.YamuxStream):
    """A stream with a fixed window, whole writes, and waiters instead of polling."""

    def __init__(self, stream_id: int, conn: yamux.Yamux, is_initiator: bool) -> None:
        self._changed = trio.Event()  # pulsed whenever window or state change
        self._write_turn = trio.Lock()
        self._received_bytes = 0
        super().__init__(stream_id, conn, is_initiator)

    @property
    def send_window(self) -> int:
        return self._send_window

    @send_window.setter
    def send_window(self, value: int) -> None:
        self._send_window = value
        self._changed.set()

    @property
    def closed(self) -> bool:
        return self._closed

    @closed.setter
    def closed(self, value: bool) -> None:
        self._closed = value
        self._changed.set()

    async def wait_sendable(self) -> None:
        """Until the peer has room, however long it takes; returns as well when the stream has ended."""
        while self.send_window <= 0 and not (self.closed or self.send_closed):
            await self._wait_change()

    async def wait_closed(self) -> None:
        while not self.closed:
            await self._wait_change()

    async def _wait_change(self) -> None:
        if self._changed.is_set():
            self._changed = trio.Event()
        await self._changed.wait()

    async def write(self, data: bytes) -> None:
        async with self._write_turn:
            await super().write(data)

    async def read(self, n: int | None = -1) -> bytes:
        # Before the data is taken, so that a cancelled read has lost nothing.
        await self._announce_window()
        try:
            return await super().read(n)
        except MuxedStreamEOF:
            # Stock calls a lost connection an end; it is one only when the peer said so.
            if self.recv_closed and not self.reset_received:
                raise
            raise MuxedStreamReset("the connection is gone") from None

    async def _auto_tune_and_send_window_update(self, *, bytes_read: int = 0) -> None:
        """Stock grows the window to 16 MiB for a reader that sleeps; here reads are only counted."""
        self._pending_recv_release += bytes_read
        self._received_bytes += bytes_read

    async def _announce_window(self) -> None:
        growth = 0
        if self.target_recv_window < WINDOW_BYTES and self._received_bytes >= OPENING_BYTES:
            growth = WINDOW_BYTES - self.target_recv_window
        if not growth and self._pending_recv_release < self.target_recv_window // 2:
            return
        increment = growth + self._pending_recv_release
        await self.send_window_update(increment)
        self.target_recv_window += growth
        self.recv_window += increment
        self._pending_recv_release = 0


class HardYamux(yamux.Yamux):
    """A connection that cancellation cannot break, a peer cannot flood, and silence ends."""

    def __init__(self, secured_conn: ISecureConn, *args: Any, **kwargs: Any) -> None:
        super().__init__(secured_conn, *args, **kwargs)
        self.stream_buffers = _Buffers()

    async def _write_frame(self, data: bytes) -> None:
        async with self._write_lock:  # may be cancelled here: nothing is encrypted yet
            if self.event_shutting_down.is_set() and data[1] != yamux.TYPE_GO_AWAY:
                raise ConnectionClosedError("the connection is shutting down", transport="tcp")
            with trio.CancelScope(shield=True), trio.move_on_after(WRITE_TIMEOUT_SECONDS) as limit:
                await self.secured_conn.write(data)
            if limit.cancelled_caught:
                await self.abort()
                raise ConnectionClosedError("the peer took no bytes for too long", transport="tcp")
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def abort(self) -> None:
        """Closes the socket without a word; the reading loop then cleans up."""
        self.event_shutting_down.set()
        with trio.CancelScope(shield=True):
            await self.secured_conn.close()

    async def close(self, error_code: int = yamux.GO_AWAY_NORMAL) -> None:
        # Stock ends the streams as if the peer had finished them: a cut must not look like an end.
        for stream in self.streams.values():
            stream.reset_received = True
        await super().close(error_code)

    async def _measure_rtt_loop(self) -> None:
        """In place of stock's ping each 30 s, which nobody acts on."""
        while not self.event_shutting_down.is_set():
            if not await self._answers_ping():
                log.debug("peer %s is silent: dropped", self.peer_id)
                await self.abort()
                return
            with trio.move_on_after(PING_INTERVAL_SECONDS):
                await self.event_shutting_down.wait()

    async def _answers_ping(self) -> bool:
        self._ping_id = (self._ping_id + 1) % 2**32
        self._ping_event = trio.Event()
        frame = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, self._ping_id)
        try:
            await self._write_frame(frame)
        except (ConnectionClosedError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        self._ping_sent_time = trio.current_time()
        with trio.move_on_after(PING_TIMEOUT_SECONDS):
            await self._ping_event.wait()
        return self._ping_event.is_set()
