"""The loop of virtual time against trio's own: the same story ends the same, only the clock is coarser."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
import trio.testing

from tests.sim.loop import TICK, virtual_time
from xnode.net.pulse import Pulse


def by_trio(story: Callable[[list[str]], Awaitable[None]]) -> list[str]:
    told: list[str] = []
    trio.run(story, told, clock=trio.testing.MockClock(autojump_threshold=0))
    return told


def by_us(story: Callable[[list[str]], Awaitable[None]], seed: int = 1) -> list[str]:
    told: list[str] = []
    with virtual_time(seed) as clock:
        trio.run(story, told, clock=clock)
    return told


async def naps(told: list[str]) -> None:
    async def nap(seconds: float) -> None:
        await trio.sleep(seconds)
        told.append(f"{trio.current_time():.2f}")

    async with trio.open_nursery() as nursery:
        for seconds in (0.5, 2.0, 1.0, 0.0, 3.0):
            nursery.start_soon(nap, seconds)


async def limits(told: list[str]) -> None:
    with trio.move_on_after(1.0) as scope:
        await trio.sleep(2.0)
    told.append(f"{trio.current_time():.2f} {scope.cancelled_caught}")
    with trio.move_on_after(1.0) as scope:
        await trio.sleep(0.5)
    await trio.sleep_until(5.0)
    told.append(f"{trio.current_time():.2f} {scope.cancelled_caught}")
    with pytest.raises(trio.TooSlowError), trio.fail_after(0.25):
        await trio.sleep_forever()
    told.append(f"{trio.current_time():.2f}")


async def pulses(told: list[str]) -> None:
    pulse = Pulse()

    async def wait(name: str, seconds: float) -> None:
        await pulse.wait(seconds)
        told.append(f"{name} {trio.current_time():.2f}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "short", 1.0)
        nursery.start_soon(wait, "long", 9.0)
        nursery.start_soon(wait, "at once", 0.0)
        await trio.sleep(2.0)
        pulse.fire()
        pulse.fire()
        await trio.sleep(1.0)
        nursery.start_soon(wait, "cancelled", 9.0)
        await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    pulse.fire()
    told.append("end")


async def failures(told: list[str]) -> None:
    async def fail() -> None:
        await trio.sleep(1.0)
        raise ValueError("as planned")

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()
    except* ValueError as group:
        told.append(f"{trio.current_time():.2f} {group.exceptions}")


async def generators(told: list[str]) -> None:
    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(9):
                yield number
        finally:
            told.append("finalized")

    async for number in numbers():
        if number == 2:
            break
    await trio.sleep(1.0)


@pytest.mark.filterwarnings("ignore:Async generator .* was garbage collected:ResourceWarning")
@pytest.mark.parametrize("story", [naps, limits, pulses, failures, generators])
def test_a_story_ends_as_by_trio(story: Callable[[list[str]], Awaitable[None]]) -> None:
    told = by_us(story)
    assert told
    assert told == by_trio(story)


def test_time_goes_by_ticks() -> None:
    async def story(told: list[str]) -> None:
        await trio.sleep(TICK / 3)
        told.append(f"{trio.current_time() / TICK}")

    assert by_us(story) == ["1.0"]


def test_what_is_ready_at_once_is_run_in_an_order_of_the_seed() -> None:
    async def story(told: list[str]) -> None:
        async def say(name: str) -> None:
            await trio.lowlevel.checkpoint()
            told.append(name)

        async with trio.open_nursery() as nursery:
            for name in "abcdefgh":
                nursery.start_soon(say, name)

    orders = {seed: by_us(story, seed) for seed in range(5)}
    assert orders == {seed: by_us(story, seed) for seed in range(5)}
    assert len({tuple(order) for order in orders.values()}) > 1


def test_tasks_that_wait_for_each_other_are_an_error() -> None:
    async def story(told: list[str]) -> None:
        await trio.Event().wait()

    with pytest.raises(RuntimeError, match="wait for each other"):
        by_us(story)
