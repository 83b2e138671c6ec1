"""One asyncio loop in a thread, for the two libraries of this room that need one (asyncssh, qemu.qmp).

A thread rather than trio-asyncio: the SSH key exchange takes tens of milliseconds of CPU, which must not stop the
node's own loop, and nothing of asyncio gets patched. Cancelling the waiting trio task cancels the asyncio task.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import trio

from xnode.core.faults import Unavailable

P = ParamSpec("P")
T = TypeVar("T")


class AsyncioThread:
    """Made by `open_asyncio_thread`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="xnode-vm-asyncio", daemon=True)
        self._closing = False

    def _main(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def run(self, act: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a coroutine function on the asyncio loop and returns its result to this trio task."""
        if self._closing:
            raise Unavailable("driver_closed", "the machine driver has been closed")
        done, token = trio.Event(), trio.lowlevel.current_trio_token()

        def wake(_: object) -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        future = asyncio.run_coroutine_threadsafe(act(*args, **kwargs), self._loop)
        future.add_done_callback(wake)
        try:
            await done.wait()
        except trio.Cancelled:
            future.cancel()
            raise
        try:
            return future.result(0)
        except concurrent.futures.CancelledError as error:
            raise Unavailable("driver_closed", "the machine driver was closed meanwhile") from error

    async def _wind_up(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports closed just now report it in the loop's next turn
        await self._loop.shutdown_asyncgens()

    async def _close(self) -> None:
        self._closing = True
        future = asyncio.run_coroutine_threadsafe(self._wind_up(), self._loop)
        await trio.to_thread.run_sync(future.result)
        self._loop.call_soon_threadsafe(self._loop.stop)
        await trio.to_thread.run_sync(self._thread.join)


@contextlib.asynccontextmanager
async def open_asyncio_thread() -> AsyncIterator[AsyncioThread]:
    """The thread, until the block is left; whatever still runs on it then is cancelled."""
    thread = AsyncioThread()
    thread._thread.start()
    try:
        yield thread
    finally:
        with trio.CancelScope(shield=True):
            await thread._close()
