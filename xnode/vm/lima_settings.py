"""The settings of the Lima driver, each with its unit and default, and what must hold before it may be used."""

import os
import pwd
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from xnode.core.faults import OperatorFault
from xnode.core.machine import machine_name
from xnode.core.values import ZERO_HASH
from xnode.vm.host_room import HostLimits
from xnode.vm.limits import (
    BOOT_TIMEOUT_SECONDS,
    DISK_RESERVE_BYTES,
    LOGIN_TIMEOUT_SECONDS,
    MACHINES_MAX,
    MEMORY_RESERVE_MB,
)
from xnode.vm.qemu_process import Identity

PROGRAM: Final = "limactl"
_SOCKET: Final = "ssh.sock.1234567890123456"  # Lima's longest, with what OpenSSH appends while it makes one
_SOCKET_PATH_BYTES_MAX: Final = 107


class LimaSettings(NamedTuple):
    """`root` holds the machines' records, `home` is Lima's own directory (LIMA_HOME)."""

    root: Path
    home: Path
    image: str  # path or URL of a disk image that runs cloud-init
    image_digest: str = ""  # "sha256:..." or "sha512:..."; "" checks nothing
    image_name: str = "debian"  # what leases call it
    limactl: str = ""  # "" looks for it on PATH
    user: str = ""  # whom limactl runs as, where the node runs as root
    accelerator: str = ""  # kvm or tcg; "" measures (see accelerator.py)
    boot_timeout: float = BOOT_TIMEOUT_SECONDS
    login_timeout: float = LOGIN_TIMEOUT_SECONDS
    max_machines: int = MACHINES_MAX
    disk_reserve_bytes: int = DISK_RESERVE_BYTES
    memory_reserve_mb: int = MEMORY_RESERVE_MB

    def host_limits(self) -> HostLimits:
        """What the machines may take."""
        return HostLimits(self.home, self.max_machines, self.disk_reserve_bytes, self.memory_reserve_mb)


class Account(NamedTuple):
    """Whom limactl runs as, and where it is."""

    identity: Identity
    name: str
    home: str
    program: str


def prepare(settings: LimaSettings) -> Account:
    """Finds the program and the user and makes Lima's directory; raises OperatorFault that says what to do."""
    program = shutil.which(settings.limactl or PROGRAM)
    if program is None:
        wanted = settings.limactl or PROGRAM
        raise OperatorFault("lima_missing", f"there is no {wanted}: install Lima, or set lima_limactl to its limactl")
    if not settings.image:
        raise OperatorFault("lima_no_image", "set lima_image to the path or URL of a disk image that runs cloud-init")
    entry = _user(settings.user)
    _make_home(settings.home, entry)
    return Account(Identity(entry.pw_uid, entry.pw_gid), entry.pw_name, entry.pw_dir, program)


def _user(name: str) -> pwd.struct_passwd:
    own = os.geteuid()
    if not name:
        if own == 0:
            message = "limactl refuses to run as root: run the node as another user, or set lima_user to one"
            raise OperatorFault("lima_as_root", message)
        return _by_uid(own)
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise OperatorFault("lima_user_unknown", f"lima_user {name!r} is no user of this host") from error
    if entry.pw_uid == 0 or own not in (0, entry.pw_uid):
        message = f"limactl can't run as {name!r}: it refuses root, and only root may run it as somebody else"
        raise OperatorFault("lima_as_root", message)
    return entry


def _by_uid(uid: int) -> pwd.struct_passwd:
    """A user without a name, as containers have them, gets one."""
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return pwd.struct_passwd(("xnode", "x", uid, os.getegid(), "", "/", "/bin/sh"))


def _make_home(home: Path, user: pwd.struct_passwd) -> None:
    longest = home / machine_name(ZERO_HASH) / _SOCKET
    if len(os.fsencode(longest)) > _SOCKET_PATH_BYTES_MAX:
        spare = _SOCKET_PATH_BYTES_MAX - (len(os.fsencode(longest)) - len(os.fsencode(home)))
        message = f"lima_home {home} is too long for Lima's sockets: choose one of at most {spare} bytes"
        raise OperatorFault("lima_home_too_long", message)
    if not home.exists():
        home.mkdir(parents=True, mode=0o700)
        if os.geteuid() == 0:
            os.chown(home, user.pw_uid, user.pw_gid)
    if home.stat().st_uid != user.pw_uid:
        message = f"lima_home {home} does not belong to {user.pw_name!r}, who runs limactl: run chown on it"
        raise OperatorFault("lima_home_of_another", message)
