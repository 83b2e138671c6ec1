"""Voting on one store, without a network: final votes on disk, pauses, and how much one call carries out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from tests.support.ledger import NOW, Chain, address_of, attest, key_of, make_genesis
from tests.support.state import OTHER_RATES, SOON, SYNCED, dao_genesis, keys_json, next_block, set_op
from xnode.core.blocks import Block, Send
from xnode.core.genesis import Allocation, Genesis
from xnode.core.state_chain import StateEffects, judge_state
from xnode.core.values import NS, Asset
from xnode.core.votes import VOTES, Position, Vote, VoteBundle
from xnode.roles.final_votes import FINAL_SPACE, final_at, position_key
from xnode.roles.governance import Governance
from xnode.roles.replica import Replica
from xnode.roles.voting import ROUNDS_AT_ONCE, Voting
from xnode.store.store import Store
from xnode.store.verify import verify_store

UNITS = {"alice": 200, "bob": 400, "carol": 400, "dave": 10}


class Table:
    """One node whose account weighs a fifth, and what BOB's and CAROL's representatives say to it."""

    def __init__(self, store: Store) -> None:
        self.genesis = store.genesis
        self.store = store
        self.replica = Replica(store, store.genesis, lambda: NOW, _publish)
        self.chains = {name: Chain(store.genesis, name) for name in UNITS}
        self.bundles = 0
        self.now = 5 * NS

    def begin(self) -> Voting:
        """The role of ALICE's node, made anew."""
        key, clock = key_of("alice"), lambda: NOW
        return Voting(key, self.store, self.genesis, self.replica, clock, lambda: self.now, _publish)

    def delegate(self, name: str, to: str) -> None:
        chain = self.chains[name]
        with self.store.snapshot() as view:
            block = chain.send(view, address_of("alice"), 1, representative=address_of(to))
        self.replica.take(block)
        with self.store.transaction() as transaction:
            account = transaction.account(chain.address)
            assert account is not None
            transaction.confirm(chain.address, account.height)
            transaction.commit()

    def position(self, block: Block) -> Position:
        return Position(block.account, block.previous)

    def vote(self, voting: Voting, who: str, block: Block, is_final: bool) -> None:
        self.bundles += 1
        vote = Vote(self.position(block), self.chains["dave"].hash_of(block), is_final)
        bundle = VoteBundle(address_of(who), self.bundles, (vote,))
        voting.take(bundle, VOTES.sign(self.genesis.network_key, key_of(who), bundle))


@contextmanager
def opened(root: Path, make: Callable[..., Genesis] = make_genesis, scale: int = 1) -> Iterator[Table]:
    allocations = tuple(Allocation(address_of(name), Asset.XUSD, scale * units) for name, units in UNITS.items())
    genesis = make(allocations=allocations, representative=address_of("alice"))
    with Store.open(root / "store", genesis) as store:
        table = Table(store)
        table.delegate("bob", "bobs")
        table.delegate("carol", "carols")
        table.voting = table.begin()
        yield table


def enact(store: Store, rates: dict[str, int]) -> None:
    """The DAO's rates, from the date of the blocks of these tests on."""
    with store.snapshot() as view:
        block = next_block(view, store.genesis, set_op("sys.rates", rates), timestamp=SOON)
        effects = judge_state(view, store.genesis, block, SYNCED)
    assert isinstance(effects, StateEffects)
    with store.transaction() as transaction:
        transaction.stage_state(effects)
        transaction.commit()


async def _publish(_topic: str, _wire: bytes) -> None:
    pass


async def test_a_final_vote_given_while_a_fork_lands_is_written_too(tmp_path: Path) -> None:
    """The fork's child was held and its votes waited: it is voted on, finally, in the batch that lets the fork in."""
    with opened(tmp_path) as table:
        voting, store, genesis = table.voting, table.store, table.genesis
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


async def test_a_fork_that_may_be_voted_for_since_a_pause_is_a_candidate_after_it(tmp_path: Path) -> None:
    with opened(tmp_path) as table:
        voting, dave, store = table.voting, table.chains["dave"], table.store
        with store.snapshot() as view:
            base = dave.send(view, address_of("alice"), 1)
        table.replica.take(base)
        with store.snapshot() as view:
            applied, fork = dave.send(view, address_of("alice"), 1), dave.send(view, address_of("bob"), 2)
        table.replica.take(applied)
        table.replica.take(fork)
        voting.is_paused = lambda: True
        voting.note_decision(table.replica.confirm([dave.hash_of(base)], lambda _: None, lambda _, __: None))
        voting.is_paused = lambda: False
        voting._sweep()
        election = voting._elections._open[table.position(applied)]
        assert election.candidates == {dave.hash_of(applied): True, dave.hash_of(fork): True}


