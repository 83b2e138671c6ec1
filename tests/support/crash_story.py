"""Runs the story once for every point where it can be killed. Usage: python -m tests.support.crash_story DIRECTORY

This process opens no store itself: it forks a child for each point, and the child kills itself there, so nothing is
flushed or closed in order. Each child appends a byte to DIRECTORY/<point>/acknowledged after each commit. Even points
are right before a durable write, odd ones right after it; the first child that lives to the end ends it all.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from tests.support.store import land_step, open_store, story_steps

POINTS_MAX = 1000


class _Killer:
    def __init__(self, point: int) -> None:
        self._left = point

    def __call__(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


def _child(path: Path, point: int) -> NoReturn:
    path.mkdir()
    acknowledged = os.open(path / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store = open_store(path, on_write=_Killer(point))
    os.write(acknowledged, b"+")
    for step in story_steps():
        land_step(store, step)
        os.write(acknowledged, b"+")
    os._exit(0)


def main(directory: Path) -> None:
    """Makes one directory a point, then exits 0."""
    story_steps()  # signed once, before the forks
    for point in range(POINTS_MAX):
        pid = os.fork()
        if pid == 0:
            _child(directory / str(point), point)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            sys.exit(os.waitstatus_to_exitcode(status))
    sys.exit("the story has too many writes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
