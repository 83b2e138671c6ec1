"""Real networks on loopback, in this process."""

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import trio

from xnode.net.network import Judged, NetSettings, Network, Topic, Verdict, open_network
from xnode.net.streams import PeerId, Stream

PATIENCE_SECONDS = 8.0
LOOPBACK = "/ip4/127.0.0.1/tcp/0"


def listening_topic(received: list[bytes], rate: float = 1000, burst: int = 1000) -> Topic:
    """Takes everything but what begins with "bad" (REJECT) or "odd" (IGNORE)."""

    def validate(_: PeerId, data: bytes) -> Judged:
        if data.startswith(b"bad"):
            return Judged(Verdict.REJECT, None, "bad_data")
        if data.startswith(b"odd"):
            return Judged(Verdict.IGNORE, None, "odd_data")
        return Judged(Verdict.ACCEPT, data, "")

    def deliver(_: PeerId, value: object) -> None:
        assert isinstance(value, bytes)
        received.append(value)

    return Topic(validate, deliver, rate, burst)


def open_node(
    number: int,
    received: list[bytes] | None = None,
    *,
    topics: Mapping[str, Topic] | None = None,
    clock: Callable[[], int] = time.time_ns,
    **settings: Any,
) -> AbstractAsyncContextManager[Network]:
    """A node whose identity is `number`; gossips on topic "t" into `received`."""
    if topics is None:
        topics = {"t": listening_topic(received if received is not None else [])}
    chosen = NetSettings(**{"listen": (LOOPBACK,), **settings})
    return open_network(chosen, number.to_bytes(32, "big"), topics, clock, os.urandom)


async def eventually(condition: Callable[[], object]) -> None:
    """Waits until the condition is true; fails the test when it takes too long."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await trio.sleep(0.01)


class Pair:
    """Two connected nodes; `open` gives both ends of a stream from the first to the second."""

    def __init__(self, near: Network, far: Network) -> None:
        self.near, self.far = near, far
        self._send, self._receive = trio.open_memory_channel[Stream](8)
        self.done = trio.Event()
        far.serve("/pair/1", self._accept)

    async def _accept(self, stream: Stream) -> None:
        await self._send.send(stream)
        await self.done.wait()

    async def open(self) -> tuple[Stream, Stream]:
        """A stream's two ends."""
        near = await self.near.open_stream(self.far.peer_id, "/pair/1", self.far.addresses)
        with trio.fail_after(PATIENCE_SECONDS):
            return near, await self._receive.receive()


@asynccontextmanager
async def open_pair() -> AsyncIterator[Pair]:
    """A Pair, connected on the first `open`."""
    async with open_node(1) as near, open_node(2) as far:
        pair = Pair(near, far)
        yield pair
        pair.done.set()
