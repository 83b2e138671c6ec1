"""Finding proof of work off the event loop, on all cores, one root after another (protocol section 6).

Trivial work (a test network) is found at once on the loop, so that simulations need no thread; easy work (a local
network) by a thread in milliseconds, and no process is ever started; anything dearer goes to worker processes.
Solves wait in order; each can be cancelled within about 100 ms.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from xnode.core.faults import Unavailable
from xnode.core.values import U64_MAX
from xnode.core.work import expected_tries, is_valid_work
from xnode.pow.kernel import search
from xnode.pow.pool import Pool
from xnode.pow.worker import ROOT_BYTES

TRIVIAL_TRIES_MAX: Final = 2**9  # expected tries up to which the loop does it: less than 1 ms
EASY_TRIES_MAX: Final = 2**15  # expected tries up to which a thread does it: about 30 ms
EASY_CHUNK_TRIES: Final = 2_048  # about 2 ms: how soon loop and thread see that they are cancelled
WAITING_MAX: Final = 256  # solves that wait or run at once


class Solver:
    """Finds nonces; made by `open_solver`."""

    def __init__(self, pool: Pool, random: Callable[[int], bytes]) -> None:
        self._pool = pool
        self._random = random
        self._turn = trio.Lock()
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many solves wait or run now, WAITING_MAX at most."""
        return self._waiting

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The worker processes alive now: none before the first solve that needs them."""
        return self._pool.process_ids

    async def solve(self, root: bytes, difficulty: int) -> int:
        """A nonce of u64 that is valid work for the 32-byte `root`.

        Raises Unavailable(work_queue_full) when WAITING_MAX solves wait already,
        MachineFault(work_search_failed) when the worker processes died.
        """
        if len(root) != ROOT_BYTES or not 0 <= difficulty <= U64_MAX:
            raise ValueError("a work root has 32 bytes and a difficulty is a u64")
        if self._waiting >= WAITING_MAX:
            raise Unavailable("work_queue_full", f"{WAITING_MAX} blocks wait for work; try again later", retryable=True)
        self._waiting += 1
        try:
            async with self._turn:
                nonce = await self._find(root, difficulty)
        finally:
            self._waiting -= 1
        if not is_valid_work(root, nonce, difficulty):
            raise AssertionError("the work kernel returned a nonce that does not reach the difficulty")
        return nonce

    async def _find(self, root: bytes, difficulty: int) -> int:
        tries = expected_tries(difficulty)
        if tries > EASY_TRIES_MAX:
            return await self._pool.solve(root, difficulty)
        start = int.from_bytes(self._random(8), "big")
        if tries > TRIVIAL_TRIES_MAX:
            return await trio.to_thread.run_sync(_find_in_thread, root, difficulty, start)
        while (nonce := search(root, difficulty, start, EASY_CHUNK_TRIES)) is None:
            await trio.lowlevel.checkpoint()
            start += EASY_CHUNK_TRIES
        return nonce


def _find_in_thread(root: bytes, difficulty: int, start: int) -> int:
    while (nonce := search(root, difficulty, start, EASY_CHUNK_TRIES)) is None:
        trio.from_thread.check_cancelled()
        start += EASY_CHUNK_TRIES
    return nonce


@asynccontextmanager
async def open_solver(workers: int, random: Callable[[int], bytes]) -> AsyncIterator[Solver]:
    """A solver on `workers` processes (right: one a core), none of which outlives it.

    `random(n)` gives n bytes; they choose where a search starts.
    """
    if workers < 1:
        raise ValueError("a solver needs at least one worker")
    pool = Pool(workers, random)
    try:
        yield Solver(pool, random)
    finally:
        await pool.aclose()
