"""A raw HTTP client on trio: what an ordinary client library would hide."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

RECEIVE_SECONDS = 5.0


class RawClient:
    """One connection; `head` reads up to the empty line, `exactly` a number of bytes, `rest` until the end."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def head(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            await self._more()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        return head

    async def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    async def rest(self) -> bytes:
        with trio.fail_after(RECEIVE_SECONDS):
            async for chunk in self.stream:
                self._buffer += chunk
        data, self._buffer = self._buffer, b""
        return data

    async def _more(self) -> None:
        with trio.fail_after(RECEIVE_SECONDS):
            chunk = await self.stream.receive_some()
        assert chunk, f"closed after {self._buffer!r}"
        self._buffer += chunk


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[RawClient]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield RawClient(stream)
