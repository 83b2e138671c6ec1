"""Probes of connections and streams: each is true when the library is well, false when the defect shows."""

import struct
from contextlib import suppress
from typing import Any

import trio
from libp2p.host.basic_host import BasicHost
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from tests.support.libp2p_kit import Kit, Limits, connect, info, open_stream, port_of, sleepy, until

PAUSE_SECONDS = 7.0  # stock waits 5 s for a window


class Accepted:
    """A stream handler that hands its stream to the test."""

    def __init__(self, host: BasicHost, protocol: str) -> None:
        self._send, self._receive = trio.open_memory_channel[Any](10)
        host.set_stream_handler(protocol, self)

    async def __call__(self, stream: Any) -> None:
        await self._send.send(stream)
        await trio.sleep_forever()

    async def next(self) -> Any:
        """The next accepted stream."""
        with trio.fail_after(5):
            return await self._receive.receive()


async def read_all(stream: Any) -> int:
    """Number of bytes until the end; what came before a break does not count."""
    count = 0
    with suppress(StreamEOF):
        while True:
            count += len(await stream.read(65536))
    return count


async def is_alive(dialler: BasicHost, host: BasicHost) -> bool:
    """Whether the host answers a ping over a connection of its own."""
    try:
        await connect(dialler, host)
        stream = await open_stream(dialler, host.get_id(), "/ipfs/ping/1.0.0")
        with trio.fail_after(3):
            await stream.write(b"p" * 32)
            answer: bytes = await stream.read(32)
            await stream.reset()
    except Exception:  # noqa: BLE001 -- a sick library raises anything, groups too
        return False
    return len(answer) == 32


async def handler_may_raise(kit: Kit) -> bool:
    """An exception in a stream handler costs that stream, not the node."""

    async def buggy(_: Any) -> None:
        raise KeyError("a bug in a handler")

    node, other = kit.host(1), kit.host(2)
    node.set_stream_handler("/bug/1", buggy)
    async with kit.running(other):
        try:
            async with kit.running(node):
                await connect(other, node)
                with suppress(Exception):
                    await (await open_stream(other, node.get_id(), "/bug/1")).read(1)
                return await is_alive(other, node)
        except Exception:  # noqa: BLE001 -- a sick library raises anything, groups too
            return False


async def write_may_be_cancelled(kit: Kit) -> bool:
    """After cancelled writes on one stream, the others of its connection work."""
    node, other = kit.host(1), kit.host(2)
    accepted = Accepted(node, "/x/1")
    async with kit.running(node, other), trio.open_nursery() as nursery:
        await connect(other, node)
        torn = await open_stream(other, node.get_id(), "/x/1")
        nursery.start_soon(_drain, await accepted.next())
        good = await open_stream(other, node.get_id(), "/x/1")
        far = await accepted.next()
        for attempt in range(100):
            with trio.move_on_after(0.0002 * (attempt % 10)), suppress(Exception):
                await kit.write(torn, bytes(1000))
        well = False
        with trio.move_on_after(2), suppress(Exception):
            await good.write(b"ping")
            well = await far.read(4) == b"ping"
        nursery.cancel_scope.cancel()
    return well


async def _drain(stream: Any) -> None:
    with suppress(Exception):
        while True:
            await stream.read(65536)


