"""Whether what is voted on can be confirmed, and if not, why, by name (protocol section 8), as people see it."""

from typing import Final, NamedTuple

from xnode.core.elections import SILENT_NS
from xnode.core.values import NS, Address
from xnode.core.weights import QUORUM_PERCENT, Weights
from xnode.roles.contacts import Contacts

NAMED_MAX: Final = 5  # representatives that are named, the heaviest first
NAME_CHARACTERS: Final = 12


class Quorum(NamedTuple):
    """The representatives that have told where they are, this node's own account included, who is missing, and who is
    silent: it has told where it is, but votes in none of the `stuck` elections."""

    reachable: frozenset[Address]
    missing: tuple[Address, ...]
    silent: tuple[Address, ...]
    stuck: int
    weight: int
    total: int
    is_enough: bool

    def describe(self) -> str:
        """One sentence: the share that is there, what is needed, and who is missing or silent."""
        if self.total == 0:
            return "nobody has voting weight, so nothing can be confirmed; somebody must receive XUSD first"
        share = 100 * self.weight // self.total
        text = f"{share} % of the voting weight votes or can be reached, {QUORUM_PERCENT} % needed"
        if self.missing:
            text += f"; nobody has told where these are: {_named(self.missing)}"
        if self.silent:
            text += f"; silent in all {self.stuck} elections older than {SILENT_NS // NS} s: {_named(self.silent)}"
        return text


def _named(addresses: tuple[Address, ...]) -> str:
    names = ", ".join(address.hex()[:NAME_CHARACTERS] for address in addresses[:NAMED_MAX])
    more = len(addresses) - NAMED_MAX
    return f"{names} and {more} more" if more > 0 else names


def look(weights: Weights, contacts: Contacts, silence: tuple[int, frozenset[Address]] = (0, frozenset())) -> Quorum:
    """The quorum of now. Whoever has weight and no current directory record is missing; `silence` is the voting's word
    on who does not vote. The heaviest come first."""
    shares, now = weights.by_representative, contacts.now()
    stuck, silent = silence
    reachable = frozenset(item for item in shares if contacts.is_own(item) or contacts.directory.find(item, now))
    weight = sum(shares[item] for item in reachable - silent)
    missing, quiet = (
        tuple(sorted(found, key=lambda item: (-shares[item], item)))
        for found in (shares.keys() - reachable, reachable & silent)
    )
    return Quorum(reachable, missing, quiet, stuck, weight, weights.total, weights.is_quorum(weight))
