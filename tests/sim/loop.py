"""Trio's loop where only virtual time passes: the same tasks, nurseries and cancel scopes in far fewer steps.

Trio's own loop looks for input and output between any two steps, and its `sleep` is a cancel scope that throws itself
out of the task. Here nothing comes from outside: when no task can run, the clock goes to the next timer, at full TICKs
only, so that more happens at once and in a drawn order. What is ready is run in an order drawn from the seed.

It stands in for two of trio's functions by name and uses some of its fields, those of the version that is locked.
"""

from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import count
from math import ceil, inf
from random import Random
from typing import Any, Final, NoReturn
from unittest.mock import patch

import outcome
import trio
from trio._core import _run as trios
from trio._core._traps import CancelShieldedCheckpoint, WaitTaskRescheduled

from xnode.net.pulse import Pulse

TICK: Final = 2**-7  # seconds, about 8 ms; a power of two, so that sums of it are exact

Sleeper = list[Any]  # the task that sleeps, until it does no more
Timer = tuple[float, int, Sleeper]  # when, which of them, and who


class VirtualClock(trio.abc.Clock):
    """Seconds since the run's start, and who sleeps until when."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self._random = Random(seed)
        self._timers: list[Timer] = []
        self._serial = count()

    def start_clock(self) -> None:
        """It stands still until `run` moves it."""

    def current_time(self) -> float:
        """Seconds."""
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Nobody asks: trio's own loop does not run."""
        return deadline - self.now

    async def sleep_until(self, deadline: float) -> None:
        """As trio's; a task that waits so can be cancelled."""
        if deadline <= self.now:
            await trio.lowlevel.checkpoint()
        else:
            await self.wait([], deadline)

    async def sleep(self, seconds: float) -> None:
        """As trio's."""
        assert seconds >= 0
        await self.sleep_until(self.now + seconds)

    async def wait(self, sleeper: Sleeper, deadline: float) -> None:
        """Puts the running task into `sleeper`; goes on when it is woken, or at the deadline."""
        sleeper.append(trio.lowlevel.current_task())
        heappush(self._timers, (deadline, next(self._serial), sleeper))

        def abort(_: object) -> trio.lowlevel.Abort:
            sleeper.clear()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def run(self, runner: Any, main: Callable[..., Awaitable[Any]], args: Any) -> Generator[float, Any, None]:
        """In place of `unrolled_run`: runs all tasks to their end and never waits for anything outside."""
        try:
            runner.init_task = runner.spawn_impl(runner.init, (main, args), None, "<init>", system_task=True)
            while runner.tasks:
                if not runner.runq:
                    self._go_on(runner)
                batch = list(runner.runq)
                runner.runq.clear()
                if len(batch) > 1:
                    batch.sort(key=_number)
                    self._random.shuffle(batch)
                for task in batch:
                    _step(runner, task)
        finally:
            runner.close()
            trios.GLOBAL_RUN_CONTEXT.__dict__.clear()
        return
        yield 0.0

    def _go_on(self, runner: Any) -> None:
        """To the next timer's tick, and past all that are due by then."""
        if runner.entry_queue.queue:  # trio's own: an asynchronous generator has to be finalized
            runner.io_manager.process_events(runner.io_manager.get_events(0))
            return
        timers, deadlines = self._timers, runner.deadlines
        while timers and not timers[0][2]:
            heappop(timers)
        at = min(timers[0][0] if timers else inf, deadlines.next_deadline())
        if at == inf:
            runner.main_task._attempt_abort(_fail)  # the main task fails of it, and all others with it
            return
        self.now = max(self.now, ceil(at / TICK) * TICK)
        deadlines.expire(self.now)
        while timers and timers[0][0] <= self.now:
            wake(heappop(timers)[2])


def wake(sleeper: Sleeper) -> None:
    """Lets the task go on, unless it does already."""
    if sleeper:
        trio.lowlevel.reschedule(sleeper.pop())


class VirtualPulse:
    """As `xnode.net.pulse.Pulse`, where a time that is over is no cancelled scope."""

    clock: VirtualClock

    def __init__(self) -> None:
        self._sleepers: list[Sleeper] = []

    def fire(self) -> None:
        """Wakes everybody who is waiting."""
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            wake(sleeper)

    async def wait(self, seconds: float) -> None:
        """Until the next fire, `seconds` at most."""
        if seconds <= 0:
            await trio.lowlevel.checkpoint()
            return
        sleeper: Sleeper = []
        self._sleepers = [other for other in self._sleepers if other]
        self._sleepers.append(sleeper)
        await self.clock.wait(sleeper, self.clock.now + seconds)


def _fail() -> NoReturn:
    raise RuntimeError("all tasks wait for each other, and no time is set for any")


def _number(task: Any) -> int:
    number: int = task._counter
    return number


def _step(runner: Any, task: Any) -> None:
    """Runs one task to its next wait, as trio's loop does."""
    context = trios.GLOBAL_RUN_CONTEXT
    context.task = task
    send, value = task._next_send_fn, task._next_send
    task._next_send_fn = task._next_send = None
    end: outcome.Outcome[Any] | None = None
    try:
        message = task.context.run(send, value)
    except StopIteration as stop:
        end = outcome.Value(stop.value)
    except BaseException as error:  # noqa: BLE001  whatever ends a task goes to its nursery
        end = outcome.Error(error)
    if end is not None:
        runner.task_exited(task, end)
    elif message is CancelShieldedCheckpoint:
        task._schedule_points += 1
        runner.reschedule(task)
    else:
        assert type(message) is WaitTaskRescheduled, message
        task._schedule_points += 1
        task._cancel_points += 1
        task._abort_func = message.abort_func
        task._attempt_delivery_of_any_pending_cancel()
    del context.task


@contextmanager
def virtual_time(seed: int) -> Iterator[VirtualClock]:
    """What trio.run does in this block with this clock, it does on it."""
    clock = VirtualClock(seed)
    stand_ins = {
        "current_time": clock.current_time,
        "sleep": clock.sleep,
        "sleep_until": clock.sleep_until,
    }
    pulse = {name: getattr(VirtualPulse, name) for name in ("__init__", "fire", "wait")}
    with (
        patch.object(trios, "unrolled_run", clock.run),
        patch.multiple(trio, **stand_ins),
        patch.multiple(Pulse, clock=clock, create=True, **pulse),
    ):
        yield clock
