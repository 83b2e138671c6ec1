"""What a Linux guest says of its own memory and network. Untrusted: it may say anything, to its own consumer only."""

import re
from typing import Final, NamedTuple

COMMAND: Final = "cat /proc/meminfo /proc/net/dev"
_FIGURE_MAX: Final = 2**63 - 1
_MEMORY: Final = re.compile(rb"^(MemTotal|MemAvailable): +(\d{1,15}) kB$", re.MULTILINE)
_INTERFACE: Final = re.compile(rb"^ *([^\s:]{1,64}): *(\d{1,20})(?: +\d{1,20}){7} +(\d{1,20})\s", re.MULTILINE)


class GuestFigures(NamedTuple):
    """Bytes; None where it did not say."""

    memory: int | None
    received: int | None
    sent: int | None


NOTHING: Final = GuestFigures(None, None, None)


def parse(output: bytes) -> GuestFigures:
    """Reads what COMMAND wrote; the network is all interfaces but the loopback."""
    memory = {name: int(kilobytes) << 10 for name, kilobytes in _MEMORY.findall(output)}
    used = memory.get(b"MemTotal", 0) - memory.get(b"MemAvailable", 0) if len(memory) == 2 else None
    traffic = [(int(received), int(sent)) for name, received, sent in _INTERFACE.findall(output) if name != b"lo"]
    if not traffic:
        return GuestFigures(_sane(used), None, None)
    return GuestFigures(_sane(used), _sane(sum(pair[0] for pair in traffic)), _sane(sum(pair[1] for pair in traffic)))


def _sane(figure: int | None) -> int | None:
    return figure if figure is not None and 0 <= figure <= _FIGURE_MAX else None
