"""The worker processes of one solver: started when first needed, replaced when they died."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from xnode.core.faults import MachineFault
from xnode.pow.worker import ANSWER_BYTES, STOP, Order, decode_answer

STOP_SECONDS: Final = 2.0  # a worker ends within one chunk; one that does not is killed
_PACKAGE_PARENT: Final = str(Path(__file__).resolve().parents[2])


class _Worker:
    """One process with its two pipes."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.orders = process.stdin
        self.answers = process.stdout

    async def ask(self, order: Order) -> int | None:
        """The nonce for `order`, or None when the process has died."""
        try:
            await self.orders.send_all(order.encode())
            while len(data := await self.answers.receive_some(ANSWER_BYTES)) == ANSWER_BYTES:
                answer = decode_answer(data)
                if answer.job == order.job:  # else a late answer to a search that was cancelled
                    return answer.nonce
        except trio.BrokenResourceError:
            pass  # died: said by None
        return None

    async def stop_search(self) -> None:
        """Ends the search under way; must not raise, so that a cancelled solve ends cleanly."""
        with trio.move_on_after(STOP_SECONDS, shield=True) as scope:
            try:
                await self.orders.send_all(STOP.encode())
            except trio.BrokenResourceError:
                return
        if scope.cancelled_caught:
            self.process.kill()

    async def aclose(self) -> None:
        """Ends the process: by the end of its input, else by force."""
        with trio.CancelScope(shield=True):
            await self.orders.aclose()
            with trio.move_on_after(STOP_SECONDS):
                await self.process.wait()
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()
            await self.answers.aclose()


async def _start_worker() -> _Worker:
    command = [sys.executable, "-P", "-m", "xnode.pow.worker"]
    environment = {**os.environ, "PYTHONPATH": _PACKAGE_PARENT}
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    return _Worker(process)


async def _search(worker: _Worker, order: Order, found: list[int], scope: trio.CancelScope) -> None:
    nonce = await worker.ask(order)
    if nonce is not None:
        found.append(nonce)
        scope.cancel()


class Pool:
    """Up to `size` processes, all searching for the same root from different random nonces."""

    def __init__(self, size: int, random: Callable[[int], bytes]) -> None:
        self._size = size
        self._random = random
        self._workers: list[_Worker] = []
        self._job = 0

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The processes that are alive now."""
        return tuple(worker.process.pid for worker in self._workers if worker.process.poll() is None)

    async def solve(self, root: bytes, difficulty: int) -> int:
        """The first nonce that any process finds; MachineFault(work_search_failed) when all of them died."""
        await self._fill()
        self._job += 1
        found: list[int] = []
        try:
            async with trio.open_nursery() as nursery:
                for worker in self._workers:
                    order = Order(self._job, difficulty, self._random_nonce(), root)
                    nursery.start_soon(_search, worker, order, found, nursery.cancel_scope)
        finally:
            await self._stop_searches()
        if not found:
            raise MachineFault(
                "work_search_failed", "every work process died (short of memory?); try again", retryable=True
            )
        return found[0]

    def _random_nonce(self) -> int:
        return int.from_bytes(self._random(8), "big")

    async def _stop_searches(self) -> None:
        for worker in self._workers:
            await worker.stop_search()

    async def _fill(self) -> None:
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._workers.remove(worker)
            await worker.aclose()
        while len(self._workers) < self._size:
            self._workers.append(await _start_worker())

    async def aclose(self) -> None:
        """Ends every process."""
        async with trio.open_nursery() as nursery:
            for worker in self._workers:
                nursery.start_soon(worker.aclose)
        self._workers.clear()
