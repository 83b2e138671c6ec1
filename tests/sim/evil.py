"""What evil members do against the rules: each is a real node with a hand that the rules don't bind.

They sign what they like with their own keys, and whisper it to whom they like; what honest nodes make of it is up to
the real roles.
"""

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, Final

import trio

from tests.sim.clocks import true_time
from tests.sim.member import Member
from tests.sim.plan import (
    CANCELS_LATE,
    DOUBLE_SPENDS,
    FORCE_SETTLES,
    LEASE_TWICE,
    LIES_ABOUT_TIME,
    NEVER_SETTLES,
    SEND_TWICE,
    SETTLES_EARLY,
    SETTLES_LATE,
    SKEW,
    SPENDS_TWICE,
    VOTES_TWICE,
)
from tests.support.ledger import Chain, key_of
from xnode.core import price
from xnode.core.attestations import Attestation, attestation_message
from xnode.core.blocks import Block, LeaseCancel, LeaseForceSettle, LeaseSettle, encode_block
from xnode.core.elections import ElectionView
from xnode.core.faults import Fault, Unavailable
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.ledger import LedgerView
from xnode.core.values import NS, Address, Asset, Hash, PublicKey
from xnode.core.votes import VOTES, Position, Vote, VoteBundle
from xnode.net.rpc import Args
from xnode.net.streams import PeerId
from xnode.roles.attesting import ATTEST_METHOD
from xnode.roles.author import Draft
from xnode.roles.replica import BLOCKS_TOPIC, no_notes
from xnode.roles.voting import VOTES_TOPIC

LOOK_EVERY: Final = 1.0
LEASE_SECONDS: Final = 20
ABUSE_SECONDS_MAX: Final = 200.0


