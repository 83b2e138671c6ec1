"""Guards at the two doors of the swarm: who may connect, and what a stream's handler may break.

Defects of py-libp2p 0.8.1 and their cures here:
- every inbound connection keeps a slot for ever, so that number 251 is refused: own slots, given back;
- an exception in a stream handler ends `host.run()`: it resets that stream;
- one peer can take all streams: a limit for each peer;
- a handler that has ended leaves a half-open stream behind: it is closed after a short wait.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio
from libp2p.abc import IMuxedConn, INetStream
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from xnode.net.muxer import HardYamux, HardYamuxStream

log = logging.getLogger(__name__)

LINGER_SECONDS: Final = 5.0  # how long a peer may take to end its half of a finished stream
CLOSE_SECONDS: Final = 2.0

StreamHandler = Callable[[INetStream], Awaitable[None]]


class StreamGuard:
    """Stands before all handlers of inbound streams."""

    def __init__(self, inner: StreamHandler, streams_per_peer_max: int) -> None:
        self._inner = inner
        self._max = streams_per_peer_max
        self._open: Counter[ID] = Counter()

    async def __call__(self, stream: INetStream) -> None:
        peer = stream.muxed_conn.peer_id
        if self._open[peer] >= self._max:
            await _reset(stream)
            return
        self._open[peer] += 1
        try:
            await self._handle(stream)
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

    async def _handle(self, stream: INetStream) -> None:
        try:
            await self._inner(stream)
        except Exception as error:  # noqa: BLE001 -- the peer-message edge: it costs the peer that stream only
            log.info("a stream of %s failed: %r", stream.muxed_conn.peer_id, error)
            await _reset(stream)
            return
        muxed = getattr(stream, "muxed_stream", None)
        if isinstance(muxed, HardYamuxStream) and not muxed.closed:
            with trio.move_on_after(LINGER_SECONDS):
                await muxed.wait_closed()
            await _reset(stream)


async def _reset(stream: INetStream) -> None:
    # The peer-message edge: a stream that can't even be reset is gone with its connection.
    with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_SECONDS), suppress(Exception):
        await stream.reset()


class InboundDoor:
    """Takes connections in while there are slots, and gives each slot back when its connection ends."""

    def __init__(self, swarm: Swarm, slots: int) -> None:
        self._swarm = swarm
        self.slots = trio.CapacityLimiter(slots)

    async def __call__(self, closer: ReadWriteCloser, maddr: Multiaddr) -> None:
        try:
            self.slots.acquire_on_behalf_of_nowait(closer)
        except trio.WouldBlock:
            await _close(closer)
            return
        try:
            await self._hold(RawConnection(closer, False), maddr)
        except Exception as error:  # noqa: BLE001 -- the peer-message edge: a bad handshake costs one connection
            log.debug("an inbound connection failed: %r", error)
        finally:
            await _close(closer)
            self.slots.release_on_behalf_of(closer)

    async def _hold(self, raw: RawConnection, maddr: Multiaddr) -> None:
        muxed = await self._swarm.upgrade_inbound_raw_conn(raw, maddr)
        if isinstance(muxed, HardYamux):
            await muxed.event_closed.wait()


async def _close(closer: ReadWriteCloser) -> None:
    # The peer-message edge: libp2p raises here what the transport raised.
    with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_SECONDS), suppress(Exception):
        await closer.close()


class AdmissionGuard:
    """Refuses a peer by its proven id, in both directions, before anybody hears of the connection."""

    def __init__(self, swarm: Swarm, is_allowed: Callable[[ID], bool]) -> None:
        self._add_conn = swarm.add_conn
        self._is_allowed = is_allowed

    async def __call__(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        if not self._is_allowed(muxed_conn.peer_id):
            with suppress(Exception):  # the peer-message edge: it is refused, however it takes that
                await muxed_conn.close()
            raise SwarmException("this peer is banned here")
        return await self._add_conn(muxed_conn, direction)
