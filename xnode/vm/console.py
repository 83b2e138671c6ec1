"""What a guest wrote to its serial console: the file is the guest's, so it is untrusted and may be of any length."""

import os
from pathlib import Path
from typing import BinaryIO, Final

from xnode.core.machine import ConsolePart
from xnode.vm.images import MARKER
from xnode.vm.limits import CONSOLE_BYTES_MAX, CONSOLE_PART_BYTES_MAX, CONSOLE_TAIL_BYTES, CONSOLE_TAIL_LINES
from xnode.vm.qemu_command import CONSOLE, ERRORS

_PANIC: Final = b"Kernel panic - not syncing"
_PANIC_CHARACTERS_MAX: Final = 200


def has_booted(directory: Path) -> bool:
    """Whether the guest's init has said that its SSH server starts."""
    return MARKER in _read(directory / CONSOLE, CONSOLE_BYTES_MAX)


def has_output(directory: Path) -> bool:
    """Whether the guest has written anything yet."""
    return bool(_read(directory / CONSOLE, 1))


def panic(directory: Path) -> str:
    """What the guest's kernel said when it gave up; "" if it did not."""
    _, found, rest = _read(directory / CONSOLE, CONSOLE_BYTES_MAX).partition(_PANIC)
    return _printable(found + rest[:_PANIC_CHARACTERS_MAX]).partition("\n")[0]


def last_lines(directory: Path) -> str:
    """The end of the console, or of QEMU's own complaints where the guest wrote nothing: printable ASCII."""
    raw = _read(directory / CONSOLE, CONSOLE_TAIL_BYTES) or _read(directory / ERRORS, CONSOLE_TAIL_BYTES)
    lines = [line.strip() for line in _printable(raw).splitlines() if line.strip()]
    return " | ".join(lines[-CONSOLE_TAIL_LINES:]) or "nothing"


def _printable(raw: bytes) -> str:
    return "".join(chr(byte) for byte in raw if 32 <= byte < 127 or byte == 10)


def read_part(path: Path, position: int) -> ConsolePart:
    """A piece from a position on, as `Driver.console` counts positions; empty where there is no more, or no console."""
    try:
        with _open(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = max(0, size + position) if position < 0 else position if position <= size else 0
            file.seek(start)
            data = file.read(CONSOLE_PART_BYTES_MAX)
    except OSError:
        return ConsolePart(b"", 0)
    return ConsolePart(data, start + len(data))


def trim(path: Path, bytes_max: int = CONSOLE_BYTES_MAX) -> None:
    """Empties a console that has grown too long; QEMU goes on writing."""
    if path.is_file() and not path.is_symlink() and path.stat().st_size > bytes_max:
        os.truncate(path, 0)


def _read(path: Path, count: int) -> bytes:
    """The last `count` bytes; nothing when it is not there or is not a plain file."""
    try:
        with _open(path) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - count))
            return file.read(count)
    except OSError:
        return b""


def _open(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
