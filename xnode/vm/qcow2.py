"""The head of a qcow2 disk: how big the guest sees it, and whether it would draw in files of the host.

Layout: QEMU's docs/interop/qcow2.txt. A disk from elsewhere may name any file of the host as its backing or data file;
such a disk is refused before any program of QEMU opens it.
"""

import struct
from pathlib import Path
from typing import Final

from xnode.core.faults import OperatorFault

MAGIC: Final = b"QFI\xfb"
VIRTUAL_BYTES_MAX: Final = 1 << 40  # of the disk that the guest sees
_HEAD: Final = struct.Struct(">4sIQIIQI")  # magic, version, backing file's place and length, cluster bits, size, cipher
_FEATURES: Final = struct.Struct(">Q")
_FEATURES_AT: Final = 72
_EXTERNAL_DATA: Final = 1 << 2


def virtual_bytes(path: Path) -> int:
    """The size that the guest sees; raises OperatorFault(disk_unsuitable)."""
    with path.open("rb") as file:
        head = file.read(_FEATURES_AT + _FEATURES.size)
    if len(head) < _FEATURES_AT + _FEATURES.size or not head.startswith(MAGIC):
        raise _unsuitable("it is no qcow2 disk; qemu-img convert makes one")
    _, version, backing_at, _, _, size, cipher = _HEAD.unpack_from(head)
    (features,) = _FEATURES.unpack_from(head, _FEATURES_AT) if version > 2 else (0,)
    if version not in (2, 3):
        raise _unsuitable(f"it is of version {version}")
    if backing_at or features & _EXTERNAL_DATA:
        raise _unsuitable("it draws in another file of this host")
    if cipher:
        raise _unsuitable("it is encrypted")
    if not 0 < size <= VIRTUAL_BYTES_MAX:
        raise _unsuitable(f"the guest would see a disk of {size} bytes")
    return int(size)


def _unsuitable(why: str) -> OperatorFault:
    return OperatorFault("disk_unsuitable", f"this disk can't be used: {why}")
