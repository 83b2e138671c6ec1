"""QEMU as a process: started so that it outlives the node, found again by number, start time and UUID, ended surely.

Every question is answered from /proc, the same for a child of this node and for one left by an earlier run.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import trio

from xnode.core.faults import MachineFault, OperatorFault
from xnode.vm.limits import PROCESS_POLL_SECONDS
from xnode.vm.qemu_command import ERRORS

_PROC: Final = Path("/proc")
_ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C"}
_COMMAND_BYTES_MAX: Final = 64 << 10


class Identity(NamedTuple):
    """The user that QEMU runs as; `groups` are extra ones, such as that of /dev/kvm."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def popen_arguments(self) -> dict[str, Any]:
        """What makes a child run as this user; only root may change users."""
        if os.geteuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": list(self.groups)}


class Process(NamedTuple):
    """A process that can't be mistaken for a later one of the same number."""

    pid: int
    started_ticks: int


class _Outliving(subprocess.Popen[bytes]):
    """A child that we mean to leave running: no warning about that, and no waiting for it."""

    def __del__(self) -> None:
        """Popen's own would warn; `is_alive` reaps the child once it has ended."""


def spawn(argv: Sequence[str], directory: Path, user: Identity, file_bytes_max: int, is_spare: bool = False) -> Process:
    """Starts QEMU in its run directory; changing there comes before giving up our rights. No file that it
    writes, its disk and its console, may outgrow `file_bytes_max`, even while no node looks. Raises OperatorFault.

    Of a spare, whose disk may yet be a larger one, the limit may be raised: see `set_file_limit`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    if shutil.which(argv[0], path=_ENVIRONMENT["PATH"]) is None:
        raise OperatorFault("qemu_missing", f"there is no {argv[0]}: install qemu-system-x86 and qemu-utils")
    limit = f"--fsize={file_bytes_max}:" + ("" if is_spare else str(file_bytes_max))
    errors = os.open(directory / ERRORS, flags, 0o600)
    try:
        child = _Outliving(
            ("prlimit", limit, "--", *argv), cwd=directory,
            env=_ENVIRONMENT, umask=0o077, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, **user.popen_arguments(),
        )  # fmt: skip
    except OSError as error:
        raise OperatorFault("qemu_missing", f"prlimit can't be started ({error}): install util-linux") from error
    finally:
        os.close(errors)
    return Process(child.pid, started_ticks(child.pid))


async def set_file_limit(process: Process, user: Identity, file_bytes_max: int) -> None:
    """Gives a running QEMU another limit, for good. As its user, for who may do that at all; raises MachineFault."""
    argv = ("prlimit", f"--pid={process.pid}", f"--fsize={file_bytes_max}:{file_bytes_max}")
    result = await trio.run_process(
        argv, check=False, capture_stdout=True, capture_stderr=True, **user.popen_arguments()
    )
    if result.returncode:
        complaint = result.stderr.decode(errors="replace").strip()
        raise MachineFault("limits_failed", f"process {process.pid} can't be given another limit: {complaint}")


def started_ticks(pid: int) -> int:
    """When it started, in clock ticks since the host's boot; 0 when it has ended, a zombie included."""
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def is_alive(process: Process) -> bool:
    """Whether that very process still runs; reaps it if it was ours and has ended."""
    if process.pid == 0:
        return False
    ticks = started_ticks(process.pid)
    return ticks == process.started_ticks if ticks != 0 else not _is_reaped(process.pid)


def _is_reaped(pid: int) -> bool:
    """False while a child of ours is a zombie whose other threads are still ending: nobody can reap it before."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def find(uuid: str) -> Process | None:
    """The running QEMU started with `-uuid` this, whoever started it. Looks at every process: use a thread."""
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and _has_uuid(entry, uuid):
            process = Process(int(entry.name), started_ticks(int(entry.name)))
            if process.started_ticks:
                return process
    return None


def _has_uuid(entry: Path, uuid: str) -> bool:
    try:
        with (entry / "cmdline").open("rb") as file:
            words = file.read(_COMMAND_BYTES_MAX).split(b"\0")
    except OSError:
        return False
    return b"qemu-system" in words[0] and (b"-uuid", uuid.encode()) in pairwise(words)


def kill(process: Process) -> None:
    """SIGKILL to that very process; already gone is success. The number can't be reused between look and signal."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if started_ticks(process.pid) == process.started_ticks:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except PermissionError as error:
        message = f"process {process.pid} may not be ended by this user: run the node as the user that started it"
        raise MachineFault("kill_refused", message) from error
    finally:
        os.close(descriptor)


async def gone(process: Process, patience: float) -> bool:
    """Waits up to `patience` seconds for a process to end."""
    with trio.move_on_after(patience):
        while is_alive(process):  # noqa: ASYNC110 - another process can't set an event
            await trio.sleep(PROCESS_POLL_SECONDS)
    return not is_alive(process)
