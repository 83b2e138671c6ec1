"""LevelDB under faults that say what to do: the one module that knows plyvel.

Options and behaviour were measured: a bloom filter and a write buffer of the right size make reads and loads several
times faster, and without paranoid checks LevelDB opens a damaged log in silence and without its records.

A `Database` is closed when the last of its users has let go of it, so that closing the store on one thread never pulls
the files from under a snapshot that is being read on another.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Final

import plyvel

from xnode.core.faults import OperatorFault

WRITE_BUFFER_BYTES: Final = 8 * 1024 * 1024  # a larger one takes longer to put into, a smaller one more to merge
CACHE_BYTES: Final = 64 * 1024 * 1024
BLOOM_BITS: Final = 10  # a key: 1 % of the misses reach a table
OPEN_FILES_MAX: Final = 256  # of 1024 that a process usually has; 2 MiB each

Engine = Callable[[Path], Any]  # opens or makes what `plyvel.DB` is, and fails as it does


def open_plyvel(path: Path) -> Any:
    """The files at `path`, made where there are none; raises plyvel.Error or OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return plyvel.DB(
        str(path),
        create_if_missing=True,
        paranoid_checks=True,
        write_buffer_size=WRITE_BUFFER_BYTES,
        lru_cache_size=CACHE_BYTES,
        bloom_filter_bits=BLOOM_BITS,
        max_open_files=OPEN_FILES_MAX,
        compression=None,  # hashes and signatures don't shrink: 4 % of the size for a tenth of the time
    )


def corrupt(detail: str) -> OperatorFault:
    """The fault for a store whose content can't be right."""
    return OperatorFault(
        "store_corrupt",
        f"the store is damaged ({detail}); stop the node, keep the store directory aside for repair and start without "
        "it: the ledger comes back from the peers",
    )


def _fault(error: Exception, path: Path) -> OperatorFault:
    text = str(error)
    if isinstance(error, plyvel.CorruptionError) or "Corruption" in text:
        return corrupt(text)
    if "lock " in text:
        return OperatorFault(
            "store_locked", f"{path} is open in another process; stop that node or choose another data directory"
        )
    return OperatorFault(
        "store_unreadable", f"{path} can't be used ({text}); check the disk and who may read and write there"
    )


def _after_prefix(prefix: bytes) -> bytes | None:
    """The first key beyond all that begin with `prefix`; None where there is no end."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


class View:
    """Reads of one plyvel database or snapshot."""

    def __init__(self, source: Any, path: Path) -> None:
        self._source = source
        self._path = path

    def get(self, key: bytes) -> bytes | None:
        """The value or None; raises OperatorFault(store_corrupt, store_unreadable)."""
        try:
            value: bytes | None = self._source.get(key, verify_checksums=True)
        except plyvel.Error as error:
            raise _fault(error, self._path) from error
        return value

    def scan(
        self, prefix: bytes, after: bytes | None = None, newest_first: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values under `prefix` in key order, or in reverse; `after` is a whole key to go on beyond."""
        bounds: dict[str, Any] = {"start": prefix, "stop": _after_prefix(prefix)}
        if after is not None:
            bounds |= {"stop": after} if newest_first else {"start": after, "include_start": False}
        try:
            with self._source.iterator(**bounds, reverse=newest_first, verify_checksums=True) as rows:
                yield from rows
        except plyvel.Error as error:
            raise _fault(error, self._path) from error


class Frozen(View):
    """The database as it was at one moment."""

    def __init__(self, database: "Database", source: Any, path: Path) -> None:
        super().__init__(source, path)
        self._database: Database | None = database

    def release(self) -> None:
        """Ends it; a second call does nothing."""
        database, self._database = self._database, None
        if database is not None:
            self._source.close()
            database.release()


class Database(View):
    """One open LevelDB with one user, its opener, and one more for each frozen view."""

    def __init__(self, path: Path, engine: Engine = open_plyvel) -> None:
        """Opens or makes it; raises OperatorFault(store_locked, store_corrupt, store_unreadable)."""
        try:
            source = engine(path)
        except (plyvel.Error, OSError) as error:
            raise _fault(error, path) from error
        super().__init__(source, path)
        self._users = 1
        self._lock = Lock()

    def freeze(self) -> Frozen:
        """A view that later writes don't change; to be released. Any thread may ask."""
        with self._lock:
            if self._users == 0:
                raise RuntimeError("the store is closed")
            frozen = Frozen(self, self._source.snapshot(), self._path)
            self._users += 1
        return frozen

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Lands all changes (None deletes) in one atomic batch that is on disk when this returns."""
        batch = self._source.write_batch(sync=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            batch.write()
        except plyvel.Error as error:
            raise OperatorFault(
                "store_write_failed", f"{self._path} took no write ({error}); make room or mend the disk, then restart"
            ) from error

    def release(self) -> None:
        """One user less; the last one closes the files."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._source.close()
