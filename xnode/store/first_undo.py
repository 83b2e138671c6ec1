"""Below which place no block can be taken back: so that a search for such blocks begins where there may be some.

Without it each search walks over the undo records that were deleted since the start, which LevelDB keeps for long: tens
of milliseconds after a bootstrap. What is said here may be too low, which costs time, but never for long too high: who
writes lowers it before and after, and who searched raises it only if nobody has written since.
"""

from threading import Lock
from typing import Final

from xnode.store.schema import PLACE_BYTES, place, unplace

BEYOND_ALL: Final = b"\xff" * PLACE_BYTES


class FirstUndo:
    """Shared by a store's snapshots, on any thread, and its one writer."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._below = b""  # undo records stand beyond this place
        self._writes = 0

    def look(self) -> tuple[bytes, int]:
        """A place beyond which all undo records stand, and what to give back to `raise_to`."""
        with self._lock:
            return self._below, self._writes

    def lower(self, at: bytes) -> None:
        """An undo record is being written at this place."""
        with self._lock:
            self._below = min(self._below, _before(at))
            self._writes += 1

    def raise_to(self, first: bytes, writes: int) -> None:
        """A search found the first undo record at this place; empty: it found none."""
        with self._lock:
            if writes == self._writes:
                self._below = _before(first) if first else BEYOND_ALL


def _before(at: bytes) -> bytes:
    account, height = unplace(at)
    return place(account, height - 1)
