"""What a node hands on of heard votes: none that it knows to have moved to a rival (protocol section 8)."""

from tests.support.elections import BOB, CAROL, PLACE, US, Table
from tests.support.vote_network import hash_number, position_number
from xnode.core.codec import encode
from xnode.core.heard_votes import HeardVotes
from xnode.core.lease import LeaseState
from xnode.core.steps import Step
from xnode.core.values import Address, Hash
from xnode.core.vote_effects import CastVote
from xnode.core.votes import Position, Vote, VoteBundle

STEP = Step(hash_number(9), LeaseState.CREATED)
THERE, ELSEWHERE = position_number(1), position_number(2)
ACCEPT, CANCEL, OTHER = hash_number(1), hash_number(2), hash_number(3)
UNITS = (40, 30, 30)


class Server:
    """A representative's node that knows both rivals, and what it has heard."""

    def __init__(self, own: Address) -> None:
        self.table = Table(*UNITS, own=own)
        self.heard = HeardVotes()
        self.bundles: dict[bytes, VoteBundle] = {}
        self.table.block(ACCEPT, step=STEP)
        self.table.block(CANCEL, THERE, step=STEP)

    def hear(self, who: Address, timestamp: int, *votes: tuple[Position, Hash, bool]) -> None:
        bundle = VoteBundle(who, timestamp, tuple(Vote(*vote) for vote in votes))
        wire = encode(tuple(bundle))
        self.bundles[wire] = bundle
        self.heard.put(bundle, wire)
        self.table.elections.on_votes(bundle, self.table.weights, self.table.now)

    def hand_on(self, *asked: Position) -> list[VoteBundle]:
        return [self.bundles[wire] for wire in self.heard.at(asked, self.table.elections.has_moved)]


def test_a_restarted_node_that_lacks_the_rival_is_not_made_sure_by_votes_that_have_moved() -> None:
    """All had voted for the acceptance, then for the cancellation; who restarts knows the acceptance alone, and would
    vote for it finally at once, while others are about to for the cancellation."""
    servers = [Server(BOB), Server(CAROL)]
    for server, other in zip(servers, (CAROL, BOB), strict=True):
        for who in (US, other):
            server.hear(who, 1, (PLACE, ACCEPT, False))
            server.hear(who, 2, (THERE, CANCEL, False))
    restarted = Table(*UNITS)
    effects = [*restarted.block(ACCEPT, step=STEP)]
    for server in servers:
        for bundle in server.hand_on(PLACE):
            effects += restarted.elections.on_votes(bundle, restarted.weights, restarted.now)
    assert effects == [CastVote(PLACE, ACCEPT, False, STEP)]


def test_what_has_moved_is_handed_on_where_it_stands_now() -> None:
    server = Server(BOB)
    server.hear(CAROL, 1, (PLACE, ACCEPT, False))
    assert [bundle.timestamp for bundle in server.hand_on(PLACE, THERE)] == [1]
    server.hear(CAROL, 2, (THERE, CANCEL, False))
    assert [bundle.timestamp for bundle in server.hand_on(PLACE, THERE)] == [2]
    server.hear(CAROL, 3, (PLACE, ACCEPT, False))
    assert [bundle.timestamp for bundle in server.hand_on(PLACE, THERE)] == [3]


def test_a_final_vote_is_always_handed_on() -> None:
    """Also one that shares a bundle with a vote that has moved, and one of a liar."""
    server = Server(BOB)
    server.hear(CAROL, 1, (PLACE, ACCEPT, False), (ELSEWHERE, OTHER, True))
    server.hear(CAROL, 2, (THERE, CANCEL, True))
    assert server.hand_on(PLACE) == []
    assert [bundle.timestamp for bundle in server.hand_on(PLACE, ELSEWHERE, THERE)] == [1, 2]
    server.hear(CAROL, 3, (PLACE, ACCEPT, True))
    assert 3 in [bundle.timestamp for bundle in server.hand_on(PLACE)]


def test_a_vote_that_shares_a_bundle_with_one_that_has_moved_stays_with_it() -> None:
    """It is its representative's to say again."""
    server = Server(BOB)
    server.hear(CAROL, 1, (PLACE, ACCEPT, False), (ELSEWHERE, OTHER, False))
    server.hear(CAROL, 2, (THERE, CANCEL, False))
    assert [bundle.timestamp for bundle in server.hand_on(ELSEWHERE, PLACE)] == []
