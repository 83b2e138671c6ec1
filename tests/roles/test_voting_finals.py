"""Final votes on disk, whatever else happens in the event that brought them."""

from pathlib import Path

from tests.support.ledger import NOW, Chain, address_of, key_of, make_genesis
from xnode.core.blocks import Block, Send
from xnode.core.genesis import Allocation
from xnode.core.values import NS, Asset
from xnode.core.votes import VOTES, Position, Vote, VoteBundle
from xnode.roles.final_votes import final_at
from xnode.roles.replica import Replica
from xnode.roles.voting import Voting
from xnode.store.store import Store

UNITS = {"alice": 200, "bob": 400, "carol": 400, "dave": 10}


class Table:
    """One node whose account weighs a fifth, and what BOB's and CAROL's representatives say to it."""

    def __init__(self, store: Store) -> None:
        self.genesis = store.genesis
        self.store = store
        self.replica = Replica(store, store.genesis, lambda: NOW, _publish)
        self.chains = {name: Chain(store.genesis, name) for name in UNITS}
        self.bundles = 0

    def delegate(self, name: str, to: str) -> None:
        chain = self.chains[name]
        with self.store.snapshot() as view:
            block = chain.send(view, address_of("alice"), 1, representative=address_of(to))
        self.replica.take(block)
        with self.store.transaction() as transaction:
            transaction.confirm(chain.address, 1)
            transaction.commit()

    def position(self, block: Block) -> Position:
        return Position(block.account, block.previous)

    def vote(self, voting: Voting, who: str, block: Block, is_final: bool) -> None:
        self.bundles += 1
        vote = Vote(self.position(block), self.chains["dave"].hash_of(block), is_final)
        bundle = VoteBundle(address_of(who), self.bundles, (vote,))
        voting.take(bundle, VOTES.sign(self.genesis.network_key, key_of(who), bundle))


async def _publish(_topic: str, _wire: bytes) -> None:
    pass


async def test_a_final_vote_given_while_a_fork_lands_is_written_too(tmp_path: Path) -> None:
    """The fork's child was held and its votes waited: it is voted on, finally, in the batch that lets the fork in."""
    allocations = tuple(Allocation(address_of(name), Asset.XUSD, units) for name, units in UNITS.items())
    genesis = make_genesis(allocations=allocations, representative=address_of("alice"))
    with Store.open(tmp_path / "store", genesis) as store:
        table = Table(store)
        table.delegate("bob", "bobs")
        table.delegate("carol", "carols")
        voting = Voting(key_of("alice"), store, genesis, table.replica, lambda: NOW, lambda: 5 * NS, _publish)
        dave = table.chains["dave"]
        with store.snapshot() as view:
            loser, winner = dave.send(view, address_of("alice"), 1), dave.send(view, address_of("bob"), 2)
        child = dave.sign(
            winner._replace(
                body=Send(address_of("carol"), 1), previous=dave.hash_of(winner), balance=winner.balance - 1, work=0
            )
        )
        for block in (loser, winner, child):
            table.replica.take(block)
        for who, block, is_final in (("bobs", child, False), ("carols", child, False)):
            table.vote(voting, who, block, is_final)
        for who in ("bobs", "carols"):
            table.vote(voting, who, winner, True)

        (answered,) = voting.answer([table.position(child)])[:1]
        assert (
            Vote(table.position(child), dave.hash_of(child), True) in VOTES.read(genesis.network_key, answered)[0].votes
        )
        with store.snapshot() as view:
            assert view.is_confirmed(dave.hash_of(winner))
            assert final_at(view, table.position(child)) == dave.hash_of(child)
