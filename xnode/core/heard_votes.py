"""Bundles of votes as they were heard, to hand on to a peer that asks (protocol section 8).

A node that was away needs the very votes that confirmed a block, or that others go by, and their representatives may be
gone by then, or be liars that will not repeat them; a signed bundle proves itself, whoever hands it on. But a vote that
has moved to a rival, at a position that who asks may not know, would still count there: it is not handed on.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from xnode.core.values import Address, Hash
from xnode.core.votes import Position, VoteBundle

POSITIONS_HEARD_MAX: Final = 10_000
BUNDLES_EACH_MAX: Final = 256  # of one position
BUNDLES_ANSWERED_MAX: Final = 256  # to one question

HasMoved = Callable[[Address, Position], bool]  # whether a representative's vote at a position counts elsewhere now


class HeardVotes:
    """Wire forms by position; when there are too many positions the oldest is forgotten."""

    def __init__(self) -> None:
        # (representative, what it is finally for, or None) -> timestamp, wire form
        self._places: dict[Position, dict[tuple[Address, Hash | None], tuple[int, bytes]]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def put(self, bundle: VoteBundle, wire: bytes) -> None:
        """Keeps a bundle, whose signer has weight and whose signature is good, under each of its positions: of a
        representative the latest non-final vote and, for each block, the first final one."""
        for vote in bundle.votes:
            place = self._places.setdefault(vote.position, {})
            key = (bundle.representative, vote.block_hash if vote.is_final else None)
            known = place.get(key)
            if len(place) < BUNDLES_EACH_MAX if known is None else not vote.is_final and bundle.timestamp > known[0]:
                place[key] = (bundle.timestamp, wire)
        while len(self._places) > POSITIONS_HEARD_MAX:
            del self._places[next(iter(self._places))]

    def at(self, positions: Iterable[Position], has_moved: HasMoved) -> tuple[bytes, ...]:
        """The bundles with votes at these positions, each once, at most BUNDLES_ANSWERED_MAX; but none for the sake of
        a non-final vote beside one that has moved."""
        places = [(one, who, final_for, wire) for one in positions for (who, final_for), wire in self._at(one)]
        moved = {wire for one, who, final_for, wire in places if final_for is None and has_moved(who, one)}
        found = dict.fromkeys(wire for _, _, final_for, wire in places if final_for is not None or wire not in moved)
        return tuple(found)[:BUNDLES_ANSWERED_MAX]

    def _at(self, position: Position) -> Iterator[tuple[tuple[Address, Hash | None], bytes]]:
        return ((key, wire) for key, (_, wire) in self._places.get(position, {}).items())
