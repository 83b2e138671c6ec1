"""What happened in one run: a digest of all of it, the last events for people, how often each kind occurred."""

from collections import Counter, deque
from hashlib import blake2b
from typing import Final

import trio

LAST_MAX: Final = 60  # events that a failure prints


class Journal:
    """Equal digests mean equal runs: every message, write and decision goes in, with its time and place."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.steps = 0  # committed batches
        self._digest = blake2b(digest_size=16)
        self._last: deque[str] = deque(maxlen=LAST_MAX)

    def feed(self, kind: str, who: str, data: bytes) -> None:
        """A message or a write: too many to print."""
        self._digest.update(b"%r %b %b " % (trio.current_time(), kind.encode(), who.encode()) + data)

    def note(self, kind: str, who: str, detail: str = "") -> None:
        """An event that a person would like to read of; counted by its kind."""
        self.counts[kind] += 1
        self.feed(kind, who, detail.encode())
        self._last.append(f"{trio.current_time():9.3f} s  step {self.steps:<6} {who:<4} {kind} {detail}".rstrip())

    @property
    def digest(self) -> str:
        """Of all so far."""
        return self._digest.hexdigest()

    @property
    def last(self) -> list[str]:
        """The last events, oldest first."""
        return list(self._last)
