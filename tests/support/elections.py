"""Voters, blocks and votes for tests of elections: members a, b, c... with the weights that a test gives them."""

from typing import Any

from tests.support.vote_network import address_number, hash_number, position_number
from xnode.core.elections import Elections
from xnode.core.steps import Step
from xnode.core.vote_effects import Effect
from xnode.core.votes import Position, Vote, VoteBundle
from xnode.core.weights import Weights, freeze_weights

PLACE = position_number(0)
LOW, HIGH, OTHER = hash_number(1), hash_number(2), hash_number(3)
US, BOB, CAROL, DAVE = (address_number(number) for number in range(4))


def weigh(*units: int) -> Weights:
    """Weights of us, Bob, Carol, Dave..."""
    return freeze_weights({address_number(number): weight for number, weight in enumerate(units)})


class Table:
    """Elections under test with their weights and a clock in ns that the test moves."""

    def __init__(self, *units: int, own: Any = US) -> None:
        self.elections = Elections(own)
        self.weights = weigh(*units)
        self.now = 0

    def block(
        self, block_hash: Any, position: Position = PLACE, is_votable: bool = True, step: Step | None = None
    ) -> tuple[Effect, ...]:
        """A block is offered."""
        return self.elections.on_block(position, block_hash, self.weights, self.now, is_votable=is_votable, step=step)

    def vote(
        self, who: Any, block_hash: Any, *, final: bool = False, position: Position = PLACE, timestamp: int = 1
    ) -> tuple[Effect, ...]:
        """A vote arrives."""
        bundle = VoteBundle(who, timestamp, (Vote(position, block_hash, final),))
        return self.elections.on_votes(bundle, self.weights, self.now)

    def tick(self, after: int) -> tuple[Effect, ...]:
        """A tick, `after` ns later."""
        self.now += after
        return self.elections.on_tick(self.now, self.weights)
