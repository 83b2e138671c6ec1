"""The demo's steps as they go, and the table of their seconds at its end."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import click

LOG_EVERY_S: Final = 10.0


class Step(NamedTuple):
    """A step that is over."""

    title: str
    seconds: float
    verified: bool


class Timeline:
    """Prints each step when it starts and ends; `report` prints what happens within one."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._in_place = False
        self._progress_at = 0.0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Times what is inside; a step that raises is noted as failed."""
        click.secho(f"\n{len(self.steps) + 1}. {title}", bold=True)
        started = time.monotonic()
        verified = False
        try:
            yield
            verified = True
        finally:
            self._end_line()
            self.steps.append(Step(title, time.monotonic() - started, verified))

    def add(self, title: str, seconds: float) -> None:
        """A step that was done before this program started."""
        self.steps.append(Step(title, seconds, True))

    def report(self, text: str) -> None:
        """One line below the step's title."""
        self._end_line()
        click.echo(f"   {text}")

    def progress(self, text: str) -> None:
        """A line that the next one overwrites, on a terminal; elsewhere one line in 10 s: logs stay short."""
        if sys.stdout.isatty():
            click.echo(f"\r   {text:<76}", nl=False)
            self._in_place = True
        elif time.monotonic() - self._progress_at >= LOG_EVERY_S:
            self._progress_at = time.monotonic()
            click.echo(f"   {text}")

    def _end_line(self) -> None:
        if self._in_place:
            click.echo()
            self._in_place = False

    def lines(self) -> list[str]:
        """The table."""
        rows = [
            f"{number:>3}. {step.title:<64} {step.seconds:>7.1f} s  {'verified' if step.verified else 'FAILED'}"
            for number, step in enumerate(self.steps, 1)
        ]
        total = sum(step.seconds for step in self.steps)
        return [*rows, f"     {'in all':<64} {total:>7.1f} s"]
