"""A debugging instrument: which task kept the trio loop busy for longer than 10 ms at a stretch (design: two loops).

It measures the thread's CPU time, so that a busy machine is not taken for a busy loop.
"""

import logging
import time
from collections import Counter
from typing import Final

import trio

STEP_MAX_NS: Final = 10_000_000
NAMES_MAX: Final = 1_000

log = logging.getLogger(__name__)


class LoopWatch(trio.abc.Instrument):
    """Counts steps and keeps the longest of each kind of task, in ns of CPU time."""

    def __init__(self) -> None:
        self._began = 0
        self.steps = 0
        self.slow: Counter[str] = Counter()
        self.longest: dict[str, int] = {}

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002  trio's shape
        """The loop hands over to a task."""
        self._began = time.thread_time_ns()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """The task has given the loop back."""
        took = time.thread_time_ns() - self._began
        self.steps += 1
        if took <= STEP_MAX_NS:
            return
        name = task.name if len(self.longest) < NAMES_MAX else "others"
        self.slow[name] += 1
        self.longest[name] = max(self.longest.get(name, 0), took)
        log.warning("task %s kept the loop for %.1f ms", task.name, took / 1e6)