async def reader_may_pause(kit: Kit) -> bool:
    """A writer whose peer does not read for seven seconds loses nothing."""
    node, other = kit.host(1), kit.host(2)
    accepted = Accepted(node, "/x/1")
    size = 18 * 1024 * 1024  # more than stock's window ever grows to
    async with kit.running(node, other), trio.open_nursery() as nursery:
        await connect(other, node)
        stream = await open_stream(other, node.get_id(), "/x/1")
        far = await accepted.next()

        async def write() -> None:
            with suppress(Exception):
                for _ in range(size // 65536):
                    await kit.write(stream, bytes(65536))
                await stream.close_write()

        nursery.start_soon(write)
        await until(lambda: stream.muxed_stream.send_window <= 0, 10)
        await trio.sleep(PAUSE_SECONDS)
        count = 0
        with trio.move_on_after(20), suppress(Exception):
            count = await read_all(far)
        nursery.cancel_scope.cancel()
    return count == size


async def window_is_enforced(kit: Kit) -> bool:
    """A peer that ignores the window can't fill memory through one unread stream."""
    node, other = kit.host(1), kit.host(2)
    accepted = Accepted(node, "/x/1")
    async with kit.running(node, other):
        await connect(other, node)
        stream = await open_stream(other, node.get_id(), "/x/1")
        far = await accepted.next()
        muxed = stream.muxed_stream
        frame = struct.pack("!BBHII", 0, 0, 0, muxed.stream_id, 65000) + bytes(65000)
        with trio.move_on_after(5), suppress(Exception):
            for _ in range(100):
                await muxed.conn.secured_conn.write(frame)
        buffers = far.muxed_stream.conn.stream_buffers
        await until(lambda: sum(map(len, buffers.values())) > 6_000_000, 1.0)
        return sum(map(len, buffers.values())) <= 2 * 1024 * 1024


async def _forward(source: trio.SocketStream, target: trio.SocketStream, piece_bytes: int) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            for start in range(0, len(data), piece_bytes):
                await target.send_all(data[start : start + piece_bytes])
                if piece_bytes < len(data):
                    await trio.sleep(0.0005)


async def frame_may_come_in_small_pieces(kit: Kit) -> bool:
    """A 64 KiB frame over a link of small segments arrives."""
    node, other = kit.host(1), kit.host(2)
    accepted = Accepted(node, "/x/1")
    async with kit.running(node, other), trio.open_nursery() as nursery:

        async def proxy(near: trio.SocketStream) -> None:
            async with await trio.open_tcp_stream("127.0.0.1", port_of(node)) as far, trio.open_nursery() as both:
                both.start_soon(_forward, near, far, 300)
                both.start_soon(_forward, far, near, 65536)

        listeners: Any = await nursery.start(trio.serve_tcp, proxy, 0)
        port = listeners[0].socket.getsockname()[1]
        count = 0
        with trio.move_on_after(6), suppress(Exception):
            await other.connect(PeerInfo(node.get_id(), [Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")]))
            stream = await open_stream(other, node.get_id(), "/x/1")
            far = await accepted.next()
            await stream.write(bytes(65000))
            await stream.close_write()
            count = await read_all(far)
        await other.disconnect(node.get_id())
        nursery.cancel_scope.cancel()
    return count == 65000


async def streams_are_shared(kit: Kit) -> bool:
    """One peer that opens silent streams leaves some to the others."""
    node, hog, other = kit.host(1, Limits(streams=40)), kit.host(2), kit.host(3)
    node.set_stream_handler("/idle/1", sleepy)
    async with kit.running(node, hog, other):
        await connect(hog, node)
        connection: Any = hog.get_network().get_connections(node.get_id())[0]
        for _ in range(60):
            with trio.move_on_after(2), suppress(Exception):
                await connection.muxed_conn.open_stream()
        await trio.sleep(1.5)  # until the node has taken in what it takes
        try:
            with trio.fail_after(3):
                await connect(other, node)
                await open_stream(other, node.get_id(), "/idle/1")
        except Exception:  # noqa: BLE001 -- a sick library raises anything, groups too
            return False
        return True


async def writers_do_not_interleave(kit: Kit) -> bool:
    """Two tasks that write long data to one stream don't mix it: gossip does so when a peer comes."""
    node, other = kit.host(1), kit.host(2)
    accepted = Accepted(node, "/x/1")
    async with kit.running(node, other):
        await connect(other, node)
        stream = await open_stream(other, node.get_id(), "/x/1")
        far = await accepted.next()
        data = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, b"a" * 100_000)
            nursery.start_soon(stream.write, b"b" * 100_000)
            while len(data) < 200_000:
                data += await far.read(65536)
        return bytes(data) in (b"a" * 100_000 + b"b" * 100_000, b"b" * 100_000 + b"a" * 100_000)


async def cut_is_no_end(kit: Kit) -> bool:
    """When the own side closes a connection, a reader does not take the cut for the peer's end."""
    node, other = kit.host(1), kit.host(2)
    accepted = Accepted(node, "/x/1")
    result = []
    async with kit.running(node, other), trio.open_nursery() as nursery:
        await connect(other, node)
        await open_stream(other, node.get_id(), "/x/1")
        far = await accepted.next()

        async def read() -> None:
            try:
                await far.read(1)
            except StreamEOF:
                result.append(False)
            except Exception:  # noqa: BLE001 -- a sick library raises anything, groups too
                result.append(True)

        nursery.start_soon(read)
        await trio.sleep(0.05)
        await node.disconnect(other.get_id())
        await until(lambda: bool(result), 2)
        nursery.cancel_scope.cancel()
    return result == [True]


PROBES = {
    probe.__name__: probe
    for probe in (
        handler_may_raise,
        write_may_be_cancelled,
        reader_may_pause,
        window_is_enforced,
        frame_may_come_in_small_pieces,
        streams_are_shared,
        writers_do_not_interleave,
        cut_is_no_end,
    )
}
__all__ = ["PROBES", "info", "is_alive"]