class EvilHand:
    """One evil member's doings; `is_calm` ends them."""

    def __init__(self, member: Member, random: Random, is_calm: Callable[[], bool]) -> None:
        self._member = member
        self._random = random
        self._is_calm = is_calm
        self._settled: set[Hash] = set()
        self.busy = 0  # doings that the run has to wait for
        self.allies: list[EvilHand] = []  # all evil hands of the run, this one among them

    def possess(self, member: Member, nursery: trio.Nursery) -> None:
        """At the start of each life."""
        evils, roles = member.role.evils, member.roles
        assert roles is not None
        assert member.network is not None
        member.network.relays = not evils & {SPENDS_TWICE, VOTES_TWICE}
        if LIES_ABOUT_TIME in evils:
            roles._outside.rpc.register(ATTEST_METHOD, self._lie_about_time)
        if NEVER_SETTLES in evils:
            self._forbid_settling(roles.author)
        if VOTES_TWICE in evils:
            nursery.start_soon(self._vote_twice)
        if SETTLES_EARLY in evils:
            nursery.start_soon(self._settle_early)

    def abuse(self, how: str, payees: Sequence[Address], hosts: Sequence[Address]) -> None:
        """One abuse of its own money, by name."""
        if how in DOUBLE_SPENDS:
            self._spend_twice(how, payees, hosts)
        else:
            self._start(self._lease_and_abuse, how, self._random.choice(hosts))

    def _start(self, act: Callable[..., Awaitable[None]], *args: object) -> None:
        self._member.start_soon(self._count, act, *args)

    async def _count(self, act: Callable[..., Awaitable[None]], *args: object) -> None:
        self.busy += 1
        try:
            with trio.move_on_after(ABUSE_SECONDS_MAX):
                await act(*args)
        finally:
            self.busy -= 1

    async def _lease_and_abuse(self, how: str, host: Address) -> None:
        """An ordinary lease, at first."""
        block = self._next_block(lambda chain, view: _lease_block(chain, view, host, self._member.clock()))
        lease_hash = self._publish(block)
        if how == CANCELS_LATE:
            await trio.sleep(self._random.uniform(3, 9))
            lease = self._member.books.leases.get(lease_hash)
            if lease is not None and not lease.is_final:
                body = LeaseCancel(lease_hash)
                self._publish(self._next_block(lambda chain, view: chain.next(view, body, Asset.XUSD, lease.cost)))
                self._member.around.journal.note(CANCELS_LATE, self._member.name, lease_hash.hex()[:12])
        else:
            await self._force_settle(lease_hash)

    async def _force_settle(self, lease_hash: Hash) -> None:
        timing = self._member.around.genesis.timing
        while True:
            await trio.sleep(LOOK_EVERY)
            lease, roles = self._member.books.leases.get(lease_hash), self._member.roles
            if lease is None or lease.is_final or roles is None:
                return
            due = lease.expiry + (timing.settle_grace + timing.force_settle_gap) * NS
            if lease.state is LeaseState.ACCEPTED and true_time() > due:
                break
        try:
            attestations = await roles.attesting.quorum(lease_hash)
        except Fault:
            return
        body = LeaseForceSettle(lease_hash, attestations)
        self._publish(self._next_block(lambda chain, view: chain.next(view, body, Asset.XUSD, lease.cost)))
        self._member.around.journal.note(FORCE_SETTLES, self._member.name, lease_hash.hex()[:12])

    def _next_block(self, make: Callable[[Chain, LedgerView], Block]) -> Block:
        member = self._member
        assert member.roles is not None
        chain = Chain(member.around.genesis, member.name)
        with member.roles.store.snapshot() as view:
            return chain.sign(make(chain, view)._replace(timestamp=member.clock()))

    def _publish(self, block: Block) -> Hash:
        """To all, whatever its own node thinks of it."""
        member = self._member
        assert member.roles is not None
        member.roles.replica.take(block)
        for half in self._halves():
            self._tell(half, BLOCKS_TOPIC, encode_block(block))
        return Chain(member.around.genesis, member.name).hash_of(block)

    def _spend_twice(self, how: str, payees: Sequence[Address], hosts: Sequence[Address]) -> None:
        """Two blocks for the next position of its chain, each shown first to another half of the network."""
        member = self._member
        if member.roles is None:
            return
        with member.roles.store.snapshot() as view:
            chain, now = Chain(member.around.genesis, member.name), member.clock()
            first, second = self._random.choices(payees, k=2)
            host, other_host = self._random.choices(hosts, k=2)
            lease = _lease_block(chain, view, host, now)
            if how == SEND_TWICE:
                pair = [chain.send(view, to, 5 + n, timestamp=now) for n, to in enumerate((first, second))]
            elif how == LEASE_TWICE:
                pair = [lease, _lease_block(chain, view, other_host, now + 1)]
            else:
                pair = [lease, chain.send(view, first, 5, timestamp=now)]
        halves = self._halves()
        for block, half in zip(pair, halves, strict=True):
            self._tell(half, BLOCKS_TOPIC, encode_block(block))
            vote = Vote(Position(block.account, block.previous), chain.hash_of(block), is_final=True)
            for ally in self.allies:
                ally.vote(half, vote)
        member.around.journal.note(how, member.name, " | ".join(",".join(half) for half in halves))

    def _halves(self) -> tuple[list[PeerId], list[PeerId]]:
        network = self._member.network
        peers = [peer.peer_id for peer in network.peers()] if network is not None else []
        sides = self._member.around.storm.sides()
        if sides is not None:
            return [peer for peer in peers if peer in sides[0]], [peer for peer in peers if peer in sides[1]]
        self._random.shuffle(peers)
        middle = len(peers) // 2
        return peers[:middle], peers[middle:]

    def _tell(self, peers: Sequence[PeerId], topic: str, data: bytes) -> None:
        for peer_id in peers:
            if self._member.network is not None:
                self._member.network.whisper(peer_id, topic, data)

    def vote(self, peers: Sequence[PeerId], vote: Vote) -> None:
        """Tells these peers so, whatever it has told others."""
        member = self._member
        if VOTES_TWICE in member.role.evils and member.roles is not None:
            bundle = VoteBundle(member.address, true_time(), (vote,))
            wire = VOTES.sign(member.around.genesis.network_key, key_of(member.name), bundle)
            self._tell(peers, VOTES_TOPIC, wire)
            member.around.journal.note(VOTES_TWICE, member.name)

    async def _vote_twice(self) -> None:
        while not self._is_calm():
            await trio.sleep(LOOK_EVERY)
            if self._member.roles is not None:
                for election in self._member.roles.voting.views():
                    if len(election.candidates) > 1:
                        self._vote_for_both(election)

    def _vote_for_both(self, election: ElectionView) -> None:
        """One half hears a final vote for one block, the other half for the other; some hear both."""
        first, second = self._random.sample([candidate[0] for candidate in election.candidates], 2)
        for block_hash, half in zip((first, second), self._halves(), strict=True):
            self.vote(half, Vote(election.position, block_hash, self._random.random() < 0.8))

    async def _lie_about_time(self, _peer_id: PeerId, args: Args) -> Args:
        (lease_hash,) = args
        assert isinstance(lease_hash, bytes)
        lie = true_time() + int(self._random.uniform(-1.1 * SKEW, 1.1 * SKEW) * NS)
        message = attestation_message(Hash(lease_hash), lie)
        self._member.around.journal.note(LIES_ABOUT_TIME, self._member.name)
        key = key_of(self._member.name)
        return tuple(Attestation(PublicKey(key.public_key), lie, key.sign(message)))

    def _forbid_settling(self, author: Any) -> None:
        append = author.append

        async def refusing(draft: Draft, notes: Any = no_notes) -> Hash:
            if isinstance(draft.body, LeaseSettle):
                self._member.around.journal.note(NEVER_SETTLES, self._member.name)
                if draft.body.source not in self._settled and self._random.random() < 0.5:
                    self._settled.add(draft.body.source)
                    self._start(self._settle_late, draft.body)
                raise Unavailable("never", "it never settles")
            return await append(draft, notes)  # type: ignore[no-any-return]

        author.append = refusing

    async def _settle_late(self, body: LeaseSettle) -> None:
        """Well attested, and kept back until its consumer may force-settle: then others get it by sync."""
        timing = self._member.around.genesis.timing
        lease = self._member.books.leases[body.source]
        due = lease.expiry + (timing.settle_grace + timing.force_settle_gap) * NS
        await trio.sleep(max(0.0, (due - true_time()) / NS) + self._random.uniform(-2, 5))
        block = self._next_block(lambda chain, view: chain.next(view, body, Asset.XE, body.amount))
        assert self._member.roles is not None
        self._member.roles.replica.take_synced((encode_block(block),))
        self._member.around.journal.note(SETTLES_LATE, self._member.name, body.source.hex()[:12])

    async def _settle_early(self) -> None:
        while not self._is_calm():
            await trio.sleep(LOOK_EVERY)
            for lease in sorted(self._member.books.leases.values()):
                is_ours = lease.provider == self._member.address and lease.state is LeaseState.ACCEPTED
                if is_ours and lease.lease_hash not in self._settled and self._member.roles is not None:
                    self._settled.add(lease.lease_hash)
                    self._publish_settlement(lease)

    def _publish_settlement(self, lease: LeaseRecord) -> None:
        member, reward = self._member, price.reward(lease.cost)
        assert member.roles is not None
        with member.roles.store.snapshot() as view:
            body = LeaseSettle(lease.lease_hash, reward, ())
            chain = Chain(member.around.genesis, member.name)
            block: Block = chain.next(view, body, Asset.XE, reward, timestamp=member.clock())
        for half in self._halves():
            self._tell(half, BLOCKS_TOPIC, encode_block(block))
        member.around.journal.note(SETTLES_EARLY, member.name, lease.lease_hash.hex()[:12])


def _lease_block(chain: Chain, view: LedgerView, host: Address, now: int) -> Block:
    """A lease at the rates that hold."""
    return chain.lease(view, host, duration=LEASE_SECONDS, timestamp=now, rates=view.charter_at(now).rates)
