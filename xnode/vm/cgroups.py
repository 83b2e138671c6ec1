"""Memory and CPU limits of machines by the kernel's control groups: version 2, version 1, or none, found at the start.

One group a machine, in a parent of our own. Under version 2 that parent is made at the root of the hierarchy where we
may: in our own group (a service's, say) no process may stand beside groups with controllers, and a service manager that
ends the service would end the machines. Under version 1 it is made in our own group, so that a limit on the node bounds
its machines. Where neither can be written, a machine is still bounded by its own size: QEMU has one thread a virtual
CPU and the guest's memory, and what goes beyond is said by `describe`.

On a busy host a machine counts for as many ordinary processes as it has CPUs, and all of them together for no more than
the host has: without these weights a group of any number of machines would get what one process gets.
"""

import contextlib
import os
from pathlib import Path
from typing import Final, NamedTuple

from xnode.core.faults import MachineFault
from xnode.vm.limits import CPU_EXTRA_MILLI, CPU_PERIOD_US

ROOT: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")
PARENT: Final = "xnode.machines"
_MIB: Final = 1 << 20
_WANTED: Final = ("cpu", "memory")
PUT_ATTEMPTS: Final = 3
_WEIGHTS: Final = {1: ("cpu.shares", 1024, 262_144), 2: ("cpu.weight", 100, 10_000)}  # file, one process, the most


class Limit(NamedTuple):
    """What one machine may take: MiB, QEMU included, and virtual CPUs."""

    memory_mb: int
    vcpus: int


class Cgroups:
    """How limits are held on this host: `folders` by controller, the same one for all under version 2."""

    def __init__(self, version: int, folders: dict[str, Path], why: str = "") -> None:
        self.version = version
        self._folders = folders
        self._why = why

    def describe(self) -> str:
        """For people and the log."""
        if not self.version:
            return f"no cgroups ({self._why}): only the machine's own size bounds it"
        return f"cgroups version {self.version}: {' and '.join(sorted(self._folders))}"

    def put(self, name: str, pid: int, limit: Limit) -> None:
        """Makes its group, sets its limits and moves its process there; raises MachineFault(limits_failed)."""
        for attempt in range(PUT_ATTEMPTS):
            try:
                self._put(name, pid, limit)
                return
            except FileNotFoundError:  # another node of this host has just swept it, while it was empty
                if attempt + 1 < PUT_ATTEMPTS:
                    continue
                raise _fault(name, "it is taken away again and again") from None
            except OSError as error:
                raise _fault(name, str(error)) from error

    def _put(self, name: str, pid: int, limit: Limit) -> None:
        for controller, parent in self._folders.items():
            group = parent / name
            group.mkdir(exist_ok=True)
            for file, value in _settings(self.version, controller, limit):
                (group / file).write_text(value)
            (group / "cgroup.procs").write_text(str(pid))

    def sweep(self) -> None:
        """Removes every group without a process: a machine's that has ended. One that is not empty stays as it is."""
        for name in self.names():
            self.remove(name)

    def remove(self, name: str) -> None:
        """Removes one; where its process has ended but nobody has asked for its end yet, that is left to `sweep`."""
        for parent in self._folders.values():
            with contextlib.suppress(OSError):
                (parent / name).rmdir()

    def names(self) -> set[str]:
        """The groups that are there."""
        return {path.name for parent in self._folders.values() for path in parent.iterdir() if path.is_dir()}


def _fault(name: str, why: str) -> MachineFault:
    message = f"the limits of machine {name} can't be set ({why}): look at the host's cgroups"
    return MachineFault("limits_failed", message, retryable=True)


def _settings(version: int, controller: str, limit: Limit) -> list[tuple[str, str]]:
    quota = CPU_PERIOD_US * (limit.vcpus * 1000 + CPU_EXTRA_MILLI) // 1000
    memory = str(limit.memory_mb * _MIB)
    if version == 1:
        if controller == "memory":
            return [("memory.limit_in_bytes", memory)]
        held = [("cpu.cfs_period_us", str(CPU_PERIOD_US)), ("cpu.cfs_quota_us", str(quota))]
        return [*held, _weight(version, limit.vcpus)]
    if controller == "memory":
        return [("memory.max", memory)]
    return [("cpu.max", f"{quota} {CPU_PERIOD_US}"), _weight(version, limit.vcpus)]


def _weight(version: int, cpus: int) -> tuple[str, str]:
    file, one, most = _WEIGHTS[version]
    return file, str(min(most, one * cpus))


def _weigh(version: int, parent: Path) -> None:
    file, value = _weight(version, os.cpu_count() or 1)
    with contextlib.suppress(OSError):  # then it has the weight of one process
        (parent / file).write_text(value)


def find(root: Path = ROOT, own: Path = OWN) -> Cgroups:
    """Tries what is there, by making our parent group; never raises."""
    try:
        lines = own.read_text().splitlines()
    except OSError as error:
        return Cgroups(0, {}, str(error))
    paths = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    if (root / "cgroup.controllers").exists():
        return _version_2(root, paths.get("", "/"))
    return _version_1(root, paths)


def _version_2(root: Path, own: str) -> Cgroups:
    why = ""
    for base in dict.fromkeys((root, root / own.lstrip("/"))):
        try:
            enabled = (base / "cgroup.subtree_control").read_text().split()
            if missing := [name for name in _WANTED if name not in enabled]:
                (base / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in missing))
            parent = base / PARENT
            parent.mkdir(exist_ok=True)
            (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in _WANTED))
            _weigh(2, parent)
        except OSError as error:
            why = f"{base}: {error.strerror}"
            continue
        return Cgroups(2, dict.fromkeys(_WANTED, parent))
    return Cgroups(0, {}, why)


def _version_1(root: Path, paths: dict[str, str]) -> Cgroups:
    folders, why = {}, f"{root} has neither version"
    for controller in _WANTED:
        base = root / controller / paths.get(controller, "/").lstrip("/")
        if not base.is_dir():  # another namespace's path
            base = root / controller
        parent = base / PARENT
        try:
            parent.mkdir(exist_ok=True)
        except OSError as error:
            why = f"{parent}: {error.strerror}"
            continue
        if os.access(parent, os.W_OK):
            folders[controller] = parent
            if controller == "cpu":
                _weigh(1, parent)
    return Cgroups(1, folders) if folders else Cgroups(0, {}, why)
