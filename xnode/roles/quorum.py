"""Whether enough weight can be reached for anything to be confirmed (protocol section 8), as people see it."""

from typing import Final, NamedTuple

from xnode.core.values import Address
from xnode.core.weights import QUORUM_PERCENT, Weights
from xnode.roles.contacts import Contacts

NAMED_MAX: Final = 5  # representatives that are named as missing, the heaviest first
NAME_CHARACTERS: Final = 12


class Quorum(NamedTuple):
    """The representatives that have told where they are, this node's own account included, and who is missing."""

    reachable: frozenset[Address]
    missing: tuple[Address, ...]
    weight: int
    total: int
    is_enough: bool

    def describe(self) -> str:
        """One sentence: the share that is there, what is needed, and who is missing."""
        share = 100 * self.weight // self.total if self.total else 0
        text = f"{share} % of the voting weight reachable, {QUORUM_PERCENT} % needed"
        names = [address.hex()[:NAME_CHARACTERS] for address in self.missing[:NAMED_MAX]]
        more = len(self.missing) - len(names)
        rest = f" and {more} more" if more else ""
        return f"{text}; missing: {', '.join(names)}{rest}" if names else text


def look(weights: Weights, contacts: Contacts) -> Quorum:
    """The quorum of now. Whoever has weight and no current directory record is missing, the heaviest first."""
    shares, now = weights.by_representative, contacts.now()
    reachable = frozenset(item for item in shares if contacts.is_own(item) or contacts.directory.find(item, now))
    missing = sorted(shares.keys() - reachable, key=lambda item: (-shares[item], item))
    weight = sum(shares[item] for item in reachable)
    return Quorum(reachable, tuple(missing), weight, weights.total, weights.is_quorum(weight))
