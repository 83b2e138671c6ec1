"""What a host has left for new machines: free disk and memory, less the reserves and what its machines may yet take.

A machine may grow to the size of its disk and of its memory, so what it does not use yet is not free. All of it
blocks: call it in a worker thread.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from xnode.core.machine import HostRoom
from xnode.vm.limits import OVERHEAD_MB
from xnode.vm.qemu_command import DISK

_GIB = 1 << 30
_MIB = 1 << 20


class Tenant(NamedTuple):
    """A machine that is here: its run directory, its sizes in GiB and MiB, its process (0 where it does not run)."""

    run: Path
    disk_gb: int
    memory_mb: int
    pid: int


def look(root: Path, tenants: Sequence[Tenant], machines_max: int, reserve_bytes: int, reserve_mb: int) -> HostRoom:
    """What is left now; never below zero."""
    disk = free_bytes(root) - reserve_bytes - sum(growth_bytes(item) for item in tenants)
    memory = psutil.virtual_memory().available // _MIB - reserve_mb - sum(_memory_growth_mb(item) for item in tenants)
    return HostRoom(max(0, machines_max - len(tenants)), max(0, memory), max(0, disk // _GIB), OVERHEAD_MB)


def free_bytes(root: Path) -> int:
    """What the file system of the machines has left for us."""
    host = os.statvfs(root)
    return host.f_bavail * host.f_frsize


def growth_bytes(tenant: Tenant) -> int:
    """By how much its disk may yet grow."""
    path = tenant.run / DISK
    used = path.stat().st_blocks * 512 if path.exists() else 0
    return max(0, tenant.disk_gb * _GIB - used)


def _memory_growth_mb(tenant: Tenant) -> int:
    resident = 0
    if tenant.pid:
        try:
            resident = psutil.Process(tenant.pid).memory_info().rss // _MIB
        except psutil.Error:
            resident = 0  # it has just ended
    return max(0, tenant.memory_mb + OVERHEAD_MB - resident)
