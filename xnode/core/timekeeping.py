"""What a timekeeper may sign: never backwards, one for each requester and lease in 30 s, never by a suspect clock
(protocol section 7). Pure: the role around it has the clock, the key and the disk."""

from typing import Final, NamedTuple

from xnode.core.faults import Unavailable
from xnode.core.values import NS

REPEAT_AFTER: Final = 30 * NS
CLOCK_STEP_MAX: Final = 2 * NS  # how far the wall clock may leave the monotonic one between two readings
SUSPECT_FOR: Final = 60 * NS  # how long a step is held against the clock, by the monotonic one


class Reading(NamedTuple):
    """The wall clock and the monotonic clock, read together, in ns."""

    wall: int
    monotonic: int


class ClockGuard(NamedTuple):
    """The last reading and until when (monotonic ns) the clock is suspect."""

    last: Reading
    suspect_until: int = 0

    def observe(self, reading: Reading) -> "ClockGuard":
        """The guard after one more reading: a step makes the clock suspect for a while."""
        step = abs((reading.wall - self.last.wall) - (reading.monotonic - self.last.monotonic))
        until = reading.monotonic + SUSPECT_FOR if step > CLOCK_STEP_MAX else self.suspect_until
        return ClockGuard(reading, until)

    @property
    def is_suspect(self) -> bool:
        """Whether the last reading is to be doubted."""
        return self.last.monotonic < self.suspect_until


def attested_time(guard: ClockGuard, signed_before: int, created_at: int) -> int:
    """The ns to sign for a lease of which `signed_before` (0 for never) was the last time signed.

    Raises Unavailable(clock_suspect) where the clock was stepped, or stands before the network's beginning
    (`created_at`) or before what was already signed.
    """
    now = guard.last.wall
    if guard.is_suspect:
        raise Unavailable("clock_suspect", "this timekeeper's clock was stepped; ask another one", retryable=True)
    if now < created_at:
        raise Unavailable("clock_suspect", "this timekeeper's clock stands before the network began", retryable=True)
    if now < signed_before:
        raise Unavailable("clock_suspect", "this timekeeper has already signed a later time", retryable=True)
    return now


def is_repeat(signed_before: int, now: int) -> bool:
    """Whether a requester asked for this lease within the last 30 s, so that it gets the same answer again."""
    return signed_before > 0 and now - signed_before < REPEAT_AFTER
