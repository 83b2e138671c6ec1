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

_GIB = 1 << 30
_MIB = 1 << 20


class HostLimits(NamedTuple):
    """Where the machines' disks are, how many there may be at once, and what they must leave of disk and memory."""

    folder: Path
    machines_max: int
    disk_reserve_bytes: int
    memory_reserve_mb: int


class Tenant(NamedTuple):
    """A machine that is here: its disk's file, its sizes in GiB and MiB, its process (0 where it does not run)."""

    disk: Path
    disk_gb: int
    memory_mb: int
    pid: int


def look(limits: HostLimits, tenants: Sequence[Tenant], spares: Sequence[Tenant] = ()) -> HostRoom:
    """What is left now, and would be if the spares were gone; never below zero."""
    free = free_bytes(limits.folder) + sum(_used_bytes(item) for item in spares)
    disk = free - limits.disk_reserve_bytes - sum(growth_bytes(item) for item in tenants)
    available = psutil.virtual_memory().available // _MIB + sum(_resident_mb(item) for item in spares)
    memory = available - limits.memory_reserve_mb - sum(_memory_growth_mb(item) for item in tenants)
    return HostRoom(max(0, limits.machines_max - len(tenants)), max(0, memory), max(0, disk // _GIB), OVERHEAD_MB)


def free_bytes(root: Path) -> int:
    """What the file system of the machines has left for us."""
    host = os.statvfs(root)
    return host.f_bavail * host.f_frsize


def growth_bytes(tenant: Tenant) -> int:
    """By how much its disk may yet grow."""
    return max(0, tenant.disk_gb * _GIB - _used_bytes(tenant))


def _used_bytes(tenant: Tenant) -> int:
    try:
        return tenant.disk.stat().st_blocks * 512
    except (FileNotFoundError, NotADirectoryError):
        return 0  # it is not made yet, or is being removed


def _memory_growth_mb(tenant: Tenant) -> int:
    return max(0, tenant.memory_mb + OVERHEAD_MB - _resident_mb(tenant))


def _resident_mb(tenant: Tenant) -> int:
    if not tenant.pid:
        return 0
    try:
        return int(psutil.Process(tenant.pid).memory_info().rss) // _MIB
    except psutil.Error:
        return 0  # it has just ended
