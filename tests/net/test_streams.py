"""Streams between two real nodes: frames, ends, resets, cancellation, and a socket spliced to a stream."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.support.nodes import Pair, open_pair
from xnode.core.faults import PeerFault
from xnode.net.muxer import WINDOW_BYTES
from xnode.net.streams import Stream, read_frame, splice, write_frame

pytestmark = pytest.mark.slow

STALLED_BYTES = 8 * WINDOW_BYTES  # more than what the window and the sockets' buffers hold


@asynccontextmanager
async def spliced(pair: Pair, early: bytes = b"", eof: bool = False) -> AsyncIterator[tuple[trio.SocketStream, Stream]]:
    """A local client's socket, whose server's end is spliced to a stream; gives it and the stream's far end."""
    near, far = await pair.open()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1])
    server = await listeners[0].accept()
    await listeners[0].aclose()
    async with client, trio.open_nursery() as nursery:
        nursery.start_soon(splice, near, server, early, eof)
        with trio.fail_after(30):
            yield client, far
        nursery.cancel_scope.cancel()


async def test_frames_go_both_ways() -> None:
    async with open_pair() as pair:
        near, far = await pair.open()
        for data in (b"", b"x", bytes(100_000)):
            await write_frame(near, data)
            assert await read_frame(far, 100_000) == data
            await write_frame(far, data)
            assert await read_frame(near, 100_000) == data


async def test_a_frame_too_long_is_refused_by_its_header() -> None:
    async with open_pair() as pair:
        near, far = await pair.open()
        await near.write(b"\xff\xff\xff\xff")
        with pytest.raises(PeerFault) as fault:
            await read_frame(far, 1000)
        assert fault.value.code == "frame_too_long"


async def test_an_end_within_a_frame_is_a_fault() -> None:
    async with open_pair() as pair:
        near, far = await pair.open()
        await near.write(b"\0\0\0\x05abc")
        await near.close_write()
        with pytest.raises(PeerFault) as fault:
            await read_frame(far, 1000)
        assert fault.value.code == "stream_ended"


async def test_half_close_ends_one_way_only() -> None:
    async with open_pair() as pair:
        near, far = await pair.open()
        await near.write(b"question")
        await near.close_write()
        assert await far.read_exactly(8) == b"question"
        assert await far.read(1) == b""
        assert await far.read(1) == b""
        await far.write(b"answer")
        await far.aclose()
        assert await near.read_exactly(6) == b"answer"
        assert await near.read(1) == b""
        await near.aclose()


async def test_a_reset_is_a_fault_at_the_other_end() -> None:
    async with open_pair() as pair:
        near, far = await pair.open()
        await near.write(b"x")
        assert await far.read(1) == b"x"
        await near.reset()
        with pytest.raises(PeerFault) as fault:
            await far.read(1)
        assert fault.value.code == "stream_reset"
        with pytest.raises(PeerFault):
            await far.write(b"x")


async def test_a_lost_connection_is_a_reset_not_an_end() -> None:
    async with open_pair() as pair:
        near, far = await pair.open()
        await near.write(b"x")
        assert await far.read(1) == b"x"
        await pair.near.disconnect(pair.far.peer_id)
        for stream in (near, far):
            with pytest.raises(PeerFault), trio.fail_after(3):
                await stream.read(1)


async def test_a_cancelled_read_loses_nothing() -> None:
    async with open_pair() as pair:
        near, far = await pair.open()
        size = 2 * WINDOW_BYTES

        async def write() -> None:
            for _ in range(size // 8192):
                await near.write(bytes(8192))
            await near.close_write()

        count, ended = 0, False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            for attempt in range(100_000):
                data = None
                with trio.move_on_after(0.0001 * (attempt % 20)):
                    data = await far.read(65536)
                if data == b"":
                    ended = True
                    break
                count += len(data or b"")
        assert (count, ended) == (size, True)


async def write_until_refused(stream: Stream) -> None:
    while True:
        await stream.write(b"too late")
        await trio.sleep(0.01)


async def test_a_polite_close_does_not_wait_for_ever() -> None:
    async with open_pair() as pair:
        near, far = await pair.open()
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.aclose)
                assert await far.read(1) == b""
        with pytest.raises(PeerFault), trio.fail_after(3):
            await write_until_refused(far)


async def test_splice_passes_half_closes_on_both_ways() -> None:
    async with open_pair() as pair, spliced(pair) as (client, far):
        await client.send_all(b"question")
        await client.send_eof()
        assert await far.read_exactly(8) == b"question"
        assert await far.read(1) == b""
        await far.write(b"answer")
        await far.close_write()
        answer = b""
        async for data in client:
            answer += data
        assert answer == b"answer"


async def test_splice_begins_with_what_came_early() -> None:
    async with open_pair() as pair, spliced(pair, early=b"early", eof=True) as (client, far):
        assert await far.read_exactly(5) == b"early"
        assert await far.read(1) == b""
        await far.write(b"answer")
        await far.aclose()
        assert bytes(await client.receive_some(6)) == b"answer"


async def test_splice_waits_for_a_stalled_reader() -> None:
    async with open_pair() as pair, spliced(pair) as (client, far):
        sent = trio.Event()

        async def send() -> None:
            await client.send_all(bytes(STALLED_BYTES))
            await client.send_eof()
            sent.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(0.5)
            assert not sent.is_set()
            count = 0
            while data := await far.read(65536):
                count += len(data)
        assert count == STALLED_BYTES


async def test_splice_drops_the_stream_with_the_socket() -> None:
    async with open_pair() as pair, spliced(pair) as (client, far):
        linger_at_once = b"\1\0\0\0\0\0\0\0"
        client.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, linger_at_once)
        await trio.aclose_forcefully(client)
        with pytest.raises(PeerFault):
            await far.read_exactly(1)


async def test_splice_drops_the_socket_with_the_stream() -> None:
    async with open_pair() as pair, spliced(pair) as (client, far):
        await far.reset()
        with trio.fail_after(3):
            assert bytes(await client.receive_some(1)) == b""
