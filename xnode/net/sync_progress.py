"""How far sync is, for people and for who must not act on a ledger that is being filled: pure, times in seconds.

| phase | event | next |
|---|---|---|
| starting | a session showed that a peer has nothing more for us | settled |
| starting | nobody is connected for ALONE_SECONDS, or little came for START_SECONDS_MAX | settled |
| any | BEHIND_BLOCKS applied since we were last settled | catching_up |
| any | a peer claims to have BEHIND_BLOCKS more, and no such claim was idle within CLAIM_REST_SECONDS | catching_up |
| catching_up | a session showed that a peer has nothing more for us, or little came for STALL_SECONDS | settled |

Little is fewer than RENEWAL_BLOCKS. What a peer merely claims is believed for STALL_SECONDS, and if little follows
then, no claim is for a while: so who lies about it can hold up this node's votes for a small part of the time only, or
pays with RENEWAL_BLOCKS good blocks for each STALL_SECONDS.
"""

from collections import deque
from enum import StrEnum
from typing import Final, NamedTuple

ALONE_SECONDS: Final = 3.0
START_SECONDS_MAX: Final = 60.0
STALL_SECONDS: Final = 15.0
CLAIM_REST_SECONDS: Final = 600.0
BEHIND_BLOCKS: Final = 1_000
RENEWAL_BLOCKS: Final = 64  # after which it is seen that blocks come; a node that is behind applies more in a second
RATE_SECONDS: Final = 10.0  # over which the rate is taken
SAMPLES_MAX: Final = 256


class Phase(StrEnum):
    """What the ledger is good for; the words are stable, they stand in GET /node."""

    STARTING = "starting"  # nobody has been asked yet
    CATCHING_UP = "catching_up"  # much is being fetched: what the ledger says is old
    SETTLED = "settled"


class Progress(NamedTuple):
    """For people: how many blocks there are and, as peers claim, will be; `eta` in s, None where unknown."""

    phase: Phase
    blocks: int
    target: int
    rate: float  # blocks a second
    eta: float | None


class SyncProgress:
    """Made at the start of sync."""

    def __init__(self, now: float) -> None:
        self._phase = Phase.STARTING
        self._began = now
        self._came_at = now  # when RENEWAL_BLOCKS had come, or what they are waited for began
        self._since_came = 0
        self._alone_since: float | None = now
        self._since_settled = 0
        self._target = 0
        self._is_claimed = False  # catching up only because a peer says that it has more
        self._believes_at = now
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES_MAX)

    def on_target(self, blocks: int, ours: int, now: float) -> None:
        """A peer that we fetch from says how many blocks it has."""
        self._target = max(self._target, blocks)
        if blocks >= ours + BEHIND_BLOCKS and now >= self._believes_at and self._phase is not Phase.CATCHING_UP:
            self._is_claimed = True
            self._catch_up(now)

    def on_applied(self, count: int, now: float) -> None:
        """So many fetched blocks were new and good."""
        if not count:
            return
        self._since_settled += count
        self._since_came += count
        self._samples.append((now, count))
        if self._since_came >= RENEWAL_BLOCKS:
            self._came_at, self._since_came, self._is_claimed = now, 0, False
        if self._since_settled >= BEHIND_BLOCKS and self._phase is not Phase.CATCHING_UP:
            self._is_claimed = False
            self._catch_up(now)

    def _catch_up(self, now: float) -> None:
        self._phase, self._came_at, self._since_came = Phase.CATCHING_UP, now, 0

    def on_met(self) -> None:
        """A session has shown that a peer has nothing more for us."""
        self._phase = Phase.SETTLED
        self._since_settled = self._target = 0

    def phase(self, has_peers: bool, now: float) -> Phase:
        """The phase now; to be asked every now and then."""
        if has_peers:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        alone = self._alone_since is not None and now >= self._alone_since + ALONE_SECONDS
        if self._phase is Phase.STARTING and (alone or now >= self._came_at + START_SECONDS_MAX):
            self.on_met()
        if self._phase is Phase.CATCHING_UP and now >= self._came_at + STALL_SECONDS:
            if self._is_claimed:
                self._believes_at = now + CLAIM_REST_SECONDS
            self.on_met()
        return self._phase

    def look(self, blocks: int, has_peers: bool, now: float) -> Progress:
        """For people; `blocks` counts what the ledger has."""
        phase = self.phase(has_peers, now)
        recent = [(at, count) for at, count in self._samples if at > now - RATE_SECONDS]
        span = now - max(self._began, recent[0][0] if recent else now)
        rate = sum(count for _, count in recent[1:]) / span if span > 0 else 0.0
        target = max(self._target, blocks) if phase is not Phase.SETTLED else blocks
        eta = (target - blocks) / rate if rate > 0 else (0.0 if target == blocks else None)
        return Progress(phase, blocks, target, rate, eta)
