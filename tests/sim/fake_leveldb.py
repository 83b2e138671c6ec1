"""A disk with a LevelDB on it, in memory: what plyvel gives to `xnode/store/leveldb.py`, and what a power cut leaves.

`Disk.open` stands in for `plyvel.DB`. A batch written with sync is there after a power cut; of those without, whole
ones are lost from some point on. A write can be made to fail, or to be the moment in which the power goes: see `Trap`.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import plyvel

Change = tuple[bytes | None, bytes | None]  # the value before and after, None where there is none
Batch = dict[bytes, Change]


class PowerCut(BaseException):
    """The node has lost its power here: nothing in the product may catch this."""


class Strike(StrEnum):
    """What happens at a trapped write."""

    BEFORE = "cut before a write"
    AFTER = "cut after a write"
    FAIL_LOST = "write fails, nothing of it is there"
    FAIL_KEPT = "write fails, and is there after the restart"


class Trap(NamedTuple):
    """Strikes at the write number `at` of this disk."""

    strike: Strike
    at: int


class Disk:
    """Rows that outlive the process. `on_batch` is told of every batch as it lands, `on_trap` of every strike."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []  # sorted
        self.writes = 0
        self.trap: Trap | None = None
        self.on_batch: Callable[[Batch], None] = lambda _: None
        self.on_trap: Callable[[Strike], None] = lambda _: None
        self.views: dict[int, Source] = {}  # open ones, by id, that later writes must not change
        self._unsynced: list[Batch] = []
        self._kept: dict[bytes, bytes | None] = {}  # of a write that failed and yet is there
        self._handle: FakeDB | None = None

    def open(self, _path: Path) -> "FakeDB":
        """As `plyvel.DB` does; one process at a time."""
        if self._handle is not None:
            raise plyvel.IOError(b"IO error: lock LOCK: already held by process")
        kept, self._kept = self._kept, {}
        if kept:
            self.on_batch(self.apply(kept))
        self._handle = FakeDB(self)
        return self._handle

    def copy(self) -> "Disk":
        """Another disk with the same rows."""
        disk = Disk()
        disk.rows, disk.keys = dict(self.rows), list(self.keys)
        return disk

    def cut(self, keeps: Callable[[int], int] = lambda count: count) -> None:
        """The power goes: whoever has it open gets PowerCut. Of n batches without sync the first `keeps(n)` stay."""
        if self._handle is not None:
            self._handle.state = PowerCut
        for view in self.views.values():
            view.state = PowerCut
        self.views.clear()
        self._handle = None
        self.trap = None
        kept = keeps(len(self._unsynced))
        for batch in reversed(self._unsynced[kept:]):
            self.apply({key: before for key, (before, _) in batch.items()})
        self._unsynced.clear()

    def close(self) -> None:
        """The process has closed it in order; what it wrote without sync may still be lost, which nobody looks for."""
        self._handle = None
        self.trap = None

    def write(self, changes: dict[bytes, bytes | None], sync: bool) -> None:
        """One batch, as the traps let it."""
        self.writes += 1
        strike = self.trap.strike if self.trap is not None and self.writes >= self.trap.at else None
        if strike is Strike.BEFORE:
            self._strike(strike)
        if strike in (Strike.FAIL_LOST, Strike.FAIL_KEPT):
            if strike is Strike.FAIL_KEPT and not self._kept:
                self._kept = changes
            self.on_trap(strike)
            raise plyvel.IOError(b"IO error: 000003.log: No space left on device")
        batch = self.apply(changes)
        if sync:
            self._unsynced.clear()
        else:
            self._unsynced.append(batch)
        self.on_batch(batch)
        if strike is Strike.AFTER:
            self._strike(strike)

    def _strike(self, strike: Strike) -> None:
        self.on_trap(strike)
        self.cut()
        raise PowerCut(strike)

    def apply(self, changes: dict[bytes, bytes | None]) -> Batch:
        """Changes the rows; views that are open keep what they had."""
        batch = {key: (self.rows.get(key), value) for key, value in changes.items()}
        for view in self.views.values():
            for key, (before, _) in batch.items():
                view.overlay.setdefault(key, before)
        for key, (before, after) in batch.items():
            if after is not None:
                self.rows[key] = after
                if before is None:
                    insort(self.keys, key)
            elif before is not None:
                del self.rows[key]
                del self.keys[bisect_left(self.keys, key)]
        return batch


