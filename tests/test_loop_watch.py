"""The instrument that names tasks which keep the loop."""

import time

import trio

from xnode.loop_watch import STEP_MAX_NS, LoopWatch


async def busy() -> None:
    """Computes for twice as long as is allowed, by this thread's own CPU time."""
    end = time.thread_time_ns() + 2 * STEP_MAX_NS
    while time.thread_time_ns() < end:
        pass


async def waiting() -> None:
    """Waits without computing."""
    await trio.sleep(3 * STEP_MAX_NS / 1e9)


async def both() -> None:
    """One of each."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(busy, name="the busy one")
        nursery.start_soon(waiting, name="the waiting one")


def test_a_task_that_computes_for_long_is_named_and_one_that_waits_is_not() -> None:
    watch = LoopWatch()
    trio.run(both, instruments=[watch])
    assert watch.slow["the busy one"] == 1
    assert watch.longest["the busy one"] > STEP_MAX_NS
    assert "the waiting one" not in watch.slow
    assert watch.steps > 2
