"""Clocks of nodes: each shows true time with its own offset and drift, and may be stepped and mended."""

import trio

from tests.support.ledger import NOW
from xnode.core.values import NS

MILLION = 1_000_000


def true_time() -> int:
    """Unix ns by nobody's clock: the run began at NOW."""
    return NOW + int(trio.current_time() * NS)


class NodeClock:
    """Call it for Unix ns. Drift is in parts per million, an offset in seconds."""

    def __init__(self, offset: float, drift_ppm: int) -> None:
        self._offset = int(offset * NS)
        self._drift_ppm = drift_ppm

    def __call__(self) -> int:
        now = true_time()
        return now + self._offset + (now - NOW) * self._drift_ppm // MILLION

    def step(self, seconds: float) -> None:
        """Somebody sets it, well or badly."""
        self._offset += int(seconds * NS)

    def mend(self) -> None:
        """It is right from now on."""
        self._offset, self._drift_ppm = 0, 0
