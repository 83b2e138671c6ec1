"""Checks pages of blocks, several at once: on the loop where they are few, in worker processes where they are many.

Measured: a thread that gives up the interpreter lock for each signature gets a third of a core while the loop is busy
judging, and a process gets all of one. So bulk goes to processes: started when first needed, ended when idle.
"""

import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from xnode.checking.checks import ANSWER_BYTES, Checked, check_wires, pack_order, unpack_answer
from xnode.core.hashing import NetworkKey

log = logging.getLogger(__name__)

INLINE_MAX: Final = 32  # blocks of a page that the loop checks itself
INLINE_STEP: Final = 8  # blocks checked before others run: about a millisecond
CHUNK_BLOCKS: Final = 128  # in one order
AHEAD_MAX: Final = 2  # orders that one worker has at once
ORDERS_MAX: Final = 64  # waiting for a worker
IDLE_SECONDS: Final = 30.0  # then a worker without orders ends
STOP_SECONDS: Final = 2.0
_PACKAGE_PARENT: Final = str(Path(__file__).resolve().parents[2])


class Job:
    """Blocks under check; `done` is set once `found` is there, None where the worker has died."""

    def __init__(self, wires: Sequence[bytes]) -> None:
        self.wires = wires
        self.done = trio.Event()
        self.found: bytes | None = None


class Checking:
    """A page that is being checked."""

    def __init__(self, checker: "Checker", jobs: Sequence[Job]) -> None:
        self._checker = checker
        self._jobs = jobs

    async def findings(self) -> list[Checked]:
        """What each of its blocks is, in their order."""
        found: list[Checked] = []
        for job in self._jobs:
            await job.done.wait()
            found += await self._checker.check_here(job.wires) if job.found is None else unpack_answer(job.found)
        return found


class Checker:
    """For one network. Without workers all is checked on the loop, in small steps."""

    def __init__(self, key: NetworkKey, difficulty: int) -> None:
        self._key = key
        self._difficulty = difficulty
        self._orders: trio.MemorySendChannel[Job] | None = None

    def start(self, wires: Sequence[bytes]) -> Checking:
        """Begins to check a page; whoever starts many must wait for them in between."""
        chunks = [wires[start : start + CHUNK_BLOCKS] for start in range(0, len(wires), CHUNK_BLOCKS)]
        jobs = [Job(chunk) for chunk in chunks]
        for job in jobs:
            self._send(job, is_small=len(wires) <= INLINE_MAX)
        return Checking(self, jobs)

    async def check_here(self, wires: Sequence[bytes]) -> list[Checked]:
        """Checks on the loop, letting others run."""
        found: list[Checked] = []
        for start in range(0, len(wires), INLINE_STEP):
            step = wires[start : start + INLINE_STEP]
            found += check_wires(self._key, self._difficulty, step)
            if len(step) == INLINE_STEP:
                await trio.lowlevel.checkpoint()
        return found

    def order(self, job: Job) -> bytes:
        """A job as a worker gets it."""
        return pack_order(self._key, self._difficulty, job.wires)

    def _send(self, job: Job, is_small: bool) -> None:
        if self._orders is not None and not is_small:
            try:
                self._orders.send_nowait(job)
            except (trio.WouldBlock, trio.BrokenResourceError):
                job.done.set()  # it is checked here
            return
        job.done.set()

    @asynccontextmanager
    async def working(self, workers: int) -> AsyncIterator[None]:
        """Keeps up to so many processes during the block; none outlives it."""
        self._orders, orders = trio.open_memory_channel[Job](ORDERS_MAX)
        async with trio.open_nursery() as nursery:
            for _ in range(workers):
                nursery.start_soon(_keep_working, self, orders.clone())
            try:
                yield
            finally:
                self._orders = None
                nursery.cancel_scope.cancel()


async def _keep_working(checker: Checker, orders: trio.MemoryReceiveChannel[Job]) -> None:
    """One worker after another: each from its first order until it is idle or dies."""
    async for first in orders:
        try:
            process = await _start()
        except OSError as error:
            log.warning("no process can be started to check blocks (%s): they are checked by the node itself", error)
            first.done.set()
            continue
        waiting: deque[Job] = deque()
        try:
            async with trio.open_nursery() as nursery:
                room = trio.Semaphore(AHEAD_MAX)
                nursery.start_soon(_read_answers, process, waiting, room, nursery.cancel_scope)
                await _feed(checker, process, orders, first, waiting, room)
                nursery.cancel_scope.cancel()
        finally:
            for job in waiting:
                job.done.set()
            await _stop(process)


async def _feed(
    checker: Checker,
    process: trio.Process,
    orders: trio.MemoryReceiveChannel[Job],
    job: Job | None,
    waiting: deque[Job],
    room: trio.Semaphore,
) -> None:
    assert process.stdin is not None
    while job is not None:
        waiting.append(job)
        await room.acquire()
        try:
            await process.stdin.send_all(checker.order(job))
        except trio.BrokenResourceError:
            return
        job = None
        while job is None:
            with trio.move_on_after(IDLE_SECONDS):
                job = await orders.receive()
            if job is None and not waiting:
                return


async def _read_answers(
    process: trio.Process, waiting: deque[Job], room: trio.Semaphore, scope: trio.CancelScope
) -> None:
    assert process.stdout is not None
    data = bytearray()
    while piece := await process.stdout.receive_some(65_536):
        data += piece
        while waiting and len(data) >= (size := ANSWER_BYTES * len(waiting[0].wires)):
            job = waiting.popleft()
            job.found = bytes(data[:size])
            del data[:size]
            job.done.set()
            room.release()
    scope.cancel()  # it died


async def _start() -> trio.Process:
    command = [sys.executable, "-P", "-m", "xnode.checking.worker"]
    environment = {**os.environ, "PYTHONPATH": _PACKAGE_PARENT}
    return await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


async def _stop(process: trio.Process) -> None:
    """Ends a worker: by the end of its input, else by force."""
    assert process.stdin is not None
    assert process.stdout is not None
    with trio.CancelScope(shield=True):
        await process.stdin.aclose()
        with trio.move_on_after(STOP_SECONDS):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await process.stdout.aclose()
