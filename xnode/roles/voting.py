"""Voting: offers blocks to the elections and carries out what they want done (protocol section 8).

Theory of operation. Every applied block, and every fork or rival of one that is not confirmed, is offered to
`core.elections`, which answers with effects. A final vote is on disk before it is sent (`_write_finals`, one batch for
all that go out together; those that are confirmed meanwhile need none of their own). A confirmed block is confirmed
in the store; where it is not the one applied, what stands in its way and all that rests on it are rolled back, and the
winner lands in the same batch.
Level-triggered: a sweep offers again whatever is not confirmed, so that no lost event is lost for good.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import trio

from xnode.core.blocks import Block, block_hash
from xnode.core.elections import Elections, ElectionView
from xnode.core.genesis import Genesis
from xnode.core.heard_votes import HeardVotes
from xnode.core.keys import SigningKey
from xnode.core.ledger import Effects
from xnode.core.steps import step_of
from xnode.core.values import ZERO_HASH, Address, Hash
from xnode.core.vote_effects import (
    CastVote,
    Confirmed,
    Dropped,
    Effect,
    Equivocation,
    Expired,
    Lost,
    NotOpened,
    WantBlock,
    WantVotes,
)
from xnode.core.votes import Position, Vote, VoteBundle
from xnode.core.weights import REPRESENTATIVES_MAX, Weights
from xnode.net.pulse import Pulse
from xnode.roles.block_times import BlockTimes, Stage
from xnode.roles.fates import Fate, Fates
from xnode.roles.final_votes import UnwrittenFinals, final_at, restore_finals, settle_finals
from xnode.roles.foundations import foundations
from xnode.roles.replica import Decision, Publish, Replica
from xnode.roles.review import end_review, review_since
from xnode.roles.rotation import Rotation
from xnode.roles.vote_outbox import VoteOutbox, within
from xnode.store.reads import PointReads
from xnode.store.records import StoredBlock
from xnode.store.snapshot import Snapshot
from xnode.store.store import Store

VOTES_TOPIC: Final = "xnode/votes"
FLUSH_EVERY: Final = 0.05  # seconds that votes wait for others, so that they share a message
TICK_EVERY: Final = 0.5
ROUNDS_AT_ONCE: Final = 4  # of what one call sets off, mostly a write each, before others run
SWEEP_EVERY: Final = 2.0
SWEEP_BLOCKS_MAX: Final = 100  # offered again in one sweep
IDLE_SECONDS: Final = 30.0  # between looks while there is nothing to vote on
WEIGHTS_KEPT: Final = 1.0  # seconds for which read weights are used
VIEWS_KEPT: Final = 1.0  # seconds for which what people see of elections is used
VIEWS_MAX: Final = 1_000  # elections that people see
STAGED_MAX: Final = 10_000  # forks kept in memory
WAITING_MAX: Final = 10_000  # blocks that wait for another one's confirmation; the sweep finds what is over
WANTED_MAX: Final = 1_000
ANSWER_BYTES_MAX: Final = 60_000  # of votes in one answer to a call

log = logging.getLogger(__name__)


class Voting:
    """The node's part in consensus; it votes where its account has weight, and always counts. Clocks give ns."""

    def __init__(
        self,
        key: SigningKey,
        store: Store,
        genesis: Genesis,
        replica: Replica,
        clock: Callable[[], int],
        monotonic: Callable[[], int],
        publish: Publish,
    ) -> None:
        self._store = store
        self._genesis = genesis
        self._replica = replica
        self._clock = clock
        self._monotonic = monotonic
        self._publish = publish
        self._own = Address(key.public_key)
        self._elections = Elections(self._own)
        self._heard = HeardVotes()
        self._weights: tuple[float, Weights] | None = None
        self._views: tuple[float, tuple[ElectionView, ...]] | None = None
        self._outbox = VoteOutbox(key, genesis, clock)
        self._staged: dict[Hash, Block] = {}
        self._waiting: dict[Hash, dict[Hash, Position]] = {}
        self._swept: tuple[Address, int] | None = None
        self._staged_turn = Rotation()
        self._unwritten = UnwrittenFinals()
        self._review_since: int | None = None
        self._pending: deque[Effect] = deque()
        self._is_busy = False
        self._left_over = trio.Event()
        self._news = trio.Event()
        self._opened = Pulse()
        self.wants = trio.Event()  # set when something is wanted of peers
        self._wanted_blocks: dict[Hash, None] = {}
        self._wanted_votes: dict[Position, None] = {}
        self.counters: Counter[str] = Counter()
        self._is_put_off = False  # something was not offered because of a pause
        self._was_quiet = False
        self.is_paused: Callable[[], bool] = lambda: False  # while the ledger is being filled its weights are wrong
        self._fates = Fates()
        self.times = BlockTimes(clock)
        self._restore()
        replica.watch(self._on_applied)
        replica.watch_forks(self._on_fork)

    def is_useful(self, bundle: VoteBundle) -> bool:
        """Whether its sender has any weight, so that its votes are worth passing on."""
        return self.weights().of(bundle.representative) > 0

    def take(self, bundle: VoteBundle, wire: bytes) -> None:
        """Counts votes whose signature is good, and keeps them for peers that missed them."""
        self._outbox.note_said(bundle)
        if self.is_useful(bundle):
            self._heard.put(bundle, wire)
        with self._store.snapshot() as view:
            votes = tuple(vote for vote in bundle.votes if not self._is_decided(view, vote.position))
        if votes:
            counted = bundle._replace(votes=votes)
            self._carry_out(self._elections.on_votes(counted, self.weights(), self._monotonic()))

    def answer(self, positions: Iterable[Position]) -> tuple[bytes, ...]:
        """Votes at these positions, our own and those heard, signed: for a peer that missed them."""
        asked = tuple(positions)
        self._write_finals()
        with self._store.snapshot() as view:
            found = [self._answer(view, position) for position in asked]
        own = self._sign([vote for vote in found if vote is not None])
        return within((*own, *self._heard.at(asked, self._elections.has_moved)), ANSWER_BYTES_MAX)

    def take_wanted(self, positions_max: int, blocks_max: int) -> tuple[tuple[Position, ...], tuple[Hash, ...]]:
        """The positions to ask for votes at and the blocks to ask for; what is over stays wanted."""
        positions, blocks = tuple(self._wanted_votes)[:positions_max], tuple(self._wanted_blocks)[:blocks_max]
        for position in positions:
            del self._wanted_votes[position]
        for wanted in blocks:
            del self._wanted_blocks[wanted]
        if not self._wanted_votes and not self._wanted_blocks:
            self.wants = trio.Event()
        return positions, blocks

    def weights(self) -> Weights:
        """Who weighs what now, at most a second old."""
        now = trio.current_time()
        if self._weights is None or now >= self._weights[0] + WEIGHTS_KEPT:
            with self._store.snapshot() as view:
                listed = view.representatives(limit=REPRESENTATIVES_MAX)
                self._weights = (now, Weights(view.total_weight(), {item.address: item.weight for item in listed}))
        return self._weights[1]

    def weights_now(self) -> Weights:
        """The same, read anew: a ledger that has just been filled has others than a moment ago."""
        self._weights = None
        return self.weights()

    def review(self, since: int) -> None:
        """Looks anew, in the next sweeps, at all unconfirmed blocks that are dated since then (ns).

        What holds since then has changed, and those are taken back that are not good any more.
        """
        self._review_since = since if self._review_since is None else min(since, self._review_since)
        self._swept = None
        self._opened.fire()

    def staged(self, identity: Hash) -> Block | None:
        """A fork or rival that is being voted on, for a peer that asks for it."""
        return self._staged.get(identity)

    def fate(self, identity: Hash) -> Fate | None:
        """What became of a block that is not applied; None where this node knows nothing of it."""
        staged = self._staged.get(identity)
        return Fate(staged) if staged is not None else self._fates.find(identity)

    def views(self) -> tuple[ElectionView, ...]:
        """The open elections by position, those of several candidates before others where they are too many; at most a
        second old."""
        now = trio.current_time()
        if self._views is None or now >= self._views[0] + VIEWS_KEPT:
            most_contested = sorted(self._elections.views(), key=lambda view: -len(view.candidates) - len(view.rivals))
            self._views = (now, tuple(sorted(most_contested[:VIEWS_MAX])))
        return self._views[1]

    def silence(self) -> tuple[int, frozenset[Address]]:
        """How many elections are stuck, and the representatives that have voted in none of these."""
        return self._elections.silence(self._monotonic())

    def figures(self) -> dict[str, int]:
        """Counters of what elections wanted, and how much is waiting."""
        gauges = {"elections": len(self._elections), "waiting_votes": self._elections.waiting}
        gauges["elections_reweighed"] = self._elections.reweighed
        return {**self.counters, **gauges, "staged_forks": len(self._staged), "votes_to_send": len(self._outbox)}

    async def send_votes(self) -> None:
        """Bundles and gossips votes; runs for as long as the node."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            await trio.sleep(FLUSH_EVERY)
            self._write_finals()
            votes = self._outbox.take()
            for wire in self._sign([_vote(cast) for cast in votes]):
                self.counters["bundles_sent"] += 1
                await self._publish(VOTES_TOPIC, wire)
            for cast in votes:
                self.times.note(cast.block_hash, Stage.FINAL_SENT if cast.is_final else Stage.VOTE_SENT)

    async def keep_counting(self) -> None:
        """Ticks and sweeps; runs for as long as the node."""
        sweep_at = trio.current_time()
        while True:
            if trio.current_time() >= sweep_at:
                self._sweep()
                sweep_at = trio.current_time() + SWEEP_EVERY
            is_weighed = len(self._elections) and not self._is_quiet()  # a ledger that is being filled has old weights
            self._carry_out(self._elections.on_tick(self._monotonic(), self.weights() if is_weighed else None))
            if len(self._elections) or self._elections.waiting or self._is_put_off:
                await trio.sleep(TICK_EVERY)
            else:
                await self._opened.wait(IDLE_SECONDS)

    async def carry_on(self) -> None:
        """Does what calls have left to do, and lets others run in between; runs for as long as the node."""
        while True:
            await self._left_over.wait()
            self._left_over = trio.Event()
            await trio.lowlevel.checkpoint()
            self._carry_out(())

    def _restore(self) -> None:
        with self._store.snapshot() as view:
            restore_finals(view, self._elections)
            self._review_since = review_since(view)

    def _is_quiet(self) -> bool:
        """Whether nothing new is voted on now; what was read of weights meanwhile is forgotten then."""
        was_quiet, self._was_quiet = self._was_quiet, self.is_paused()
        if was_quiet and not self._was_quiet:
            self._weights = None
        return self._was_quiet

    def _on_applied(self, applied: Sequence[Effects]) -> None:
        if self._is_quiet():
            self._is_put_off = True  # the sweep offers them again
            return
        for effects in applied:
            self.times.note(effects.block_hash, Stage.APPLIED)
        for effects in applied:
            self._offer(effects.block, effects.block_hash)

    def _on_fork(self, block: Block) -> None:
        """A block whose position or step is taken: worth a vote if it is good and nothing in its way is confirmed."""
        identity = block_hash(self._genesis.network_key, block)
        if identity in self._staged or len(self._staged) >= STAGED_MAX:
            return
        if self._replica.would_replace(block):
            self._staged[identity] = block
            self._offer(block, identity)

    def _offer(self, block: Block, identity: Hash) -> None:
        if self._is_quiet():
            self._is_put_off = True  # the sweep offers it again
            return
        position = _position(block)
        with self._store.snapshot() as view:
            is_here = view.has_block(identity) or identity in self._staged
            if not is_here or view.is_confirmed(identity):  # what was offered just before it may have changed that
                return
            needs = [need for need in foundations(view, block) if not view.is_confirmed(need)]
        for need in needs:
            if need != ZERO_HASH and (len(self._waiting) < WAITING_MAX or need in self._waiting):
                self._waiting.setdefault(need, {})[identity] = position
        now = self._monotonic()
        is_votable, step = not needs, step_of(block)
        self._carry_out(
            self._elections.on_block(position, identity, self.weights(), now, is_votable=is_votable, step=step)
        )

    def _offer_known(self, identity: Hash) -> bool:
        with self._store.snapshot() as view:
            stored = view.block(identity)
        block = stored.block if stored is not None else self._staged.get(identity)
        if block is not None:
            self._offer(block, identity)
        return block is not None

    def _sweep(self) -> None:
        if self._is_quiet():
            self._is_put_off, self._swept = True, None
            return
        with self._store.snapshot() as view:
            page = view.unconfirmed(self._swept, SWEEP_BLOCKS_MAX)
        self._swept = (page[-1].block.account, page[-1].height) if len(page) == SWEEP_BLOCKS_MAX else None
        self._is_put_off = self._is_put_off and self._swept is not None  # until once over all
        for stored in page:
            is_due = self._review_since is not None and self._review_since <= stored.block.timestamp
            if is_due:
                self._drop(self._replica.review(stored.block_hash, self._is_bound))
            self._offer(stored.block, stored.block_hash)
        for identity in self._staged_turn.next(tuple(self._staged), SWEEP_BLOCKS_MAX):
            self._offer_known(identity)
        if self._swept is None and self._review_since is not None:
            self._review_since = None
            end_review(self._store)

    def _is_bound(self, view: PointReads, stored: StoredBlock) -> bool:
        """Whether it has a final vote of ours, on disk or not yet, or is decided and about to be confirmed."""
        identity = stored.block_hash
        decided = (effect.block_hash for effect in self._pending if isinstance(effect, Confirmed))
        is_final = final_at(view, _position(stored.block)) == identity
        return is_final or self._unwritten.has(identity) or identity in decided

    def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        """Carries out what is wanted, in its order, but all confirmations of one round in one batch.

        What follows from that (a confirmation lets the next block be voted on, and so on through a whole chain) comes
        back here while we are at it: it waits in line instead of going ever deeper. After some rounds `carry_on` does
        the rest, because each may be a write to disk.
        """
        self._unwritten.add(effect for effect in effects if isinstance(effect, CastVote) and effect.is_final)
        self._pending += effects
        if not self._is_busy:
            self._carry_out_rounds()
            self._opened.fire()

    def _carry_out_rounds(self) -> None:
        self._is_busy = True
        try:
            for _ in range(ROUNDS_AT_ONCE):
                if self._pending:
                    self._carry_out_round()
        finally:
            self._is_busy = False
        if self._pending:
            self._left_over.set()

    def _carry_out_round(self) -> None:
        effects, self._pending = self._pending, deque()
        for effect in effects:
            self.counters[type(effect).__name__] += 1
            if not isinstance(effect, Confirmed):
                self._carry_out_one(effect)
        decided = [effect for effect in effects if isinstance(effect, Confirmed)]
        if decided:
            self._confirm(decided)

    def _carry_out_one(self, effect: Effect) -> None:
        match effect:
            case CastVote():
                self._send(effect)
            case WantBlock(block_hash=wanted):
                self._want_block(wanted)
            case WantVotes(position=position) if len(self._wanted_votes) < WANTED_MAX:
                self._wanted_votes[position] = None
                self.wants.set()
            case Lost(block_hash=gone, winner=winner):
                self._reject(gone, "rival_lost", winner)
            case Dropped(block_hash=gone) | NotOpened(block_hash=gone):
                self._staged.pop(gone, None)
            case Expired(candidates=candidates):
                self._forget(candidates)
            case Equivocation():
                log.warning("%s has voted finally for two blocks", effect.representative.hex())

    def _want_block(self, wanted: Hash) -> None:
        """One that the ledger has is only not being voted on yet."""
        if not self._offer_known(wanted) and len(self._wanted_blocks) < WANTED_MAX:
            self._wanted_blocks[wanted] = None
            self.wants.set()

    def _write_finals(self) -> None:
        """Before anything is said to anybody: our final votes are on disk, all since the last time in one batch."""
        if self._unwritten:
            with self._store.transaction() as transaction:
                self._unwritten.stage(transaction)
                transaction.commit()
            self._unwritten.note_written()

    def _send(self, vote: CastVote) -> None:
        self.times.note(vote.block_hash, Stage.FINAL_VOTED if vote.is_final else Stage.VOTED)
        self._outbox.put(vote)
        self._news.set()

    def _confirm(self, decided: list[Confirmed]) -> None:
        """Those that are applied in one batch, and each that takes the place of another in its own."""
        with self._store.snapshot() as view:
            applied = [item.block_hash for item in decided if view.has_block(item.block_hash)]
        for identity in applied if self._review_since is not None else ():
            self._drop(self._replica.review(identity, lambda *_: True))  # it is decided, and then stays as it is
        if applied:
            decision = self._replica.confirm(applied, self._unwritten.stage, settle_finals)
            self._unwritten.note_written()
            self._land(decision, applied[0])
        for item in decided:
            winner = self._staged.pop(item.block_hash, None)
            if winner is not None and item.block_hash not in applied:
                self._put_in_place(winner, item)
            for loser in item.losers:
                self._reject(loser, "fork_lost", item.block_hash)

    def _put_in_place(self, winner: Block, item: Confirmed) -> None:
        """One that is not good any more may be again, once the state chain says so: it comes back as any fork does."""
        decision = self._replica.replace(winner, self._unwritten.stage, settle_finals)
        if decision.confirmed:
            self._unwritten.note_written()
            self._land(decision, item.block_hash)
        else:  # nothing was written
            self.counters["decisions_refused"] += 1
            self._elections.on_refused(item, step_of(winner))

    def note_decision(self, decision: Decision) -> None:
        """The same of blocks that were confirmed without an election."""
        self._write_finals()
        self._land(decision, ZERO_HASH)

    def _land(self, decision: Decision, winner: Hash) -> None:
        """What a batch of confirmations means for elections and for what waited."""
        for stored in decision.undone:
            self._waiting.pop(stored.block_hash, None)
            reason = _reason(stored.block, decision.confirmed)
            self._fates.reject(stored.block_hash, stored.block, reason, winner)
            self._forget(self._elections.on_undone(_position(stored.block), stored.block_hash))
        now = self._monotonic()
        for stored in decision.confirmed:
            self.times.note(stored.block_hash, Stage.CONFIRMED)
            position, step = _position(stored.block), step_of(stored.block)
            self._carry_out(self._elections.on_confirmed(position, stored.block_hash, now, step))
        for stored in decision.confirmed:
            for waiting in self._waiting.pop(stored.block_hash, ()):
                self._offer_known(waiting)

    def _reject(self, gone: Hash, reason: str, winner: Hash) -> None:
        """A staged one is remembered for people; an applied one is when it is taken back."""
        block = self._staged.pop(gone, None)
        if block is not None:
            self._fates.reject(gone, block, reason, winner)

    def _drop(self, undone: Iterable[StoredBlock]) -> None:
        for stored in undone:
            self._waiting.pop(stored.block_hash, None)
            self._forget(self._elections.on_undone(_position(stored.block), stored.block_hash))

    def _forget(self, candidates: Iterable[Hash]) -> None:
        for candidate in candidates:
            self._staged.pop(candidate, None)

    def _is_decided(self, view: Snapshot, position: Position) -> bool:
        return self._decided(view, position) is not None

    def _decided(self, view: Snapshot, position: Position) -> Hash | None:
        """The confirmed block at a position."""
        standing = view.standing_after(position.account, position.previous)
        return standing.block_hash if standing is not None and view.is_confirmed(standing.block_hash) else None

    def _answer(self, view: Snapshot, position: Position) -> Vote | None:
        vote = self._elections.answer(position)
        if vote is not None:
            return _vote(vote)
        decided = self._decided(view, position)
        if decided is None or final_at(view, position) not in (None, decided):
            return None
        return Vote(position, decided, is_final=True)

    def _sign(self, votes: list[Vote]) -> tuple[bytes, ...]:
        if not votes or self.weights().of(self._own) == 0:
            return ()
        return self._outbox.sign(votes)


def _position(block: Block) -> Position:
    return Position(block.account, block.previous)


def _reason(undone: Block, confirmed: Iterable[StoredBlock]) -> str:
    """Why it was taken back, from what is confirmed in its stead."""
    position, step = _position(undone), step_of(undone)
    if any(_position(stored.block) == position for stored in confirmed):
        return "fork_lost"
    is_rival = step is not None and any(step_of(stored.block) == step for stored in confirmed)
    return "rival_lost" if is_rival else "rested_on_a_loser"


def _vote(cast: CastVote) -> Vote:
    return Vote(cast.position, cast.block_hash, cast.is_final)
