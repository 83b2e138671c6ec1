"""The tunnel's hand-over, byte by byte, against the real server and an echo on the trio side."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.support.raw_http import RawClient, connect
from xnode.api import clients, hijack
from xnode.api.bridge import Bridge, open_bridge
from xnode.api.hijack import EXTENSION, Detached, Hijack
from xnode.api.server import serve_http
from xnode.api.settings import ApiSettings

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


def head(path: str = "/tunnel/abcd/tcp", extra: str = UPGRADE) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode()


class Taken(Response):
    """Sends nothing: the connection is somebody else's."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return


async def echo(client: Detached) -> None:
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(client.sock))
    async with stream:
        if client.early:
            await stream.send_all(client.early)
        if not client.eof:
            async for chunk in stream:
                await stream.send_all(chunk)
        await stream.send_eof()


@asynccontextmanager
async def echo_server(delay: float = 0.0) -> AsyncIterator[int]:
    """Port of a server that takes tunnels (after `delay`) except for /tunnel/none/tcp, and says hello elsewhere."""

    async def tunnel(request: Request) -> Response:
        handle = request.scope.get("extensions", {}).get(EXTENSION)
        if not isinstance(handle, Hijack) or request.path_params["name"] == "none":
            return PlainTextResponse("no tunnel", status_code=404)
        await asyncio.sleep(delay)
        client = await handle.take()
        await bridge.call(start, client)
        return Taken()

    async def hello(request: Request) -> Response:
        return PlainTextResponse("hello")

    routes = [Route("/tunnel/{name}/tcp", tunnel, methods=["POST"]), Route("/hello", hello, methods=["GET", "POST"])]
    app = Starlette(routes=routes)
    app.state.stopping = threading.Event()
    bridge: Bridge
    async with trio.open_nursery() as nursery:

        async def start(client: Detached) -> None:
            nursery.start_soon(echo, client)

        async with open_bridge() as bridge, serve_http(app, ApiSettings(port=0, grace=1)) as bound:
            yield bound.port
        nursery.cancel_scope.cancel()


async def ends(client: RawClient) -> None:
    """The client's half-close crosses, and the other one comes back."""
    await client.stream.send_eof()
    assert await client.rest() == b""
    await client.stream.aclose()


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        (UPGRADE, b"HTTP/1.1 101 "),
        ("Connection: Upgrade\r\n", b"HTTP/1.1 200 "),
        ("", b"HTTP/1.1 200 "),
        ("Content-Length: 0\r\n", b"HTTP/1.1 200 "),
        ("Content-Length: 0\r\n" + UPGRADE, b"HTTP/1.1 101 "),
    ],
)
async def test_early_bytes_in_the_heads_own_segment(extra: str, status: bytes) -> None:
    async with echo_server() as port, connect(port) as client:
        await client.send(head(extra=extra) + b"SSH-2.0-early\r\n\r\nPOST ")
        assert (await client.head()).startswith(status)
        assert await client.exactly(22) == b"SSH-2.0-early\r\n\r\nPOST "
        await client.send(b"later")
        assert await client.exactly(5) == b"later"
        await ends(client)


async def test_a_head_byte_by_byte() -> None:
    async with echo_server() as port, connect(port) as client:
        client.stream.setsockopt(6, 1, 1)  # no delay: each byte is a segment
        for byte in head():
            await client.send(bytes([byte]))
        await client.send(b"after")
        assert (await client.head()).startswith(b"HTTP/1.1 101")
        assert await client.exactly(5) == b"after"
        await ends(client)


@pytest.mark.parametrize("cut", range(1, 5))
async def test_a_head_cut_within_its_end(cut: int) -> None:
    async with echo_server() as port, connect(port) as client:
        await client.send(head()[:-cut])
        await trio.sleep(0.01)
        await client.send(head()[-cut:] + b"early")
        assert (await client.head()).startswith(b"HTTP/1.1 101")
        assert await client.exactly(5) == b"early"
        await ends(client)


async def test_much_sent_before_the_answer() -> None:
    """1 MiB is more than what is kept, so reading pauses; nothing gets lost or out of order."""
    sent = bytes(range(256)) * 4096
    async with echo_server(delay=0.05) as port, trio.open_nursery() as nursery, connect(port) as client:
        nursery.start_soon(client.send, head() + sent)
        assert (await client.head()).startswith(b"HTTP/1.1 101")
        assert await client.exactly(len(sent)) == sent
        await ends(client)


async def test_half_close_before_the_answer() -> None:
    async with echo_server(delay=0.05) as port, connect(port) as client:
        await client.send(head() + b"all of it")
        await client.stream.send_eof()
        assert (await client.head()).startswith(b"HTTP/1.1 101")
        assert await client.rest() == b"all of it"


