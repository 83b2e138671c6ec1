"""Whether a process still runs, for the ways in which one ends."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from xnode.vm.qemu_process import Process, is_alive, started_ticks

# The first thread ends and leaves another behind, as QEMU does on its way out: a zombie that can't be reaped yet.
LEADER_GOES = """
import ctypes, os, threading
threading.Thread(target=os.read, args=(0, 1)).start()
os.write(1, b"up")
ctypes.CDLL(None).syscall(60, 0)
"""
SECONDS = 5


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Ends once its input does; whoever is left of it is killed."""
    command = [sys.executable, "-c", LEADER_GOES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(2) == b"up"
        yield child
        child.kill()


def wait_for(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_one_whose_threads_still_end_is_alive_and_reaped_later(child: subprocess.Popen[bytes]) -> None:
    process = Process(child.pid, started_ticks(child.pid))
    wait_for(lambda: started_ticks(child.pid) == 0)
    assert is_alive(process)
    assert child.stdin is not None
    child.stdin.close()
    wait_for(lambda: not is_alive(process))
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)


def test_one_that_is_no_child_of_ours_and_gone() -> None:
    assert not is_alive(Process(2**22 + 1, 1))
    assert not is_alive(Process(0, 0))


def test_a_later_one_of_the_same_number_is_another() -> None:
    own = Process(os.getpid(), started_ticks(os.getpid()))
    assert is_alive(own)
    assert not is_alive(own._replace(started_ticks=own.started_ticks - 1))