class Source:
    """Reads of the rows as they were when this was made; `overlay` has what was there before later writes."""

    def __init__(self, disk: Disk, closed: str) -> None:
        self.disk = disk
        self.overlay: dict[bytes, bytes | None] = {}
        self.state: str | type[PowerCut] | None = None  # why it can't be used any more
        self._closed = closed

    def _check(self) -> None:
        if self.state is None:
            return
        if self.state is PowerCut:
            raise PowerCut("read after it")
        raise RuntimeError(self.state)

    def close(self) -> None:
        """Ends it; a second call does nothing."""
        if self.state is None:
            self.state = self._closed
            self.disk.views.pop(id(self), None)

    def get(self, key: bytes, verify_checksums: bool = False) -> bytes | None:
        """The value, or None."""
        if self.state is not None:
            self._check()
        return self.overlay[key] if key in self.overlay else self.disk.rows.get(key)

    def iterator(
        self,
        start: bytes | None = None,
        stop: bytes | None = None,
        include_start: bool = True,
        reverse: bool = False,
        verify_checksums: bool = False,
    ) -> "Rows":
        """Rows from `start` to before `stop`, as they are now."""
        self._check()
        rows = Rows(self.disk, start or b"", stop, include_start, reverse)
        rows.overlay.update(self.overlay)
        return rows


class FakeSnapshot(Source):
    """Made by `FakeDB.snapshot`."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk, "Database or snapshot is closed")
        disk.views[id(self)] = self


class Rows(Source):
    """One pass over a range: an iterator and a context manager."""

    def __init__(self, disk: Disk, start: bytes, stop: bytes | None, include_start: bool, reverse: bool) -> None:
        super().__init__(disk, "Database or iterator is closed")
        disk.views[id(self)] = self
        self._start, self._stop, self._reverse = start, stop, reverse
        self._low = start if include_start else start + b"\x00"  # the least key that is wanted
        self._at: bytes | None = None  # the last one given
        self._begun = False

    def __enter__(self) -> "Rows":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self  # type: ignore[return-value]

    def __next__(self) -> tuple[bytes, bytes]:
        self._check()
        key = self._before() if self._reverse else self._after()
        is_first, self._begun = not self._begun, True
        if key is None or (is_first and self._reverse and key == self._start):
            self._low, self._stop = b"\xff", b""  # plyvel gives nothing backwards where `start` is the only row
            raise StopIteration
        self._at = key
        value = self.get(key)
        assert value is not None
        return key, value

    def _after(self) -> bytes | None:
        low = self._low if self._at is None else self._at + b"\x00"
        keys = self.disk.keys
        at = bisect_left(keys, low)
        if not self.overlay:
            key = keys[at] if at < len(keys) else None
            return key if key is not None and (self._stop is None or key < self._stop) else None
        while at < len(keys) and self.overlay.get(keys[at], b"") is None:
            at += 1
        found = [keys[at]] if at < len(keys) else []
        found += [key for key, value in self.overlay.items() if value is not None and key >= low]
        key = min(found, default=None)
        return key if key is not None and (self._stop is None or key < self._stop) else None

    def _before(self) -> bytes | None:
        high = self._stop if self._at is None else self._at
        keys = self.disk.keys
        at = (len(keys) if high is None else bisect_left(keys, high)) - 1
        while at >= 0 and self.overlay.get(keys[at], b"") is None:
            at -= 1
        found = [keys[at]] if at >= 0 else []
        found += [key for key, value in self.overlay.items() if value is not None and (high is None or key < high)]
        key = max(found, default=None)
        return key if key is not None and key >= self._low else None


class FakeBatch:
    """Made by `FakeDB.write_batch`."""

    def __init__(self, database: "FakeDB", sync: bool) -> None:
        self._database = database
        self._sync = sync
        self._changes: dict[bytes, bytes | None] = {}

    def put(self, key: bytes, value: bytes) -> None:
        """The last word on a key counts."""
        self._changes[key] = value

    def delete(self, key: bytes) -> None:
        """A key that is not there is no matter."""
        self._changes[key] = None

    def write(self) -> None:
        """All of it or nothing."""
        self._database.write(self._changes, self._sync)


class FakeDB(Source):
    """What `plyvel.DB` is to the store."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk, "Database is closed")

    def snapshot(self) -> FakeSnapshot:
        """All that is there now."""
        if isinstance(self.state, str):
            raise RuntimeError("Cannot operate on closed LevelDB database")
        self._check()
        return FakeSnapshot(self.disk)

    def write_batch(self, sync: bool = False) -> FakeBatch:
        """Changes that land together."""
        return FakeBatch(self, sync)

    def write(self, changes: dict[bytes, bytes | None], sync: bool) -> None:
        """Called by the batch."""
        self._check()
        self.disk.write(dict(changes), sync)

    def close(self) -> None:
        """Its snapshots and iterators end with it."""
        if self.state is None:
            for view in [*self.disk.views.values()]:
                view.close()
            self.disk.close()
        super().close()
