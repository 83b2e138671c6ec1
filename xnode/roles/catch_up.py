"""Confirms what was fetched from peers by votes at the heads of its chains; `core/catch_up.py` says why that is right.

Asking is paged: 64 heads a question, the next page after this one's answers. Confirming is done in small steps, with
others running in between, and lands in batches. While a round runs no elections are opened: it is over in bounded time,
and the sweep of `Voting` then offers what is left, such as heads that are being voted on just now.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from xnode.core.catch_up import HeadTally
from xnode.core.values import Address, Hash
from xnode.core.votes import Position, VoteBundle
from xnode.core.weights import Weights
from xnode.roles.replica import Decision, Replica
from xnode.store.finality import Climb
from xnode.store.records import Standing, StoredBlock
from xnode.store.store import Store
from xnode.store.transaction import Transaction

HEADS_A_QUESTION: Final = 64
LOOK_EVERY: Final = 1.0  # seconds
ROUND_SECONDS_MAX: Final = 120.0  # then elections may open again; the next round goes on
REST_SECONDS: Final = 30.0  # between rounds, doubled up to the maximum while they bring nothing
REST_SECONDS_MAX: Final = 480.0
WORTH_HEADS: Final = 32  # fewer unconfirmed chains are left to elections, unless they are long:
WORTH_BLOCKS: Final = 256  # elections go block by block, each of them after the one before it in its chain
STEP_BLOCKS: Final = 24  # confirmed before others run: a few ms
BATCH_BLOCKS: Final = 128  # landed and told at once: about 10 ms

log = logging.getLogger(__name__)

Ask = Callable[[tuple[Position, ...]], Awaitable[list[VoteBundle]]]
OnConfirmed = Callable[[Transaction, StoredBlock], None]


class CatchUp:
    """`is_settled` says whether the ledger may be judged by, `ask` gets votes whose signatures are good."""

    def __init__(
        self,
        store: Store,
        replica: Replica,
        weights: Callable[[], Weights],
        is_settled: Callable[[], bool],
        ask: Ask,
        on_decision: Callable[[Decision], None],
        on_confirmed: OnConfirmed,
    ) -> None:
        self._store = store
        self._replica = replica
        self._weights = weights
        self._is_settled = is_settled
        self._ask = ask
        self._on_decision = on_decision
        self._on_confirmed = on_confirmed
        self._transaction: Transaction | None = None
        self._confirmed: list[StoredBlock] = []
        self.is_running = False
        self.counters: Counter[str] = Counter()

    async def run(self) -> None:
        """Looks for many unconfirmed chains or blocks, for as long as the node runs."""
        rest = REST_SECONDS
        while True:
            await trio.sleep(LOOK_EVERY)
            if not self._is_settled() or not self._is_worth_it():
                continue
            before = self.counters["confirmed"]
            await self.round()
            rest = REST_SECONDS if self.counters["confirmed"] > before else min(2 * rest, REST_SECONDS_MAX)
            with trio.move_on_after(rest):
                await self._until_filled_again()

    async def round(self) -> None:
        """Once over all unconfirmed chains."""
        self.is_running = True
        self.counters["rounds"] += 1
        try:
            with trio.move_on_after(ROUND_SECONDS_MAX):
                await self._round()
        finally:
            self.is_running = False
            self._settle()

    async def _until_filled_again(self) -> None:
        """A ledger that was filled once more is looked at soon."""
        for was_settled in (True, False):
            while self._is_settled() is was_settled:  # noqa: ASYNC110  nothing fires when time alone changes it
                await trio.sleep(LOOK_EVERY)

    async def _round(self) -> None:
        after = None
        while self._is_settled():
            heads = self._heads(after)
            if not heads:
                return
            after = heads[-1].block.account
            await self._page(heads)

    def _is_worth_it(self) -> bool:
        with self._store.snapshot() as view:
            count = view.count_unconfirmed(WORTH_BLOCKS)
            return count >= WORTH_BLOCKS or (
                count >= WORTH_HEADS and len(view.unconfirmed_heads(None, WORTH_HEADS)) == WORTH_HEADS
            )

    def _heads(self, after: Address | None) -> list[StoredBlock]:
        with self._store.snapshot() as view:
            return view.unconfirmed_heads(after, HEADS_A_QUESTION)

    async def _page(self, heads: Sequence[StoredBlock]) -> None:
        positions = {Position(item.block.account, item.block.previous): item.block_hash for item in heads}
        self.counters["questions"] += 1
        bundles = await self._ask(tuple(positions))
        tally = HeadTally(self._weights(), positions)  # of now: the ledger may have been filled once more
        for bundle in bundles:
            tally.count(bundle)
        for block_hash in tally.decided():
            if self._is_settled():
                await self._confirm(block_hash)
        self._settle()

    async def _confirm(self, block_hash: Hash) -> None:
        climb = Climb(block_hash)
        while not climb.is_over:
            transaction = self._open()
            self._note(transaction, climb.step(transaction, STEP_BLOCKS))
            await trio.lowlevel.checkpoint()
            if len(self._confirmed) >= BATCH_BLOCKS and transaction.is_open:
                transaction.prepare()
                await trio.lowlevel.checkpoint()
                self._settle()

    def _note(self, transaction: Transaction, found: Sequence[Standing]) -> None:
        """A final vote of ours is said by the confirmed height from now on."""
        for standing in found:
            stored = transaction.block_at(standing.account, standing.height)
            assert stored is not None
            self._on_confirmed(transaction, stored)
            self._confirmed.append(stored)

    def _open(self) -> Transaction:
        if self._transaction is None or not self._transaction.is_open:
            self._transaction = self._store.transaction()
            self._store.lend(self._settle)
        return self._transaction

    def _settle(self) -> None:
        """Lands what is confirmed so far, and tells of it."""
        transaction, self._transaction = self._transaction, None
        if transaction is None or not transaction.is_open:
            return
        self._store.lend(None)
        confirmed, self._confirmed = tuple(self._confirmed), []
        transaction.commit()
        if confirmed:
            self.counters["confirmed"] += len(confirmed)
            self._on_decision(Decision(confirmed))
            self._replica.changed.fire()
