"""Voting weight (protocol section 8): XUSD by the representative that holds the delegation of its account."""

from collections.abc import Mapping
from heapq import nsmallest
from typing import Final, NamedTuple

from xnode.core.values import Address

QUORUM_PERCENT: Final = 67
REPRESENTATIVES_MAX: Final = 1_000  # only the heaviest are counted, so that dust can't fill an election with voters


def quorum_of(total: int) -> int:
    """The least weight that decides, of this total; the spec's 67 % in integers."""
    return -(-QUORUM_PERCENT * total // 100)


class Weights(NamedTuple):
    """Who weighs what, frozen: nobody changes the mapping. `total` counts all weight, also that of nobody listed."""

    total: int
    by_representative: Mapping[Address, int]

    def of(self, representative: Address) -> int:
        """Units of XUSD; 0 for whoever is not listed."""
        return self.by_representative.get(representative, 0)

    def heaviest(self, count: int) -> list[Address]:
        """So many at most, of equals the lowest address first."""
        weights = self.by_representative
        return nsmallest(count, weights, key=lambda address: (-weights[address], address))

    def is_quorum(self, weight: int) -> bool:
        """Whether `weight` is at least 67 % of all there is. Where there is none, nothing ever is."""
        return self.total > 0 and 100 * weight >= QUORUM_PERCENT * self.total


def freeze_weights(delegated: Mapping[Address, int]) -> Weights:
    """The weights of this moment: a copy of the heaviest (ties: lowest address), the total of all."""
    heaviest = nsmallest(REPRESENTATIVES_MAX, delegated.items(), key=lambda item: (-item[1], item[0]))
    return Weights(sum(delegated.values()), {address: weight for address, weight in heaviest if weight > 0})
