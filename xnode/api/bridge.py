"""The only crossing between the HTTP thread (asyncio) and the node (trio, main thread).

Theory of operation. A handler awaits `bridge.call(act, ...)`. The bridge puts the call on the trio loop, where it runs
in a nursery of the bridge under a cancel scope of its own, and hands its result back to the handler's future.
Cancellation crosses both ways: a handler that is cancelled or out of time cancels its scope; a trio loop that goes down
cancels the nursery, and then every call under way, and every later one, ends with Unavailable(node_stopping). A
result that arrives after its caller has left goes to `undo`, so that nothing which was opened for nobody stays open; a
caller that can't use what it was given hands it to `drop`.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Generic, TypeVar, TypeVarTuple

import outcome
import trio

from xnode.api.settings import CALLS_MAX
from xnode.core.faults import Unavailable

DEADLINE_SECONDS: Final = 30.0
UNDO_SECONDS: Final = 5.0

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def node_stopping(has_begun: bool = False) -> Unavailable:
    """The fault of every call that meets a node on its way down; one that has begun may have had its effect."""
    if has_begun:
        return Unavailable("node_stopping", "the node is stopping; see what has come of this when it is back")
    return Unavailable("node_stopping", "the node is stopping; ask again when it is back", retryable=True)


class _Call(Generic[T]):
    """One call under way; `future` and `loop` belong to asyncio, `scope` to trio."""

    def __init__(self, undo: Callable[[T], Awaitable[None]] | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self.loop.create_future()
        self.scope = trio.CancelScope()
        self.undo = undo

    def set(self, result: outcome.Outcome[T]) -> bool:
        """On the asyncio thread: gives the result to the caller; false where the caller has left."""
        if self.future.done():
            return False
        if isinstance(result, outcome.Value):
            self.future.set_result(result.value)
        else:
            self.future.set_exception(result.error)
        return True


class Bridge:
    """Made by `open_bridge` on the trio loop; `call` is for the asyncio thread."""

    def __init__(self, nursery: trio.Nursery, calls_max: int) -> None:
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._calls_max = calls_max
        self._lock = threading.Lock()
        self._calls: set[_Call[Any]] = set()
        self._closed = False

    async def call(
        self,
        act: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        deadline_s: float = DEADLINE_SECONDS,
        undo: Callable[[T], Awaitable[None]] | None = None,
    ) -> T:
        """Awaits `act(*args)` on trio; raises what it raises, or Unavailable (node_stopping, deadline, busy)."""
        call = _Call(undo)
        self._enter(call)
        try:
            self._post(self._start, call, act, args)
            async with asyncio.timeout(deadline_s) as limit:
                result = await call.future
                call.undo = None  # the caller has it
                return result
        except TimeoutError:
            if not limit.expired():
                raise
            text = f"the node did not finish within {deadline_s:g} s; look at the state of things, then ask again"
            raise Unavailable("deadline", text) from None
        finally:
            self._leave(call)

    def drop(self, undo: Callable[[T], Awaitable[None]], value: T) -> None:
        """Has `undo(value)` run on trio soon, however many calls are under way: it frees what one of them opened."""
        with contextlib.suppress(Unavailable):  # the trio loop has ended, and with it what was open
            self._post(self._start_undo, undo, value)

    def close(self) -> None:
        """Ends every call under way and refuses new ones. On the trio loop."""
        with self._lock:
            self._closed = True
            calls = tuple(self._calls)
        for call in calls:
            self._deliver(call, outcome.Error(node_stopping(has_begun=True)))

    def _enter(self, call: _Call[Any]) -> None:
        with self._lock:
            if self._closed:
                raise node_stopping()
            if len(self._calls) >= self._calls_max:
                raise Unavailable("busy", "the node has too many calls under way; ask again soon", retryable=True)
            self._calls.add(call)

    def _leave(self, call: _Call[Any]) -> None:
        with self._lock:
            self._calls.discard(call)
        if call.future.cancelled():
            with contextlib.suppress(Unavailable):  # the trio loop has ended, and with it the act
                self._post(call.scope.cancel)
        elif call.undo is not None and call.future.done() and call.future.exception() is None:
            self.drop(call.undo, call.future.result())  # cancelled between the result and its taking

    def _post(self, act: Callable[[*Ts], object], *args: *Ts) -> None:
        try:
            self._token.run_sync_soon(act, *args)
        except trio.RunFinishedError:
            raise node_stopping() from None

    def _start(self, call: _Call[Any], act: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        if not self._closed:  # otherwise `close` has answered it
            self._nursery.start_soon(self._run, call, act, args)

    async def _run(self, call: _Call[Any], act: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        with call.scope:
            result = await outcome.acapture(act, *args)
            if isinstance(result, outcome.Error) and not isinstance(result.error, Exception):
                self._deliver(call, outcome.Error(node_stopping(has_begun=True)))
                result.unwrap()  # cancelled, by the caller or with the node: that goes on
            self._deliver(call, result)

    def _deliver(self, call: _Call[Any], result: outcome.Outcome[Any]) -> None:
        try:
            call.loop.call_soon_threadsafe(self._arrive, call, result)
        except RuntimeError:  # the HTTP thread's loop is closed
            self._undo(call, result)

    def _arrive(self, call: _Call[Any], result: outcome.Outcome[Any]) -> None:
        if not call.set(result):
            with contextlib.suppress(Unavailable):
                self._post(self._undo, call, result)

    def _undo(self, call: _Call[Any], result: outcome.Outcome[Any]) -> None:
        if call.undo is not None and isinstance(result, outcome.Value):
            self._start_undo(call.undo, result.value)

    def _start_undo(self, undo: Callable[[T], Awaitable[None]], value: T) -> None:
        with contextlib.suppress(RuntimeError):  # the nursery is closed: the node clears up by itself
            self._nursery.start_soon(self._run_undo, undo, value)

    async def _run_undo(self, undo: Callable[[Any], Awaitable[None]], value: object) -> None:
        with trio.move_on_after(UNDO_SECONDS, shield=True):
            await outcome.acapture(undo, value)  # there is nobody left to tell what went wrong


@contextlib.asynccontextmanager
async def open_bridge(calls_max: int = CALLS_MAX) -> AsyncIterator[Bridge]:
    """A bridge into the running trio loop, open until the block is left."""
    async with trio.open_nursery() as nursery:
        bridge = Bridge(nursery, calls_max)
        try:
            yield bridge
        finally:
            bridge.close()
            nursery.cancel_scope.cancel()
