"""Short conversations with a running QEMU over its monitor socket (QMP), one connection each: 2 to 5 ms.

QEMU serves one client at a time, so nothing is kept open: a tool, or the next run of the node, finds the socket free.
All of this runs on the asyncio thread. Every failure is MachineFault(qmp_failed).
"""

import asyncio
import contextlib
import logging
import os
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, cast

from qemu.qmp import QMPClient, QMPError

from xnode.core.faults import MachineFault
from xnode.vm.limits import QMP_SECONDS

SOCKET_NAME: Final = "qmp.sock"
DISK_ID: Final = "disk0"
INTERNAL_ERROR: Final = "internal-error"
IO_ERROR: Final = "io-error"  # the host could not write its disk; QEMU waits for `cont`
_FORWARD: Final = re.compile(r"TCP\[HOST_FORWARD\]\s+\S+\s+127\.0\.0\.1\s+(\d+)\s")


async def status(directory: Path) -> str:
    """QEMU's run state: `running`, `paused`, `internal-error`, `shutdown`, ..."""
    async with _monitor(directory) as monitor:
        answer = cast(dict[str, object], await monitor.execute("query-status"))
        return str(answer["status"])


async def identity(directory: Path) -> tuple[str, int]:
    """The UUID that QEMU was started with and the host port that it forwards to SSH (0 if it forwards none)."""
    async with _monitor(directory) as monitor:
        uuid = cast(dict[str, object], await monitor.execute("query-uuid"))
        network = await monitor.execute("human-monitor-command", {"command-line": "info usernet"})
    return str(uuid["UUID"]), parse_forward(str(network))


async def power_button(directory: Path) -> None:
    """Presses it: the guest may shut down in its own way."""
    async with _monitor(directory) as monitor:
        await monitor.execute("system_powerdown")


async def pause(directory: Path) -> None:
    """Stops its processors until `resume`."""
    async with _monitor(directory) as monitor:
        await monitor.execute("stop")


async def disk_traffic(directory: Path) -> tuple[int, int]:
    """Bytes read from and written to all its drives since QEMU started."""
    async with _monitor(directory) as monitor:
        drives = cast(list[dict[str, dict[str, int]]], await monitor.execute("query-blockstats"))
    return sum(drive["stats"]["rd_bytes"] for drive in drives), sum(drive["stats"]["wr_bytes"] for drive in drives)


async def resume(directory: Path) -> None:
    """Lets a paused machine run on (QEMU pauses one whose host disk was full)."""
    async with _monitor(directory) as monitor:
        await monitor.execute("cont")


async def resize_disk(directory: Path, size_bytes: int) -> None:
    """Gives its disk another virtual size, which the guest learns at once; never a smaller one."""
    async with _monitor(directory) as monitor:
        await monitor.execute("block_resize", {"device": DISK_ID, "size": size_bytes})


async def leave(directory: Path) -> None:
    """Tells QEMU to end at once; its disk is closed properly, the guest is not asked."""
    async with _monitor(directory) as monitor:
        await monitor.execute("quit")


def parse_forward(text: str) -> int:
    """The host port in the monitor's `info usernet`; 0 if there is none."""
    match = _FORWARD.search(text)
    return int(match[1]) if match else 0


@contextlib.asynccontextmanager
async def _monitor(directory: Path) -> AsyncIterator[QMPClient]:
    client = QMPClient("xnode")
    client.logger.setLevel(logging.CRITICAL + 1)  # it logs what it also raises
    try:
        async with asyncio.timeout(QMP_SECONDS):
            await client.connect(_connect(directory))
            try:
                yield client
            finally:
                with contextlib.suppress(EOFError, QMPError):  # QEMU may have ended, as it was told
                    await client.disconnect()
    except (QMPError, OSError, EOFError, TimeoutError) as error:
        message = f"QEMU's monitor in {directory} does not answer ({type(error).__name__}: {error})"
        raise MachineFault("qmp_failed", message, retryable=True) from error


def _connect(directory: Path) -> socket.socket:
    """Connects through the directory's descriptor: a socket's path may have at most 107 bytes, ours may be longer."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)  # connects at once or not at all
        sock.connect(f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
    except OSError:
        sock.close()
        raise
    finally:
        os.close(descriptor)
    return sock
