import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import trio
import trio.lowlevel

from xnode.api.bridge import Bridge, open_bridge
from xnode.core.faults import NotFound, Unavailable

T = TypeVar("T")


async def on_asyncio(main: Callable[[], Awaitable[T]]) -> T:
    """Runs `main` in an asyncio loop of its own in a thread, as the HTTP server's."""

    async def run() -> T:
        return await main()

    return await trio.to_thread.run_sync(lambda: asyncio.run(run()))


async def double(value: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * value


class Endless:
    """An act that tells when it began and when it was cancelled."""

    def __init__(self) -> None:
        self.began = trio.Event()
        self.cancelled = trio.Event()

    async def __call__(self) -> None:
        self.began.set()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.cancelled.set()
            raise


async def test_a_result_crosses() -> None:
    async with open_bridge() as bridge:
        assert await on_asyncio(lambda: bridge.call(double, 21)) == 42


async def test_a_fault_crosses_as_itself() -> None:
    async def fail() -> None:
        raise NotFound("lease_unknown", "no such lease")

    async with open_bridge() as bridge:
        with pytest.raises(NotFound, match="no such lease"):
            await on_asyncio(lambda: bridge.call(fail))


async def test_an_own_timeout_is_not_taken_for_the_deadline() -> None:
    async def fail() -> None:
        raise TimeoutError("of the act itself")

    async with open_bridge() as bridge:
        with pytest.raises(TimeoutError, match="of the act itself"):
            await on_asyncio(lambda: bridge.call(fail))


async def test_the_callers_cancellation_reaches_the_act() -> None:
    act = Endless()

    async with open_bridge() as bridge:

        async def main() -> None:
            task = asyncio.create_task(bridge.call(act))
            await asyncio.to_thread(trio.from_thread.run, act.began.wait, trio_token=token)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        token = trio.lowlevel.current_trio_token()
        await on_asyncio(main)
        with trio.fail_after(1):
            await act.cancelled.wait()


async def test_the_deadline_ends_the_act() -> None:
    act = Endless()
    async with open_bridge() as bridge:
        with pytest.raises(Unavailable) as caught:
            await on_asyncio(lambda: bridge.call(act, deadline_s=0.02))
        assert (caught.value.code, caught.value.retryable) == ("deadline", False)
        with trio.fail_after(1):
            await act.cancelled.wait()


async def test_a_stopping_node_ends_calls_under_way() -> None:
    act = Endless()
    faults: list[Unavailable] = []

    async def caller(bridge: Bridge) -> None:
        with pytest.raises(Unavailable) as caught:
            await on_asyncio(lambda: bridge.call(act))
        faults.append(caught.value)

    async with trio.open_nursery() as nursery:
        async with open_bridge() as bridge:
            nursery.start_soon(caller, bridge)
            await act.began.wait()
        await act.cancelled.wait()
    assert [(fault.code, fault.retryable) for fault in faults] == [("node_stopping", False)]


async def test_a_call_after_the_end_is_refused() -> None:
    async with open_bridge() as bridge:
        pass
    with pytest.raises(Unavailable) as caught:
        await on_asyncio(lambda: bridge.call(double, 1))
    assert (caught.value.code, caught.value.retryable) == ("node_stopping", True)


def test_a_call_after_trio_itself_has_ended_is_refused() -> None:
    async def leak() -> Bridge:
        async with open_bridge() as bridge:
            return bridge

    bridge = trio.run(leak)
    bridge._closed = False  # as if the loop had died without leaving the block
    with pytest.raises(Unavailable):
        asyncio.run(bridge.call(double, 1))


async def test_calls_are_bounded() -> None:
    act = Endless()
    async with open_bridge(calls_max=1) as bridge:

        async def main() -> str:
            first = asyncio.create_task(bridge.call(act))
            await asyncio.sleep(0)
            with pytest.raises(Unavailable) as caught:
                await bridge.call(double, 1)
            first.cancel()
            await asyncio.wait([first])
            return caught.value.code

        assert await on_asyncio(main) == "busy"


async def test_what_was_opened_for_nobody_is_undone() -> None:
    undone: list[str] = []
    release = trio.Event()
    began = trio.Event()
    done = trio.Event()

    async def open_thing() -> str:
        began.set()
        with trio.CancelScope(shield=True):  # it can't be stopped half-way, so it ends after its caller has left
            await release.wait()
        return "thing"

    async def undo(thing: str) -> None:
        undone.append(thing)
        done.set()

    async with open_bridge() as bridge:
        token = trio.lowlevel.current_trio_token()

        async def main() -> None:
            task = asyncio.create_task(bridge.call(open_thing, undo=undo))
            await asyncio.to_thread(trio.from_thread.run, began.wait, trio_token=token)
            task.cancel()
            await asyncio.wait([task])
            token.run_sync_soon(release.set)
            await asyncio.to_thread(trio.from_thread.run, done.wait, trio_token=token)

        with trio.fail_after(2):
            await on_asyncio(main)
    assert undone == ["thing"]


async def test_a_result_that_its_caller_is_cancelled_before_taking_is_undone() -> None:
    done = trio.Event()

    async def open_thing() -> str:
        return "thing"

    async def undo(thing: str) -> None:
        assert thing == "thing"
        done.set()

    class CancelsItsTask(Bridge):
        """Its caller is cancelled once the result is there and before it runs on."""

        def _arrive(self, call: Any, result: Any) -> None:
            super()._arrive(call, result)
            task.cancel()

    async with trio.open_nursery() as nursery:
        bridge = CancelsItsTask(nursery, 1)

        async def main() -> None:
            nonlocal task
            task = asyncio.create_task(bridge.call(open_thing, undo=undo))
            await asyncio.wait([task])
            assert task.cancelled()

        task: asyncio.Task[str]
        await on_asyncio(main)
        with trio.fail_after(1):
            await done.wait()


async def test_what_is_dropped_is_undone_however_many_calls_are_under_way() -> None:
    act = Endless()
    undone: list[str] = []
    done = trio.Event()

    async def undo(thing: str) -> None:
        undone.append(thing)
        done.set()

    async with open_bridge(calls_max=1) as bridge:
        token = trio.lowlevel.current_trio_token()

        async def main() -> None:
            first = asyncio.create_task(bridge.call(act))
            await asyncio.sleep(0)
            bridge.drop(undo, "thing")
            await asyncio.to_thread(trio.from_thread.run, done.wait, trio_token=token)
            first.cancel()
            await asyncio.wait([first])

        with trio.fail_after(2):
            await on_asyncio(main)
    assert undone == ["thing"]


async def test_many_calls_at_once() -> None:
    async with open_bridge() as bridge:

        async def main() -> list[int]:
            return await asyncio.gather(*(bridge.call(double, value) for value in range(200)))

        assert await on_asyncio(main) == [2 * value for value in range(200)]
