"""Whose turn it is to be asked (protocol section 10): on connect, then every 10 s where frontiers differ.

| last session with a peer | it is asked again |
|---|---|
| none yet | at once |
| more: there is more to get, and it comes | at once, after its other peers had their turn |
| skimmed: there is more to get, and what came was not new | after 2 s; after more than 100 in a row as if busy |
| caught_up, busy: it may have something | after 10 s |
| equal, and our ledger has changed or the peer's has | after 10 s |
| equal | after 60 s: a digest each way |
| fruitless: it differs and had nothing for us | after 10 s, doubled each time up to 160 s |
| slow, fault | after 20 s, doubled each time up to 640 s |

Equal, caught_up and fruitless are the ends of a peer that has told all it has; who was asked for a part has not.
"""

from collections.abc import Collection, Container, Sequence
from enum import Enum
from typing import Final, NamedTuple

from xnode.net.streams import PeerId

INTERVAL_SECONDS: Final = 10.0  # between sessions where frontiers differ and no peer is new
SKIM_SECONDS: Final = 2.0  # in which as much is passed over as a session may carry
SKIMS_MAX: Final = 100  # in a row: a peer's log may be said to be endless
QUIET_SECONDS: Final = 60.0  # where they do not
FRUITLESS_SECONDS_MAX: Final = 160.0
REST_SECONDS: Final = 20.0  # after a fault, doubled with each further one
REST_SECONDS_MAX: Final = 640.0
PEERS_MAX: Final = 4096  # remembered


class SessionEnd(Enum):
    """How a session ended for the asker."""

    EQUAL = "equal"  # both have the same
    CAUGHT_UP = "caught_up"  # it was asked for all that differs, and we have got what it had
    MORE = "more"  # there is more to get
    SKIMMED = "skimmed"  # there is more to get, behind blocks that we had or that wait for others
    FRUITLESS = "fruitless"  # it was asked for all that differs, and nothing that it sent was new
    BUSY = "busy"  # it was asked for nothing or a part of what differs, and none of it was new
    SLOW = "slow"  # it brought too little in too long
    FAULT = "fault"


EAGER: Final = frozenset({None, SessionEnd.MORE})
TOLD_ALL: Final = frozenset({SessionEnd.EQUAL, SessionEnd.CAUGHT_UP, SessionEnd.FRUITLESS})
BAD: Final = frozenset({SessionEnd.SLOW, SessionEnd.FAULT})


class _Known(NamedTuple):
    """What is remembered of a peer; `repeats` counts the same bad or fruitless end in a row."""

    at: float = float("-inf")
    end: SessionEnd | None = None
    repeats: int = 0
    digest: bytes = b""  # ours, when it was equal


NEW: Final = _Known()


def _has_more(known: _Known) -> bool:
    return known.end in EAGER or (known.end is SessionEnd.SKIMMED and known.repeats <= SKIMS_MAX)


class Rota:
    """The peers and how their last sessions ended; `now` in s of a clock that only goes forward."""

    def __init__(self) -> None:
        self._known: dict[PeerId, _Known] = {}
        self._here: frozenset[PeerId] = frozenset()
        self._last_any = float("-inf")

    def next(
        self, peers: Sequence[PeerId], now: float, digest: bytes = b"", busy: Collection[PeerId] = ()
    ) -> PeerId | None:
        """The connected peer to ask now, if any; faults of peers that left stay remembered, bounded.

        `digest` is that of our own ledger, `busy` are the peers that are being asked.
        """
        self._forget(peers)
        idle = [peer for peer in peers if peer not in busy]
        eager = [peer for peer in idle if self._is_eager(peer, now)]
        if eager:
            return min(eager, key=lambda peer: (self._of(peer).at, peer))
        if now < self._last_any + INTERVAL_SECONDS:
            return None
        due = [(*self._due(peer, digest), peer) for peer in idle]
        ready = [entry for entry in due if now >= entry[0]]
        return min(ready, key=lambda entry: entry[1:])[2] if ready else None

    def may_ask(self, peers: Sequence[PeerId], now: float, busy: Collection[PeerId] = ()) -> bool:
        """False where `next` would find nobody, whatever the digests are."""
        self._forget(peers)
        return now >= self._last_any + INTERVAL_SECONDS or any(
            self._is_eager(peer, now) for peer in peers if peer not in busy
        )

    def askable(self, peers: Sequence[PeerId], served: Collection[PeerId] = ()) -> int:
        """How many peers are asked at once, besides those that have their share: among them the work is split."""
        return sum(1 for peer in peers if peer not in served and _has_more(self._of(peer)))

    def on_end(self, peer: PeerId, end: SessionEnd, now: float, digest: bytes = b"") -> None:
        """Notes how a session ended, and our digest then."""
        known = self._of(peer)
        again = end is known.end or (end in BAD and known.end in BAD)
        self._known[peer] = new = _Known(now, end, known.repeats + 1 if again else 1, digest)
        if not _has_more(new):
            self._last_any = now

    def on_differs(self, peer: PeerId) -> None:
        """A peer that was equal has told that it is no longer: it may have something new."""
        known = self._known.get(peer)
        if known is not None and known.end is SessionEnd.EQUAL:
            self._known[peer] = known._replace(digest=b"differs")

    def count(self, end: SessionEnd) -> int:
        """How many peers ended their last session so; the good ones that left are forgotten."""
        return sum(1 for known in self._known.values() if known.end is end)

    def is_met(self, awaited: Container[PeerId] | None = None) -> bool:
        """Whether every connected peer was asked, none has more, and one has told all it had since any was busy.

        Where peers are `awaited`, that one may be any, and what others have is not waited for.
        """
        here = {peer: self._of(peer) for peer in self._here}
        told_at = max((known.at for known in here.values() if known.end in TOLD_ALL), default=None)
        return told_at is not None and not any(
            _has_more(known) or (known.end not in TOLD_ALL | BAD and known.at > told_at)
            for peer, known in here.items()
            if awaited is None or peer in awaited
        )

    def _of(self, peer: PeerId) -> _Known:
        return self._known.get(peer, NEW)

    def _is_eager(self, peer: PeerId, now: float) -> bool:
        known = self._of(peer)
        return _has_more(known) and (known.end is not SessionEnd.SKIMMED or now >= known.at + SKIM_SECONDS)

    def _due(self, peer: PeerId, digest: bytes) -> tuple[float, float]:
        """When it may be asked again, and when it was asked last."""
        known = self._of(peer)
        wait = INTERVAL_SECONDS
        doubled = 2 ** min(known.repeats - 1, 16)
        if known.end is SessionEnd.EQUAL and known.digest == digest:
            wait = QUIET_SECONDS
        elif known.end is SessionEnd.FRUITLESS:
            wait = min(INTERVAL_SECONDS * doubled, FRUITLESS_SECONDS_MAX)
        elif known.end in BAD:
            wait = min(REST_SECONDS * doubled, REST_SECONDS_MAX)
        return known.at + wait, known.at

    def _forget(self, peers: Sequence[PeerId]) -> None:
        """A peer that left is new when it comes again, unless it was bad."""
        here = frozenset(peers)
        if here == self._here and len(self._known) <= PEERS_MAX:
            return
        for peer in self._here - here:
            if self._of(peer).end not in BAD:
                self._known.pop(peer, None)
        self._here = here
        if len(self._known) > PEERS_MAX:
            self._known = {peer: known for peer, known in self._known.items() if peer in here}
