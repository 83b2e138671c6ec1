"""The replica: every block enters the ledger here, wherever it comes from, and lands in one atomic batch.

A block is judged, applied and only then announced: to the roles by `changed`, to the network by gossip. A block that
needs one that is not here yet is held and tried again when that arrives; one that is refused for its price or its
attestations is kept and tried again when a state block has changed what holds. Where one arrival sets many free, a
batch judges a few of them and `carry_on` the others, a few at a time.
"""

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple

import trio

from xnode.core.blocks import Block, block_hash, decode_block, encode_block
from xnode.core.codec import Malformed
from xnode.core.genesis import Genesis
from xnode.core.hashing import Tag, tagged_hash
from xnode.core.held import Held
from xnode.core.ledger import (
    GAPS,
    Context,
    Effects,
    LedgerView,
    Outcome,
    Refusal,
    live_context,
    synced_context,
)
from xnode.core.rules import check_alone, judge, judge_checked, judge_identified
from xnode.core.values import ZERO_HASH, Hash
from xnode.net.pulse import Pulse
from xnode.roles.review import judge_anew
from xnode.roles.rivals import clear_way, refined
from xnode.store.reads import PointReads
from xnode.store.records import StoredBlock
from xnode.store.store import Store
from xnode.store.transaction import Transaction

BLOCKS_TOPIC: Final = "xnode/blocks"
DISPUTED_MAX: Final = 1_000
RELEASED_MAX: Final = 64  # held blocks that one batch judges; the following ones judge the rest
# What a node refuses that has not yet heard of new rates or timekeepers.
DISPUTED: Final = frozenset({Outcome.BAD_AMOUNT, Outcome.BAD_ATTESTATIONS})

log = logging.getLogger(__name__)

Publish = Callable[[str, bytes], Awaitable[None]]
Watcher = Callable[[Sequence[Effects]], None]
Rule = Callable[[LedgerView, Block, Context], Effects | Refusal]
Note = tuple[str, bytes, bytes]  # space, key, value
Notes = Callable[[Hash], Iterable[Note]]
Stage = Callable[[Transaction], None]
OnConfirmed = Callable[[Transaction, StoredBlock], None]


def no_notes(_block_hash: Hash) -> Iterable[Note]:
    """Nothing to remember with the block."""
    return ()


class Submission(NamedTuple):
    """What became of a block that somebody offered."""

    block_hash: Hash
    outcome: Outcome
    detail: str


class Decision(NamedTuple):
    """What a confirmation did: these blocks are confirmed, those are taken back."""

    confirmed: tuple[StoredBlock, ...] = ()
    undone: tuple[StoredBlock, ...] = ()


