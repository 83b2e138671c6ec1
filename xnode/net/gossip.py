"""Gossip as the node sees it: topics with rates, verdicts, and what a peer's bad messages cost it.

A peer's message is refused in exactly two ways. IGNORE: dropped, and nobody is to blame. REJECT: dropped,
and the peer that passed it on loses score; at BAN_SCORE it is banned and disconnected. Scores and rates
outlive a connection, so that reconnecting gains nothing; both tables are bounded.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, NamedTuple

from libp2p.peer.id import ID

from xnode.core.values import NS
from xnode.net.gossip_guard import Inbox
from xnode.net.streams import PeerId

DATA_BYTES_MAX: Final = 256 * 1024
BAN_SCORE: Final = 5.0  # REJECTs, less what has been forgiven
FORGIVEN_PER_SECOND: Final = 0.05
BAN_SECONDS: Final = 600.0
BANS_MAX: Final = 4096
SCORES_MAX: Final = 4096
BUCKETS_MAX: Final = 8192
REJECTED_IDS_MAX: Final = 1024


class Verdict(Enum):
    """What becomes of a gossip message (design rule: a peer's message is refused in exactly two ways)."""

    ACCEPT = "accept"  # delivered and passed on
    IGNORE = "ignore"  # dropped, nobody is to blame; the same message may come again from another peer
    REJECT = "reject"  # dropped, and it lowers the score of the peer that passed it on


class Judged(NamedTuple):
    """A validator's answer; `value` is the decoded message of an ACCEPT and is what `deliver` gets."""

    verdict: Verdict
    value: object | None
    reason: str


class Topic(NamedTuple):
    """One gossip topic. Both functions run on the loop and must be synchronous, total and quick.

    The PeerId is the one that passed the message on, not its author. A REJECT must depend on the data
    alone, for it is remembered; an IGNORE may depend on the peer and on the time.
    """

    validate: Callable[[PeerId, bytes], Judged]
    deliver: Callable[[PeerId, object], None]
    rate_per_second: float  # per peer; what comes above is IGNOREd and counted
    burst: int


class Bans:
    """Who may not connect, and until when (Unix ns)."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._until: dict[str, int] = {}

    def add(self, peer: str, seconds: float) -> None:
        """Bans from now on; never shortens a ban. Of too many, the one that ends first is dropped."""
        until = self._clock() + int(seconds * NS)
        self._until[peer] = max(until, self._until.get(peer, 0))
        if len(self._until) > BANS_MAX:
            del self._until[min(self._until, key=self._until.__getitem__)]

    def __contains__(self, peer: str) -> bool:
        until = self._until.get(peer)
        if until is not None and until <= self._clock():
            del self._until[peer]
            until = None
        return until is not None


class Leaky:
    """Amounts by key that leak away at a rate a second; the longest untouched is forgotten first."""

    def __init__(self, clock: Callable[[], int], entries_max: int) -> None:
        self._clock = clock
        self._max = entries_max
        self._levels: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()

    def level(self, key: tuple[str, ...], rate: float) -> float:
        """What is left of the key's amount, at `rate` a second."""
        level, at = self._levels.get(key, (0.0, 0))
        return max(0.0, level - rate * max(0, self._clock() - at) / NS)

    def add(self, key: tuple[str, ...], rate: float, amount: float) -> float:
        """Adds, and gives the new level."""
        level = self.level(key, rate) + amount
        self._levels[key] = (level, self._clock())
        self._levels.move_to_end(key)
        if len(self._levels) > self._max:
            self._levels.popitem(last=False)
        return level


class GossipJudge(Inbox):
    """Applies the topics' rates and validators, and keeps the peers' scores.

    `ban(peer, seconds, reason)` is called when a peer's score is used up; it must not wait.
    """

    def __init__(
        self,
        topics: Mapping[str, Topic],
        clock: Callable[[], int],
        bans: Bans,
        ban: Callable[[PeerId, float, str], None],
        counters: Counter[str],
    ) -> None:
        self._topics = topics
        self._bans = bans
        self._ban = ban
        self._counters = counters
        self._scores = Leaky(clock, SCORES_MAX)
        self._buckets = Leaky(clock, BUCKETS_MAX)
        self._rejected: OrderedDict[bytes, None] = OrderedDict()

    def admit(self, forwarder: ID, topic: str, size: int) -> bool:
        peer = PeerId(str(forwarder))
        self._counters["gossip_received"] += 1
        if peer in self._bans:
            return False
        if size > DATA_BYTES_MAX:
            self._reject(peer, "gossip_too_large")
            return False
        settings = self._topics[topic]
        if self._buckets.level((peer, topic), settings.rate_per_second) + 1 > settings.burst:
            self._counters["gossip_over_rate"] += 1
            return False
        self._buckets.add((peer, topic), settings.rate_per_second, 1)
        return True

    def take(self, forwarder: ID, topic: str, data: bytes, message_id: bytes) -> bool:
        peer = PeerId(str(forwarder))
        if message_id in self._rejected:
            self._reject(peer, "rejected_before")
            return False
        judged = self._topics[topic].validate(peer, data)
        self._counters[f"gossip_{judged.verdict.value}"] += 1
        if judged.verdict is Verdict.REJECT:
            self._remember(message_id)
            self._reject(peer, judged.reason)
        if judged.verdict is Verdict.ACCEPT:
            self._topics[topic].deliver(peer, judged.value)
        return judged.verdict is Verdict.ACCEPT

    def blame(self, forwarder: ID, reason: str) -> None:
        self._reject(PeerId(str(forwarder)), reason)

    def _remember(self, message_id: bytes) -> None:
        self._rejected[message_id] = None
        if len(self._rejected) > REJECTED_IDS_MAX:
            self._rejected.popitem(last=False)

    def _reject(self, peer: PeerId, reason: str) -> None:
        self._counters[f"gossip_rejected_{reason}"] += 1
        if self._scores.add((peer,), FORGIVEN_PER_SECOND, 1.0) >= BAN_SCORE:
            self._ban(peer, BAN_SECONDS, reason)
