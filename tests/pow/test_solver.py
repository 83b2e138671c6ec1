"""The solver with its real thread and real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from xnode.core.faults import MachineFault, Unavailable
from xnode.core.values import U64_MAX
from xnode.core.work import is_valid_work
from xnode.pow import solver as solver_module
from xnode.pow.solver import Solver, open_solver

TRIVIAL = 0xFF00000000000000  # 2^8 tries: on the loop
EASY = U64_MAX - 2**52 + 1  # 2^12 tries: a thread
HARD = U64_MAX - 2**48 + 1  # 2^16 tries: processes
NEVER = U64_MAX  # 2^64 tries
CANCEL_SECONDS = 2.0  # measured: below 0.1 s on an idle machine; this one is shared


def fixed_random(count: int) -> bytes:
    return bytes(range(count))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def wait_until_gone(pids: list[int]) -> None:
    with trio.fail_after(10):
        while any(is_alive(pid) for pid in pids):  # noqa: ASYNC110 -- another process's end is no event of ours
            await trio.sleep(0.02)


async def start_processes(solver: Solver) -> tuple[int, ...]:
    with trio.move_on_after(60) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(solver.solve, bytes(32), NEVER)
            while len(solver.process_ids) < 2:  # noqa: ASYNC110 -- as the solver's user sees it
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert not scope.cancelled_caught
    return solver.process_ids


@pytest.mark.parametrize("difficulty", [0, TRIVIAL, EASY])
async def test_easy_work_starts_no_process(difficulty: int) -> None:
    async with open_solver(2, fixed_random) as solver:
        nonce = await solver.solve(b"r" * 32, difficulty)
        assert is_valid_work(b"r" * 32, nonce, difficulty)
        assert solver.process_ids == ()


async def test_trivial_work_takes_no_virtual_time(autojump_clock: trio.testing.MockClock) -> None:
    async with open_solver(1, fixed_random) as solver:
        with trio.move_on_after(1000) as scope:
            await solver.solve(b"r" * 32, TRIVIAL)
        assert not scope.cancelled_caught
        assert trio.current_time() == 0


async def test_cancels_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver_module, "TRIVIAL_TRIES_MAX", 2**65)
    monkeypatch.setattr(solver_module, "EASY_TRIES_MAX", 2**65)
    async with open_solver(1, fixed_random) as solver:
        with trio.fail_after(CANCEL_SECONDS), trio.move_on_after(0.01) as scope:
            await solver.solve(bytes(32), NEVER)
        assert scope.cancelled_caught


@pytest.mark.slow
async def test_hard_work_runs_in_processes_that_end_with_the_solver() -> None:
    async with open_solver(2, os.urandom) as solver:
        for root in (b"a" * 32, b"b" * 32):
            nonce = await solver.solve(root, HARD)
            assert is_valid_work(root, nonce, HARD)
        pids = solver.process_ids
        assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.slow
@pytest.mark.parametrize("difficulty", [HARD, NEVER])
async def test_a_cancelled_search_stops_and_the_next_one_is_right(difficulty: int) -> None:
    async with open_solver(2, os.urandom) as solver:
        await start_processes(solver)
        started = trio.current_time()
        with trio.move_on_after(0.02):
            await solver.solve(b"c" * 32, difficulty)
        assert trio.current_time() - started < CANCEL_SECONDS
        nonce = await solver.solve(b"d" * 32, HARD)
        assert is_valid_work(b"d" * 32, nonce, HARD)
        assert solver.waiting == 0


async def test_cancels_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver_module, "EASY_TRIES_MAX", 2**65)
    async with open_solver(1, fixed_random) as solver:
        with trio.fail_after(CANCEL_SECONDS), trio.move_on_after(0.01) as scope:
            await solver.solve(bytes(32), NEVER)
        assert scope.cancelled_caught


@pytest.mark.slow
async def test_the_loop_keeps_running_meanwhile() -> None:
    async with open_solver(2, os.urandom) as solver, trio.open_nursery() as nursery:
        nursery.start_soon(solver.solve, bytes(32), NEVER)
        for _ in range(50):
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()


async def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver_module, "EASY_TRIES_MAX", 2**65)
    monkeypatch.setattr(solver_module, "WAITING_MAX", 3)
    async with open_solver(1, fixed_random) as solver, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(solver.solve, bytes(32), NEVER)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Unavailable) as caught:
            await solver.solve(bytes(32), EASY)
        assert caught.value.code == "work_queue_full"
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_killed_workers_are_named_and_then_replaced() -> None:
    async with open_solver(2, os.urandom) as solver:
        for pid in await start_processes(solver):
            os.kill(pid, signal.SIGSTOP)  # so that none can answer before it is killed
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_kill_soon, solver.process_ids)
            with pytest.raises(MachineFault) as caught:
                await solver.solve(bytes(32), HARD)
        assert caught.value.code == "work_search_failed"
        nonce = await solver.solve(bytes(32), HARD)
        assert is_valid_work(bytes(32), nonce, HARD)


async def _kill_soon(pids: tuple[int, ...]) -> None:
    await trio.sleep(0.02)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


ORPHAN_SCRIPT = """
import os, trio
from xnode.pow.solver import open_solver

async def main():
    async with open_solver(2, os.urandom) as solver, trio.open_nursery() as nursery:
        nursery.start_soon(solver.solve, bytes(32), 2**64 - 1)
        while len(solver.process_ids) < 2:
            await trio.sleep(0.01)
        one, other = solver.process_ids
        print(f"{one} {other}\\n", end="", flush=True)
        await trio.sleep(60)

trio.run(main)
"""


@pytest.mark.slow
async def test_workers_end_when_their_parent_is_killed() -> None:
    command = [sys.executable, "-c", ORPHAN_SCRIPT]
    parent = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    line = await parent.stdout.receive_some()  # printed at once, below PIPE_BUF
    parent.kill()
    await parent.wait()
    await parent.stdout.aclose()
    pids = [int(word) for word in line.split()]
    assert len(pids) == 2
    await wait_until_gone(pids)


@pytest.mark.parametrize(("root", "difficulty"), [(b"short", EASY), (bytes(32), -1), (bytes(32), 2**64)])
async def test_refuses_what_is_no_root_or_difficulty(root: bytes, difficulty: int) -> None:
    async with open_solver(1, fixed_random) as solver:
        with pytest.raises(ValueError, match="32 bytes"):
            await solver.solve(root, difficulty)


async def test_needs_a_worker() -> None:
    with pytest.raises(ValueError, match="at least one"):
        async with open_solver(0, fixed_random):
            pass
