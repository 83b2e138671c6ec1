"""`Stream` over libp2p's NetStream."""

from contextlib import suppress
from typing import Final

import trio
from libp2p.io.exceptions import IOException
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.network.stream.net_stream import NetStream

from xnode.core.faults import PeerFault
from xnode.net.muxer import CHUNK_BYTES, HardYamuxStream
from xnode.net.streams import CLOSE_TIMEOUT_SECONDS, PeerId, Stream

LINGER_SECONDS: Final = 2.0  # how long a polite close waits for the peer's end
RESET: Final = ("stream_reset", "the peer dropped the stream or the connection")


class PeerStream(Stream):
    """The stream that `Network` hands out."""

    def __init__(self, stream: NetStream) -> None:
        assert isinstance(stream.muxed_stream, HardYamuxStream)
        self._stream = stream
        self._muxed = stream.muxed_stream
        self._turn = trio.Lock()
        self.peer_id = PeerId(str(stream.muxed_conn.peer_id))

    async def read(self, count: int) -> bytes:
        if count <= 0:
            return b""
        try:
            return await self._stream.read(count)
        except StreamEOF:
            return b""
        except (IOException, OSError) as error:
            raise PeerFault(*RESET) from error

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        async with self._turn:
            while view:
                await self._muxed.wait_sendable()
                count = min(len(view), CHUNK_BYTES, max(self._muxed.send_window, 1))
                await self._write_chunk(bytes(view[:count]))
                view = view[count:]

    async def _write_chunk(self, chunk: bytes) -> None:
        try:
            await self._stream.write(chunk)
        except (IOException, OSError) as error:
            raise PeerFault(*RESET) from error

    async def close_write(self) -> None:
        async with self._turn:
            try:
                await self._stream.close_write()
            except (IOException, OSError) as error:
                raise PeerFault(*RESET) from error

    async def aclose(self) -> None:
        ended = False
        try:
            with trio.move_on_after(CLOSE_TIMEOUT_SECONDS), suppress(PeerFault):
                await self.close_write()
                ended = await self._drain()
        finally:
            if not ended:
                await self.reset()
        if ended:
            await self._stream.close()

    async def _drain(self) -> bool:
        with trio.move_on_after(LINGER_SECONDS):
            while await self.read(CHUNK_BYTES):
                pass
            return True
        return False

    async def reset(self) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_TIMEOUT_SECONDS):
            await self._stream.reset()
