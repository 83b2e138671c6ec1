"""The charter: the values of `sys.*` that the network is run by, and which of them held when (protocol section 9).

A state block's timestamp is the moment from which it holds. So a node can say for any time what held then, and a lease
is judged alike by one who heard of a change beforehand and by one who syncs a year later.
"""

from bisect import bisect_right
from typing import NamedTuple

from xnode.core.attestations import Timekeepers
from xnode.core.genesis import Genesis
from xnode.core.keyset import Keyset
from xnode.core.price import Rates


class Charter(NamedTuple):
    """What holds at one time: who may change it, who attests time, what machines cost."""

    dao: Keyset
    timekeepers: Timekeepers
    rates: Rates


class Era(NamedTuple):
    """A charter with the number and the date (ns) of the state block that began it."""

    number: int
    timestamp: int
    charter: Charter


class Charters(NamedTuple):
    """All eras, oldest first; the first is the genesis'. Timestamps never decrease."""

    eras: tuple[Era, ...]

    def at(self, time: int) -> Charter:
        """What holds at `time` (ns): the charter of the last state block dated then or before; before all the first."""
        return self.eras[max(0, bisect_right(self.eras, time, key=lambda era: era.timestamp) - 1)].charter

    def after(self, number: int) -> Charter:
        """The charter that this state block left, whatever its date: the next block is judged by it."""
        return self.eras[max(0, bisect_right(self.eras, number, key=lambda era: era.number) - 1)].charter

    def since(self, time: int) -> tuple[Charter, ...]:
        """What holds at `time` (ns) and what is known to hold later."""
        return (self.at(time), *(era.charter for era in self.eras if era.timestamp > time))

    @property
    def latest(self) -> Charter:
        """The charter that the last state block left; it may hold only from a later time on."""
        return self.eras[-1].charter

    def extended(self, era: Era) -> "Charters":
        """These and one more; an era that changes nothing leaves them as they are."""
        return self if era.charter == self.latest else Charters((*self.eras, era))


def genesis_charters(genesis: Genesis) -> Charters:
    """The first era alone, which begins with the network and holds for all times before too."""
    return Charters((Era(0, genesis.created_at, Charter(genesis.dao, genesis.timekeepers, genesis.rates)),))
