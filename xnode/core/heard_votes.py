"""Bundles with final votes as they were heard, to hand on to a peer that asks (protocol section 8).

A node that was away needs the very votes that confirmed a block, and their representatives may be gone by then, or be
liars that will not repeat them; a signed bundle proves itself, whoever hands it on.
"""

from collections.abc import Iterable
from typing import Final

from xnode.core.values import Address, Hash
from xnode.core.votes import Position, VoteBundle

POSITIONS_HEARD_MAX: Final = 10_000
BUNDLES_EACH_MAX: Final = 256  # of one position
BUNDLES_ANSWERED_MAX: Final = 256  # to one question


class HeardVotes:
    """Wire forms by position; when there are too many positions the oldest is forgotten."""

    def __init__(self) -> None:
        self._places: dict[Position, dict[tuple[Address, Hash], bytes]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def put(self, bundle: VoteBundle, wire: bytes) -> None:
        """Keeps a bundle, whose signer has weight and whose signature is good, under each position it is final on."""
        for vote in bundle.votes:
            if vote.is_final:
                place = self._places.setdefault(vote.position, {})
                if len(place) < BUNDLES_EACH_MAX:
                    place.setdefault((bundle.representative, vote.block_hash), wire)
        while len(self._places) > POSITIONS_HEARD_MAX:
            del self._places[next(iter(self._places))]

    def at(self, positions: Iterable[Position]) -> tuple[bytes, ...]:
        """The bundles with final votes at these positions, each once, at most BUNDLES_ANSWERED_MAX."""
        found = dict.fromkeys(wire for one in positions for wire in self._places.get(one, {}).values())
        return tuple(found)[:BUNDLES_ANSWERED_MAX]
