"""The `newc` archive that Linux unpacks as its first file system; archives may simply follow one another.

Layout: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. Everything is owned by root and
dated 0, so that the same entries always give the same bytes.
"""

import stat
from collections.abc import Iterable
from typing import Final, NamedTuple

_TRAILER: Final = "TRAILER!!!"
_BLOCK_BYTES: Final = 512


class Entry(NamedTuple):
    """One file: `mode` with its type bits, `device` (major, minor) for device nodes only."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(name: str, permissions: int = 0o755) -> Entry:
    """A directory; its parents must come before it."""
    return Entry(name, stat.S_IFDIR | permissions)


def regular(name: str, data: bytes, permissions: int = 0o644) -> Entry:
    """A plain file."""
    return Entry(name, stat.S_IFREG | permissions, data)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int) -> Entry:
    """A character device node, for root only."""
    return Entry(name, stat.S_IFCHR | 0o600, b"", (major, minor))


def write_archive(entries: Iterable[Entry]) -> bytes:
    """The archive's bytes, a multiple of 512."""
    out = bytearray()
    for number, entry in enumerate((*entries, Entry(_TRAILER, 0)), start=1):
        _append(out, entry, number)
    _pad(out, _BLOCK_BYTES)
    return bytes(out)


def _append(out: bytearray, entry: Entry, inode: int) -> None:
    name = entry.name.encode() + b"\0"
    links, owner, date = 1, (0, 0), 0
    fields = (inode, entry.mode, *owner, links, date, len(entry.data), 0, 0, *entry.device, len(name), 0)
    out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
    _pad(out, 4)
    out += entry.data
    _pad(out, 4)


def _pad(out: bytearray, to: int) -> None:
    out += bytes(-len(out) % to)