async def test_after_an_ordinary_request_on_the_same_connection() -> None:
    async with echo_server() as port, connect(port) as client:
        await client.send(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 200")
        assert await client.exactly(5) == b"hello"
        await client.send(head() + b"xyz")
        assert (await client.head()).startswith(b"HTTP/1.1 101")
        assert await client.exactly(3) == b"xyz"
        await ends(client)


async def test_behind_an_ordinary_request_in_one_segment() -> None:
    async with echo_server() as port, connect(port) as client:
        body = b"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n\r\n\r\nabcd"
        await client.send(body + head() + b"xyz")
        assert (await client.head()).startswith(b"HTTP/1.1 200")
        assert await client.exactly(5) == b"hello"
        assert (await client.head()).startswith(b"HTTP/1.1 101")
        assert await client.exactly(3) == b"xyz"
        await ends(client)


@pytest.mark.parametrize(
    "request_bytes",
    [
        head("/tunnel/none/tcp") + b"early bytes",
        head("/tunnel/abcd/tcp", "Content-Length: 3\r\n" + UPGRADE) + b"abc",
        head("/tunnel/abcd/tcp", "Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
        head("/tunnel/none/tcp", ""),
        b"GET /tunnel/abcd/tcp HTTP/1.1\r\nHost: x\r\n" + UPGRADE.encode() + b"\r\n",
    ],
)
async def test_an_ordinary_answer(request_bytes: bytes) -> None:
    async with echo_server() as port, connect(port) as client:
        await client.send(request_bytes)
        answer = await client.head()
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404", b"HTTP/1.1 405"))
        await client.stream.aclose()


async def test_an_upgrade_that_nobody_offers_is_an_ordinary_request() -> None:
    async with echo_server() as port, connect(port) as client:
        await client.send(b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert b"connection: close" in await client.head()
        assert await client.rest() == b"hello"


async def test_a_client_that_left_before_the_answer_harms_nobody() -> None:
    async with echo_server(delay=0.02) as port:
        for _ in range(3):
            async with connect(port) as client:
                await client.send(head())
                client.stream.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # linger 0: closing resets
                await client.stream.aclose()
        await trio.sleep(0.05)
        async with connect(port) as client:
            await client.send(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 200")


async def test_bare_line_feeds_lose_no_bytes() -> None:
    async with echo_server() as port, connect(port) as client:
        await client.send(head().replace(b"\r\n", b"\n") + b"early")
        assert (await client.head()).startswith(b"HTTP/1.1 400")


async def test_a_head_without_end_is_refused() -> None:
    async with echo_server() as port, connect(port) as client:
        await client.send(b"GET /hello HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * (hijack.HEAD_BYTES_MAX + 1))
        assert (await client.head()).startswith(b"HTTP/1.1 431")


async def test_a_silent_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hijack, "IDLE_SECONDS", 0.05)
    async with echo_server() as port, connect(port) as client:
        await client.send(b"\r\n")
        assert await client.rest() == b""


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hijack, "CONNECTIONS_MAX", 1)
    async with echo_server() as port, connect(port) as first:
        await first.send(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await first.head()).startswith(b"HTTP/1.1 200")
        async with connect(port) as second:
            assert (await second.head()).startswith(b"HTTP/1.1 503")
            assert b'"retryable": true' in await second.rest()


@pytest.mark.parametrize(("is_local", "status"), [(False, b"503"), (True, b"200")])
async def test_a_client_s_share_of_connections(monkeypatch: pytest.MonkeyPatch, is_local: bool, status: bytes) -> None:
    monkeypatch.setattr(hijack, "CONNECTIONS_PER_CLIENT_MAX", 1)
    monkeypatch.setattr(clients, "is_loopback", lambda _: is_local)
    async with echo_server() as port, connect(port) as first:
        await first.send(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await first.head()).startswith(b"HTTP/1.1 200")
        async with connect(port) as second:
            await second.send(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await second.head()).startswith(b"HTTP/1.1 " + status)


@pytest.mark.slow
async def test_a_server_that_stops_leaves_open_tunnels_to_trio() -> None:
    async with trio.open_nursery() as nursery:

        async def start(client: Detached) -> None:
            nursery.start_soon(echo, client)

        async def tunnel(request: Request) -> Response:
            await bridge.call(start, await request.scope["extensions"][EXTENSION].take())
            return Taken()

        app = Starlette(routes=[Route("/tunnel/{name}/tcp", tunnel, methods=["POST"])])
        app.state.stopping = threading.Event()
        async with open_bridge() as bridge, AsyncExitStack() as stack:
            async with serve_http(app, ApiSettings(port=0, grace=5)) as bound:
                client = await stack.enter_async_context(connect(bound.port))
                await client.send(head())
                await client.head()
                began = trio.current_time()
            assert trio.current_time() - began < 2
            await client.send(b"still there")
            assert await client.exactly(11) == b"still there"
            await ends(client)
