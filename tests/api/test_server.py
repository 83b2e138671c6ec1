import asyncio
import signal
import threading
from contextlib import AsyncExitStack

import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.support.raw_http import connect
from xnode.api.server import serve_http
from xnode.api.settings import ApiSettings
from xnode.core.faults import OperatorFault

GET = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"


def make_app(seconds: float = 0.0) -> Starlette:
    async def slow(request: Request) -> Response:
        await asyncio.sleep(seconds)
        return PlainTextResponse("done")

    app = Starlette(routes=[Route("/slow", slow)])
    app.state.stopping = threading.Event()
    return app


async def test_port_0_gives_the_real_port() -> None:
    async with serve_http(make_app(), ApiSettings(port=0)) as bound:
        assert bound.port > 0
        assert bound.url == f"http://127.0.0.1:{bound.port}"
        async with connect(bound.port) as client:
            await client.send(GET)
            assert (await client.head()).startswith(b"HTTP/1.1 200")


async def test_answers_do_not_wait_for_acknowledgements() -> None:
    """Without TCP_NODELAY the second and later answers of a connection take 40 ms each."""
    async with serve_http(make_app(), ApiSettings(port=0)) as bound, connect(bound.port) as client:
        began = trio.current_time()
        for _ in range(20):
            await client.send(GET)
            await client.head()
            await client.exactly(4)
        assert trio.current_time() - began < 0.5


async def test_a_taken_port_names_the_setting() -> None:
    async with serve_http(make_app(), ApiSettings(port=0)) as bound:
        with pytest.raises(OperatorFault, match="--api-port") as caught:
            async with serve_http(make_app(), ApiSettings(port=bound.port)):
                raise AssertionError("two servers on one port")
    assert caught.value.code == "api_port_taken"


async def test_an_address_of_another_host_names_the_setting() -> None:
    with pytest.raises(OperatorFault, match="--api-bind"):
        async with serve_http(make_app(), ApiSettings(bind="192.0.2.1", port=0)):
            raise AssertionError("bound to an address that is not ours")


async def test_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serve_http(make_app(), ApiSettings(port=0)):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_a_request_under_way_is_finished() -> None:
    app = make_app(seconds=0.05)
    async with AsyncExitStack() as stack:
        async with serve_http(app, ApiSettings(port=0)) as bound:
            client = await stack.enter_async_context(connect(bound.port))
            await client.send(GET)
            await trio.sleep(0.02)
        assert app.state.stopping.is_set()
        assert (await client.head()).startswith(b"HTTP/1.1 200")
        assert await client.exactly(4) == b"done"


@pytest.mark.slow
async def test_the_grace_time_ends() -> None:
    async with AsyncExitStack() as stack:
        async with serve_http(make_app(seconds=60), ApiSettings(port=0, grace=1)) as bound:
            client = await stack.enter_async_context(connect(bound.port))
            await client.send(GET)
            await trio.sleep(0.02)
            began = trio.current_time()
        assert 0.9 < trio.current_time() - began < 3


async def test_cancelling_the_node_stops_the_server() -> None:
    with trio.move_on_after(0.1) as scope:
        async with serve_http(make_app(), ApiSettings(port=0)) as bound:
            await trio.sleep_forever()
    assert scope.cancelled_caught
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", bound.port)