class Replica:
    """The one writer of the ledger. `clock` gives ns; `changed` fires after every applied batch."""

    def __init__(self, store: Store, genesis: Genesis, clock: Callable[[], int], publish: Publish) -> None:
        self._store = store
        self._genesis = genesis
        self._clock = clock
        self._publish = publish
        self._watchers: list[Watcher] = []
        self._fork_watchers: list[Callable[[Block], None]] = []
        self._undone_watchers: list[Callable[[StoredBlock], None]] = []
        self._forks: list[Block] = []  # met in the batch that is being judged
        self.held = Held()
        self.disputed = Held(DISPUTED_MAX)  # all of them wait for the next state block
        self._freed: deque[Block] = deque()  # they are held no longer, and not judged yet
        self._left_over = trio.Event()
        self.changed = Pulse()
        self.outcomes: Counter[str] = Counter()

    def watch(self, watcher: Watcher) -> None:
        """Calls `watcher` with the effects of every batch's blocks, in order, once they are durable; it must be quick
        and must not raise."""
        self._watchers.append(watcher)

    def watch_forks(self, watcher: Callable[[Block], None]) -> None:
        """Calls `watcher` with every block whose position or step another one has taken; it must not raise."""
        self._fork_watchers.append(watcher)

    def watch_undone(self, watcher: Callable[[StoredBlock], None]) -> None:
        """Calls `watcher` with every block that was taken back, once that is durable; it must not raise."""
        self._undone_watchers.append(watcher)

    async def submit(self, block: Block, notes: Notes = no_notes) -> Submission:
        """Offers a live block of our own or of an API client; gossips it when it is new and good.

        `notes` (of the block's hash) land in the same batch as the block, or not at all.
        """
        submission = self._intake(block, judge, notes)
        if submission.outcome is Outcome.PROGRESS:
            await self._publish(BLOCKS_TOPIC, encode_block(block))
        return submission

    def take(self, block: Block) -> Submission:
        """Judges a live block that nobody has checked yet, and applies it if it is good."""
        return self._disputing(block, self._intake(block, judge))

    def take_checked(self, block: Block) -> Submission:
        """The same for a live block that has passed `check_alone` in gossip's validator."""
        return self._disputing(block, self._intake(block, judge_checked))

    def _disputing(self, block: Block, submission: Submission) -> Submission:
        """Keeps what a change of the state chain may make good; not what our own account wrote: it writes anew."""
        if submission.outcome in DISPUTED:
            self.disputed.put(submission.block_hash, block, ZERO_HASH)
        return submission

    def judge_disputed(self) -> None:
        """Judges anew what was refused by the rates or timekeepers known until now; to be called after a change."""
        self._freed += self.disputed.take(ZERO_HASH)
        self._judge_more()

    async def carry_on(self) -> None:
        """Judges the freed blocks that a batch left over, and lets others run in between; runs as long as the node."""
        while True:
            await self._left_over.wait()
            self._left_over = trio.Event()
            await trio.lowlevel.checkpoint()
            self._judge_more()

    def _judge_more(self) -> None:
        with self._store.transaction() as transaction:
            applied = self._judge_freed(transaction, self.context())
            transaction.commit()
        self._announce(applied)

    def review(self, identity: Hash, is_bound: Callable[[PointReads, StoredBlock], bool]) -> tuple[StoredBlock, ...]:
        """Judges an unconfirmed block by what holds now, see `roles.review`; returns what is taken back for it.

        One that `is_bound`, as by our final vote, stays even where it is not good: it may be confirmed elsewhere.
        """
        with self._store.transaction() as transaction:
            stored = transaction.block(identity)
            if stored is None or transaction.is_confirmed(identity):
                return ()
            stays = is_bound(transaction, stored)
            anew = judge_anew(transaction, stored, self.synced_context())
            if anew is None or (stays and stored in anew.undone):
                return ()
            transaction.commit()
        log.warning("%s judged anew: %d blocks are taken back, %d do something else", identity.hex(), *map(len, anew))
        for one in anew.undone:
            for watcher in self._undone_watchers:
                watcher(one)
        self._announce(anew.landed)
        self.changed.fire()
        return anew.undone

    def would_replace(self, block: Block) -> bool:
        """Whether this fork or rival would be good in place of what stands in its way; changes nothing."""
        with self._store.transaction() as transaction:
            if not clear_way(transaction, block):
                return False
            verdict = judge_checked(transaction, block, self.synced_context())
        return isinstance(verdict, Effects)

    def confirm(self, identities: Sequence[Hash], first: Stage, on_confirmed: OnConfirmed) -> Decision:
        """Confirms applied blocks for ever, with all that they rest on, in one batch.

        In it too is what `first` stages, and what `on_confirmed` does for each confirmed block. Unknown blocks are left
        out.
        """
        confirmed: list[StoredBlock] = []
        with self._store.transaction() as transaction:
            first(transaction)
            for identity in identities:
                if transaction.has_block(identity):
                    confirmed += _confirm(transaction, identity, on_confirmed)
            transaction.commit()
        self.changed.fire()
        return Decision(tuple(confirmed))

    def replace(self, winner: Block, first: Stage, on_confirmed: OnConfirmed) -> Decision:
        """The same for a fork or rival that has won: what stands in its way is rolled back with all that rests on that,
        and it lands, in the same batch. One that is not good any more confirms nothing."""
        undone: list[StoredBlock] = []
        with self._store.transaction() as transaction:
            first(transaction)
            landed = self._replace(transaction, winner, undone)
            if landed is None:
                return Decision()
            applied = [landed, *self._release(transaction, landed.block_hash, self.context())]
            confirmed = _confirm(transaction, landed.block_hash, on_confirmed)
            transaction.commit()
        for stored in undone:
            for watcher in self._undone_watchers:
                watcher(stored)
        self._announce(applied)
        self.changed.fire()
        return Decision(tuple(confirmed), tuple(undone))

    def _replace(self, transaction: Transaction, winner: Block, undone: list[StoredBlock]) -> Effects | None:
        undone += clear_way(transaction, winner) or ()
        verdict = judge_checked(transaction, winner, self.synced_context())
        if isinstance(verdict, Refusal):
            log.warning(
                "a block of %s won, but is not good by what holds here: %s", winner.account.hex(), verdict.outcome
            )
            return None
        if undone:
            log.warning("a block of %s won: %d others are rolled back", winner.account.hex(), len(undone))
        transaction.stage(verdict)
        return verdict

    def preview(self, block: Block) -> Outcome:
        """What `take_checked` would say; the ledger stays as it is.

        One thing more: whether the keyset in force signed a fork is known only where what stands there is taken back.
        """
        with self._store.snapshot() as view:
            verdict = judge_checked(view, block, self.context())
            if not isinstance(verdict, Refusal):
                return Outcome.PROGRESS
            refusal = refined(view, block, verdict)
        outcome = self._disputing(block, Submission(self.hash_of(block), *refusal[:2])).outcome
        is_unsure = outcome is Outcome.FORK and block.signatures is not None
        return Outcome.BAD_QUORUM if is_unsure and not self.would_replace(block) else outcome

    def take_synced(self, wires: Sequence[bytes]) -> int:
        """Applies a page of old blocks in their order, one batch for all; returns how many were new and good.

        Raises Malformed at the first that is no block, after the good ones before it were applied.
        """
        applied: list[Effects] = []
        context = self.synced_context()
        transaction = self._store.transaction()
        try:
            for wire in wires:
                applied += self._apply(transaction, decode_block(wire), context)
        finally:
            transaction.commit()
            self._announce(applied)
        return len(applied)

    def hash_of(self, block: Block) -> Hash:
        """What names the block in this network."""
        return block_hash(self._genesis.network_key, block)

    def context(self) -> Context:
        """What live blocks are judged by now."""
        return live_context(self._genesis, self._clock())

    def synced_context(self) -> Context:
        """What blocks that somebody had before us are judged by now."""
        return synced_context(self._genesis, self._clock())

    def _intake(self, block: Block, rule: Rule, notes: Notes = no_notes) -> Submission:
        identity = block_hash(self._genesis.network_key, block)
        transaction = self._store.transaction()
        verdict = rule(transaction, block, self.context())
        if isinstance(verdict, Refusal):
            verdict = refined(transaction, block, verdict)
            transaction.discard()
            submission = self._refused(block, identity, verdict)
            self._announce(())
            return submission
        transaction.stage(verdict)
        for note in notes(identity):
            transaction.put_note(*note)
        applied = [verdict, *self._release(transaction, identity, self.context())]
        transaction.commit()
        self._announce(applied)
        return Submission(identity, Outcome.PROGRESS, "")

    def _refused(self, block: Block, identity: Hash, refusal: Refusal) -> Submission:
        self.outcomes[refusal.outcome] += 1
        if refusal.outcome in GAPS:
            self.held.put(self._holding(block, identity), block, refusal.needs)
        if refusal.outcome in (Outcome.FORK, Outcome.RIVAL):
            self._forks.append(block)
        return Submission(identity, refusal.outcome, refusal.detail)

    def _holding(self, block: Block, identity: Hash) -> Hash:
        """What a held block is known by: who should have signed a multisig account's block is not known yet, so that
        the same block signed by strangers must not take its place."""
        if block.signatures is None:
            return identity
        return tagged_hash(self._genesis.network_key, Tag.BLOCK, encode_block(block))

    def _apply(self, transaction: Transaction, block: Block, context: Context) -> list[Effects]:
        verdict = judge(transaction, block, context)
        if isinstance(verdict, Refusal):
            refusal = refined(transaction, block, verdict)
            self._disputing(block, self._refused(block, self.hash_of(block), refusal))
            return []
        transaction.stage(verdict)
        return [verdict, *self._release(transaction, verdict.block_hash, context)]

    def stage_bulk(
        self, transaction: Transaction, block: Block, identity: Hash, wire: bytes, context: Context
    ) -> Effects | Outcome:
        """Judges one of many old blocks whose own checks are done; stages it if it is good, holds it over a gap.

        `wire` is empty where it has to be encoded anew.
        """
        verdict = judge_identified(transaction, block, identity, context)
        if isinstance(verdict, Effects):
            transaction.stage(verdict, wire)
            return verdict
        refusal = refined(transaction, block, verdict)
        return self._disputing(block, self._refused(block, identity, refusal)).outcome

    def announce(self, applied: Sequence[Effects]) -> None:
        """Tells everybody of blocks that `stage_bulk` staged, once they are committed."""
        self._announce(applied)

    def _release(self, transaction: Transaction, arrived: Hash, context: Context) -> list[Effects]:
        """The held blocks that `arrived` sets free, and those that they set free in turn; `carry_on` does the rest."""
        self._freed += self.held.take(arrived)
        return self._judge_freed(transaction, context)

    def _judge_freed(self, transaction: Transaction, context: Context) -> list[Effects]:
        applied: list[Effects] = []
        for _ in range(RELEASED_MAX):
            if not self._freed:
                return applied
            block = self._freed.popleft()
            verdict = judge_checked(transaction, block, context)
            if isinstance(verdict, Refusal):
                refusal = refined(transaction, block, verdict)
                self._disputing(block, self._refused(block, self.hash_of(block), refusal))
                continue
            transaction.stage(verdict)
            applied.append(verdict)
            self._freed += self.held.take(verdict.block_hash)
        self._left_over.set()
        return applied

    def _announce(self, applied: Sequence[Effects]) -> None:
        self.outcomes[Outcome.PROGRESS] += len(applied)
        for watcher in self._watchers if applied else ():
            watcher(applied)
        forks, self._forks = self._forks, []
        for block in forks:
            for watch_fork in self._fork_watchers:
                watch_fork(block)
        if applied:
            self.changed.fire()


def _confirm(transaction: Transaction, identity: Hash, on_confirmed: OnConfirmed) -> list[StoredBlock]:
    found = [transaction.block(item) for item in transaction.confirm_with_ancestors(identity)]
    confirmed = [stored for stored in found if stored is not None]
    for stored in confirmed:
        on_confirmed(transaction, stored)
    return confirmed


def check_wire(wire: bytes, context: Context) -> tuple[Block | None, Outcome, str]:
    """Gossip's half of the checks: the block if it is well formed and passes all that needs no ledger."""
    try:
        block = decode_block(wire)
    except Malformed as error:
        return None, Outcome.BAD_FORMAT, str(error)
    refusal = check_alone(block, context)
    return (block, Outcome.PROGRESS, "") if refusal is None else (None, refusal.outcome, refusal.detail)
