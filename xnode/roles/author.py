"""The author: writes the node's own chain, one block at a time, with work found before it is wanted (section 6)."""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import trio

from xnode.core.blocks import BODIES, Block, BlockType, Body, Receive, block_hash
from xnode.core.faults import CallerFault, Fault, Unavailable
from xnode.core.genesis import Genesis
from xnode.core.keys import SigningKey
from xnode.core.ledger import AccountRecord, Outcome, Pending, new_account
from xnode.core.values import U64_MAX, ZERO_HASH, Address, Asset, Hash
from xnode.core.work import is_valid_work
from xnode.roles.replica import Notes, Replica, no_notes
from xnode.store.store import Store

log = logging.getLogger(__name__)

RECEIVE_EVERY: Final = 5.0  # seconds between looks for pending entries when nothing fires
RECEIVES_A_LOOK_MAX: Final = 20
HEADS_TRIED_MAX: Final = 5  # for one block
IN_STEP_SECONDS_MAX: Final = 10.0  # a caller waits for it after a start
KINDS: Final[dict[type[Body], BlockType]] = {body: kind for kind, body in BODIES.items()}


class Worker(Protocol):
    """Finds proof of work off the loop."""

    async def solve(self, root: bytes, difficulty: int) -> int:
        """A nonce that is work for `root`."""


class Gate(Protocol):
    """Says when the chain may grow."""

    async def wait(self) -> None:
        """Returns once it may."""


class Draft(NamedTuple):
    """What a block of our own shall say; `delta` is what it adds to our balance of `asset`."""

    asset: Asset
    delta: int
    body: Body


class Author:
    """Appends to the chain of one account. Only one append runs at a time, so we never fork ourselves."""

    def __init__(
        self,
        key: SigningKey,
        store: Store,
        genesis: Genesis,
        replica: Replica,
        worker: Worker,
        clock: Callable[[], int],
        in_step: Gate,
    ) -> None:
        self._key = key
        self._store = store
        self._genesis = genesis
        self._replica = replica
        self._worker = worker
        self._clock = clock
        self._in_step = in_step
        self._lock = trio.Lock()
        self._ready: tuple[bytes, int] = (b"", 0)  # (root, nonce) found ahead
        self.address = Address(key.public_key)

    def account(self) -> AccountRecord:
        """Our account as the ledger has it now."""
        with self._store.snapshot() as view:
            return view.account(self.address) or new_account(self.address, self._genesis)

    async def append(self, draft: Draft, notes: Notes = no_notes) -> Hash:
        """Writes, applies and gossips one block; returns its hash. Raises CallerFault or Unavailable by the refusal.

        A node that has just started is first in step with the network, or Unavailable(not_in_step) says that it is not.

        While work is looked for, votes may take our head back, or a block that was signed elsewhere may become it: then
        the block is made anew for the new head, as often as HEADS_TRIED_MAX; after that Unavailable(chain_moved).
        `notes` land in the same batch. From the signing on it can't be cancelled: a block that was applied is always
        gossiped too.
        """
        await self.be_in_step()
        async with self._lock:
            block = self._sign(await self._draw(draft))
            with trio.CancelScope(shield=True):
                submission = await self._replica.submit(block, notes)
        if submission.outcome is not Outcome.PROGRESS:
            raise _fault(submission.outcome, submission.detail)
        return submission.block_hash

    async def be_in_step(self) -> None:
        """Returns once the node is in step; raises Unavailable(not_in_step) where that takes too long."""
        with trio.move_on_after(IN_STEP_SECONDS_MAX):
            await self._in_step.wait()
            return
        message = "no peer has told since the start what the ledger is; try again once `xnode status` shows one"
        raise Unavailable("not_in_step", message, retryable=True)

    async def until_in_step(self) -> None:
        """The same for tasks, which have the time."""
        await self._in_step.wait()

    async def _draw(self, draft: Draft) -> Block:
        """The block on a head that is still ours once its work is found; nothing may run before it is submitted."""
        for _ in range(HEADS_TRIED_MAX):
            nonce = await self._work_for(account := self.account())
            self._store.land_lent()  # a sync may be about to land a block of ours
            if (now := self.account()).head == account.head:
                return self._make(now, draft, nonce)
        message = "this account's chain moves faster than work is found; does another program sign with its key?"
        raise Unavailable("chain_moved", message, retryable=True)

    async def prepare(self) -> None:
        """Returns once work for the next block is found, so that `append` waits for none."""
        async with self._lock:
            await self._work_for(self.account())

    async def work_ahead(self) -> None:
        """Keeps the next block's work ready; runs for as long as the node."""
        while True:
            await self.prepare()
            await self._replica.changed.wait(60.0)

    async def receive_pending(self) -> None:
        """Takes what others send to us, once it is confirmed; runs for as long as the node.

        A block that rests on one that is taken back goes with it, and all that was written after it: whoever spends
        twice could undo the chain of everybody that he sends to.
        """
        await self.until_in_step()
        after: tuple[Address, Hash] | None = None
        while True:
            with self._store.snapshot() as view:
                entries = view.pendings(self.address, after, RECEIVES_A_LOOK_MAX)
                confirmed = [entry for entry in entries if view.is_confirmed(entry.source)]
            for entry in confirmed:
                await self._receive(entry)
            is_full = len(entries) == RECEIVES_A_LOOK_MAX
            after = (self.address, entries[-1].source) if is_full else None
            await self._replica.changed.wait(RECEIVE_EVERY)

    async def _receive(self, entry: Pending) -> None:
        try:
            await self.append(Draft(entry.asset, entry.amount, Receive(entry.source)))
        except Fault as fault:
            log.warning("what %s sent can't be received: %s", entry.sender.hex(), fault)

    async def _work_for(self, account: AccountRecord) -> int:
        root = account.address if account.head == ZERO_HASH else account.head
        if self._ready[0] != root:
            self._ready = (root, await self._worker.solve(root, self._genesis.work_difficulty))
        assert is_valid_work(root, self._ready[1], self._genesis.work_difficulty)
        return self._ready[1]

    def _make(self, account: AccountRecord, draft: Draft, nonce: int) -> Block:
        balance = account.balance(draft.asset) + draft.delta
        if balance < 0:
            held = account.balance(draft.asset)
            message = f"this needs {-draft.delta} {draft.asset.name} and the account holds {held}; send it some first"
            raise CallerFault("insufficient_balance", message)
        if balance > U64_MAX:
            raise CallerFault("overflow", f"the account can't hold more than {U64_MAX} {draft.asset.name}")
        return Block(
            KINDS[type(draft.body)],
            self.address,
            account.head,
            draft.asset,
            balance,
            representative=None,
            timestamp=self._clock(),
            body=draft.body,
            work=nonce,
        )

    def _sign(self, block: Block) -> Block:
        return block._replace(signature=self._key.sign(block_hash(self._genesis.network_key, block)))


def _fault(outcome: Outcome, detail: str) -> CallerFault | Unavailable:
    if outcome in (Outcome.GAP_SOURCE, Outcome.FORK, Outcome.RIVAL, Outcome.BAD_ATTESTATIONS):
        return Unavailable(str(outcome), detail, retryable=True)
    return CallerFault(str(outcome), detail)
