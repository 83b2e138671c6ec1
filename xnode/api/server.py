"""uvicorn in one thread of its own, started and stopped from the node's trio loop (runtime: the process)."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final, NamedTuple

import trio
import uvicorn
from starlette.applications import Starlette

from xnode.api.hijack import HijackProtocol
from xnode.api.settings import ApiSettings
from xnode.core.faults import OperatorFault

BACKLOG: Final = 256
KEEP_ALIVE_SECONDS: Final = 15
TICK_SECONDS: Final = 1.0  # how often uvicorn renews its date header


class Bound(NamedTuple):
    """Where the API is reached; the port is the real one."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


class _Server(uvicorn.Server):
    """uvicorn, told to stop by an event and not by a flag that it polls ten times a second."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_started()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), TICK_SECONDS)

    def stop(self) -> None:
        """From any thread."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has stopped already
                self._loop.call_soon_threadsafe(self._stopped.set)


def _bind_fault(error: OSError, settings: ApiSettings) -> OperatorFault:
    where = f"{settings.bind}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        text = f"another program listens on {where}; choose another port with --api-port, or 0 for any free one"
        return OperatorFault("api_port_taken", text)
    if error.errno == errno.EACCES:
        return OperatorFault("api_port_forbidden", f"{where} needs privileges; choose an --api-port of 1024 or above")
    return OperatorFault("api_bind", f"can't listen on {where} ({error.strerror}); give this host's own --api-bind")


def _listen(settings: ApiSettings) -> socket.socket:
    """A listening socket; raises OperatorFault that names the setting to change."""
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    try:
        listener = socket.create_server((settings.bind, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise _bind_fault(error, settings) from error
    # Accepted sockets inherit this. asyncio leaves it out for a socket made so, and then each answer takes 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _config(app: Starlette, settings: ApiSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HijackProtocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # else any local client could claim another address
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.grace,
    )


async def _run(server: _Server, listener: socket.socket) -> None:
    run = partial(server.run, sockets=[listener])
    with listener:
        await trio.to_thread.run_sync(run, thread_name="xnode-http", limiter=trio.CapacityLimiter(1))
    if not server.should_exit:
        raise RuntimeError("the HTTP server ended although nobody told it to")


@contextlib.asynccontextmanager
async def serve_http(app: Starlette, settings: ApiSettings) -> AsyncIterator[Bound]:
    """Serves `app` until the block is left, then ends within the grace time; raises OperatorFault if it can't listen.

    `app.state.stopping` (a threading.Event) is set first, so that endless answers end.
    """
    listener = _listen(settings)
    started = trio.Event()
    on_started = partial(trio.lowlevel.current_trio_token().run_sync_soon, started.set)
    server = _Server(_config(app, settings), on_started)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_run, server, listener)
        try:
            await started.wait()
            yield Bound(*listener.getsockname()[:2])
        finally:
            app.state.stopping.set()
            server.stop()
