"""Confirming a ledger that was fetched whole: final votes at the ends of its chains, counted (protocol section 8).

Theory of operation. A final vote for a block is one for all that it rests on, for nobody votes for a block before that
is confirmed. So a node that lacks many confirmations asks for votes at the heads of its chains only, and what 67 % of
the weight has finally voted for is confirmed with its ancestors; no election is opened. The bar is the elections' own:
final votes, each representative once a block, of 67 % of all weight.

The weights are those of the ledger when the round begins. A ledger that is being filled has others than the network:
whoever was rich long ago would be so again. So a round begins only once a peer has shown that it has nothing more for
us, and it is dropped when the ledger begins to be filled again.
"""

from collections.abc import Iterable, Mapping

from xnode.core.values import Address, Hash
from xnode.core.votes import Position, VoteBundle
from xnode.core.weights import Weights


class HeadTally:
    """Final votes for these blocks at these positions, by the weights of the round."""

    def __init__(self, weights: Weights, heads: Mapping[Position, Hash]) -> None:
        self._weights = weights
        self._heads = heads
        self._voters: dict[Position, set[Address]] = {}

    def count(self, bundle: VoteBundle) -> None:
        """Votes whose signature is good; what is not final, or not for our block, counts nothing."""
        if not self._weights.of(bundle.representative):
            return
        for vote in bundle.votes:
            if vote.is_final and self._heads.get(vote.position) == vote.block_hash:
                self._voters.setdefault(vote.position, set()).add(bundle.representative)

    def decided(self) -> list[Hash]:
        """The blocks that have 67 %, in the order of the heads."""
        return [
            block_hash
            for position, block_hash in self._heads.items()
            if self._weights.is_quorum(self._sum(self._voters.get(position, ())))
        ]

    def _sum(self, voters: Iterable[Address]) -> int:
        return sum(map(self._weights.of, voters))