async def test_no_weights_are_frozen_while_the_ledger_is_filled(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: object
) -> None:
    """They are those of long ago, and who was rich then could confirm by himself."""
    with opened(tmp_path) as table:
        voting, dave = table.voting, table.chains["dave"]
        with table.store.snapshot() as view:
            table.replica.take(dave.send(view, address_of("alice"), 1))
        voting.is_paused = lambda: True
        for name in ("bob", "carol"):
            table.delegate(name, "alice")
        table.now += 60 * NS
        with trio.move_on_after(10):
            await voting.keep_counting()
        assert voting._elections.reweighed == 0
        voting.is_paused = lambda: False
        with trio.move_on_after(10):
            await voting.keep_counting()
        assert voting._elections.reweighed == 1


async def test_votes_for_a_whole_chain_are_carried_out_in_parts(tmp_path: Path, autojump_clock: object) -> None:
    """Each block's confirmation lets us vote on the next, and each is a write: others run in between."""
    with opened(tmp_path) as table:
        voting, dave, store = table.voting, table.chains["dave"], table.store
        table.delegate("carol", "alice")  # so that it takes us and BOB's
        voting.weights_now()
        votes = []
        for _ in range(2 * ROUNDS_AT_ONCE + 2):
            with store.snapshot() as view:
                block = dave.send(view, address_of("alice"), 1)
            table.replica.take(block)
            votes.append(Vote(table.position(block), dave.hash_of(block), True))

        def confirmed() -> int:
            with store.snapshot() as view:
                return sum(view.is_confirmed(vote.block_hash) for vote in votes)

        bundle = VoteBundle(address_of("bobs"), 1, tuple(votes))
        voting.take(bundle, VOTES.sign(table.genesis.network_key, key_of("bobs"), bundle))
        counts = [confirmed()]
        carry_out = voting._carry_out_rounds

        def counted() -> None:
            carry_out()
            counts.append(confirmed())

        voting._carry_out_rounds = counted  # type: ignore[method-assign]
        with trio.move_on_after(5):
            await voting.carry_on()
        assert counts == [ROUNDS_AT_ONCE, 2 * ROUNDS_AT_ONCE, len(votes)]


RICHER = 100_000  # so that DAVE can pay for a lease


async def test_a_decision_that_the_rates_forbid_today_is_carried_out_once_they_allow_it(tmp_path: Path) -> None:
    """A fork was good when it came; then the rates changed, and those who had not heard of that confirmed it."""
    with opened(tmp_path, dao_genesis, RICHER) as table:
        voting, dave, store = table.voting, table.chains["dave"], table.store
        with store.snapshot() as view:
            applied = dave.send(view, address_of("alice"), 1, timestamp=SOON)
            fork = dave.lease(view, address_of("bob"), timestamp=SOON)
        table.replica.take(applied)
        table.replica.take(fork)
        enact(store, OTHER_RATES)

        def decide() -> bool:
            for who in ("bobs", "carols"):
                table.vote(voting, who, fork, True)
            with store.snapshot() as view:
                return view.is_confirmed(dave.hash_of(fork))

        assert not decide()
        assert voting.figures()["decisions_refused"] == 1
        assert voting.answer([table.position(fork)]), "what we have said stands"
        for _ in range(3):
            voting._sweep()
            assert not decide()
            assert voting.figures()["decisions_refused"] == 1, "it is not tried again in vain"

        enact(store, store.genesis.rates._asdict())
        table.replica.take(fork)  # as sync brings it again where ledgers differ
        assert decide()
        with store.snapshot() as view:
            assert view.note(FINAL_SPACE, position_key(table.position(fork))) is None


async def test_what_is_decided_before_a_change_was_looked_into_is_judged_by_it_first(tmp_path: Path) -> None:
    """Its lease starts when the new timekeepers say, and a confirmed block stays as it is for ever."""
    with opened(tmp_path) as table:
        voting, store, genesis = table.voting, table.store, table.genesis
        dave, carol = table.chains["dave"], table.chains["carol"]
        with store.snapshot() as view:
            lease = dave.lease(view, carol.address)
        lease_hash = table.replica.take(lease).block_hash
        with store.snapshot() as view:
            accept = carol.accept(view, lease_hash)
        attested = attest(lease_hash, NOW, NOW + NS, NOW + 2 * NS, names=("timekeeper-1", "timekeeper-2", "new"))
        accept = carol.sign(accept._replace(body=accept.body._replace(attestations=attested)))  # type: ignore[union-attr,call-arg]
        table.replica.take(accept)
        governance = Governance(store, genesis, lambda: NOW, _publish)
        governance.watch(lambda effects: voting.review(effects.block.timestamp))
        with store.snapshot() as view:
            listed = set_op("sys.timekeepers", keys_json("timekeeper-2", "new"))
            governance.take(next_block(view, genesis, listed, names=("dao",), timestamp=NOW))
        for block in (lease, accept):
            for who in ("bobs", "carols"):
                table.vote(voting, who, block, True)
        with store.snapshot() as view:
            assert view.is_confirmed(carol.hash_of(accept))
            found = view.lease(lease_hash)
        assert found is not None
        assert found.start_time == NOW + NS
        assert verify_store(store) == []
