"""The settings of the QEMU driver, each with its unit and default."""

import os
from pathlib import Path
from typing import NamedTuple

from xnode.vm.host_room import HostLimits
from xnode.vm.internet_rules import InternetTerms
from xnode.vm.limits import (
    BOOT_TIMEOUT_SECONDS,
    DISK_RESERVE_BYTES,
    LOGIN_TIMEOUT_SECONDS,
    MACHINES_MAX,
    MEMORY_RESERVE_MB,
)
from xnode.vm.machine_users import UserRange
from xnode.vm.qemu_process import Identity

_NOBODY = 65534


class QemuSettings(NamedTuple):
    """`root` holds the machines, `image_store` the images of scripts/build-guest."""

    root: Path
    image_store: Path
    default_image: str = "debian"
    accelerator: str = ""  # kvm or tcg; "" measures (see accelerator.py)
    boot_timeout: float = BOOT_TIMEOUT_SECONDS
    login_timeout: float = LOGIN_TIMEOUT_SECONDS  # of these, how long after the console's marker
    uid: int = _NOBODY if os.geteuid() == 0 else os.geteuid()  # QEMU's user; another than ours only where we are root
    gid: int = _NOBODY if os.geteuid() == 0 else os.getegid()
    users: UserRange = UserRange() if os.geteuid() == 0 else UserRange(0, 0)  # one a machine; none: all have `uid`
    max_machines: int = MACHINES_MAX
    disk_reserve_bytes: int = DISK_RESERVE_BYTES
    memory_reserve_mb: int = MEMORY_RESERVE_MB
    internet: InternetTerms | None = None  # machines reach nothing without it

    def host_limits(self) -> HostLimits:
        """What the machines may take."""
        return HostLimits(self.root, self.max_machines, self.disk_reserve_bytes, self.memory_reserve_mb)

    def identity(self, groups: tuple[int, ...]) -> Identity:
        """Who QEMU runs as, with the extra groups that its accelerator needs."""
        return Identity(self.uid, self.gid, groups)
