"""When each representative was last heard, to know when one is heard again that was away."""

from typing import Final

from xnode.core.values import NS, Address

AWAY_NS: Final = 10 * NS  # unheard for so long, a representative counts as away
HEARD_MAX: Final = 1_000  # representatives that are remembered


class Hearing:
    """Only what a representative has signed since the last time counts, not what peers keep of it and tell again; of
    one that is heard for the first time, anything."""

    def __init__(self) -> None:
        self._heard: dict[Address, tuple[int, int]] = {}  # -> its newest timestamp, and when that came

    def is_back(self, representative: Address, timestamp: int, now: int) -> bool:
        """Notes what it signed at `timestamp` (ns of its clock); whether it was away until `now` (ns of ours)."""
        newest, heard_at = self._heard.pop(representative, (-1, now - AWAY_NS))
        is_new = timestamp > newest
        self._heard[representative] = (timestamp, now) if is_new else (newest, heard_at)
        if len(self._heard) > HEARD_MAX:
            del self._heard[next(iter(self._heard))]
        return is_new and now >= heard_at + AWAY_NS
