"""What a machine takes of its host: its process from /proc, its drives from QEMU's monitor, its disk from the files."""

import os
from pathlib import Path
from typing import Final, NamedTuple

from xnode.core.faults import MachineFault

_PROC: Final = Path("/proc")
_NS: Final = 1_000_000_000
_BLOCK_BYTES: Final = 512  # of st_blocks


class HostFigures(NamedTuple):
    """As the first fields of MachineFigures."""

    cpu_ns: int
    memory_bytes: int
    disk_bytes: int
    disk_read_bytes: int
    disk_written_bytes: int


def measure(pid: int, disk: Path, traffic: tuple[int, int]) -> HostFigures:
    """Of the process and the disk file, with what has passed between guest and disk; raises MachineFault."""
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        resident = int((_PROC / str(pid) / "statm").read_bytes().split()[1])
        on_disk = disk.stat().st_blocks * _BLOCK_BYTES
    except (OSError, IndexError) as error:
        raise MachineFault("figures_missing", f"the machine has just ended ({error})", retryable=True) from error
    ticks = int(fields[11]) + int(fields[12])  # user and system (proc(5), fields 14 and 15)
    cpu_ns = ticks * _NS // os.sysconf("SC_CLK_TCK")
    return HostFigures(cpu_ns, resident * os.sysconf("SC_PAGE_SIZE"), on_disk, *traffic)
