"""Work done in a network namespace: in a thread of its own, which never comes back, so that no other work strays there.

A namespace has no name and no file. It lives as long as a process in it, or a descriptor of it: when a machine's QEMU
has ended, however it ended, the kernel takes the namespace away, with its link and rules. Needs root (CAP_SYS_ADMIN).
"""

import ctypes
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from xnode.vm.limits import DIAL_SECONDS
from xnode.vm.qemu_process import Process, is_alive

T = TypeVar("T")
_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET
_OWN: Final = Path("/proc/thread-self/ns/net")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Namespaces(NamedTuple):
    """Two of them, as descriptors: the one that the thread came from, and a new one."""

    outside: int
    inside: int

    def enter(self, descriptor: int) -> None:
        """Moves the calling thread; raises OSError."""
        _checked(_LIBC.setns(descriptor, _NEW_NETWORK))

    def path(self, descriptor: int) -> str:
        """By which a program that we start finds it."""
        return f"/proc/{os.getpid()}/fd/{descriptor}"


def in_new_namespace(work: Callable[[Namespaces], T]) -> T:
    """Runs `work` in a new namespace, from which it may go outside and back. Raises OSError where none can be made."""
    return _in_thread(lambda: _in_new(work))


def in_namespace_of(process: Process, work: Callable[[], T]) -> T:
    """Runs `work` in the namespace of a process; raises OSError, ProcessLookupError where it has ended."""
    with _opened(Path(f"/proc/{process.pid}/ns/net")) as namespace:
        if not is_alive(process):
            raise ProcessLookupError("the process has ended")
        return _in_thread(lambda: _after(lambda: _checked(_LIBC.setns(namespace, _NEW_NETWORK)), work))


def dial(port: int, inside: Process | None) -> socket.socket:
    """Connects to a port on loopback, the host's or that of a process's namespace; non-blocking. Raises OSError."""
    sock = _dial(port) if inside is None else in_namespace_of(inside, lambda: _dial(port))
    sock.setblocking(False)
    return sock


def is_apart(process: Process) -> bool:
    """Whether it is in another network namespace than we are; False where we may not know: then it is none of ours."""
    try:
        return Path(f"/proc/{process.pid}/ns/net").stat().st_ino != _OWN.stat().st_ino
    except OSError:
        return False


def _dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), DIAL_SECONDS)


def _in_new(work: Callable[[Namespaces], T]) -> T:
    with _opened(_OWN) as outside:
        _checked(_LIBC.unshare(_NEW_NETWORK))
        with _opened(_OWN) as inside:
            return work(Namespaces(outside, inside))


def _after(first: Callable[[], None], work: Callable[[], T]) -> T:
    first()
    return work()


def _in_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1, "namespace") as thread:
        return thread.submit(work).result()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _checked(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
