"""Changes that land together: blocks with their effects, blocks taken back, confirmations and notes, in one batch.

A transaction reads its own staged changes over the latest state, so that a page of blocks that build on each other is
judged and landed as one. Every invariant is checked while staging and once more over the new totals before the write;
the rules have checked them already, and neither trusts the other.
"""

from collections.abc import Callable
from typing import Final

from xnode.core.blocks import encode_block
from xnode.core.charter import Charters
from xnode.core.genesis import Genesis
from xnode.core.ledger import AccountRecord, Bucket, Effects, new_account, supply_balances
from xnode.core.state_chain import StateEffects
from xnode.core.values import U64_MAX, ZERO_HASH, Address, Hash
from xnode.store.finality import confirm, unconfirmed_ancestors
from xnode.store.invariants import require
from xnode.store.landed import Landed
from xnode.store.leveldb import Database
from xnode.store.records import StoredBlock
from xnode.store.rollback import descendants, take_back
from xnode.store.schema import NOTE_BYTES_MAX, note_key, place
from xnode.store.staging import Changes, Staging
from xnode.store.state import changed_rows
from xnode.store.undo import make_undo

_BALANCES: Final = Bucket.BALANCES  # looking up a member of an enumeration takes longer than the sum
_PENDING: Final = Bucket.PENDING
_NOTHING: Final = [0, 0]


class Transaction(Staging):
    """Made by `Store.transaction`, one at a time; ends with `commit`, `discard` or the end of its `with`."""

    def __init__(
        self,
        database: Database,
        genesis: Genesis,
        charters: Charters,
        landed: Landed,
        land: Callable[[Changes, Charters, bytes], None],
    ) -> None:
        super().__init__(database, genesis, charters, landed)
        self._genesis = genesis
        self._land = land
        self._prepared: Changes | None = None

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def prepare(self) -> None:
        """Does the half of `commit` that needs no disk, so that others may run in between; then nothing can be staged.

        Raises InvariantBroken.
        """
        self._check_unprepared()
        totals = self.counter.totals
        require(min(totals.values()) >= 0, "a bucket of the supply would fall below zero")
        require(supply_balances(totals), "the supply identity would break")
        self._prepared = self.rows() if self.is_changed() else {}

    def _check_unprepared(self) -> None:
        self.check_open()
        if self._prepared is not None:
            raise RuntimeError("this transaction is prepared; commit or discard it")

    def commit(self) -> None:
        """Lands everything staged; it is on disk when this returns. Ends the transaction either way.

        Raises OperatorFault(store_write_failed), InvariantBroken.
        """
        self.check_open()
        try:
            if self._prepared is None:
                self.prepare()
            if self._prepared:
                self._land(self._prepared, self._charters, self.first_undo())
                self._landed.land(self.changed, self.frontier_sums)
        finally:
            self.discard()

    def put_note(self, space: str, key: bytes, value: bytes) -> None:
        """Stages a note; raises ValueError for a bad space or too many bytes."""
        self._check_unprepared()
        if len(value) > NOTE_BYTES_MAX:
            raise ValueError(f"a note has {NOTE_BYTES_MAX} bytes at most")
        self.put(note_key(space, key), value)

    def delete_note(self, space: str, key: bytes) -> None:
        """Stages that a note goes, if it is there."""
        self._check_unprepared()
        self.put(note_key(space, key), None)

    def stage(self, effects: Effects, wire: bytes = b"") -> None:
        """Adds a judged block with all that it does; raises InvariantBroken and then stages nothing of it.

        `wire` spares encoding the block again where its wire form is at hand.
        """
        self._check_unprepared()
        block, block_hash, after, put, gone, lease, moves = effects
        before = self.account(block.account)
        shown = before or new_account(block.account, self._genesis)
        self._check_position(effects, shown)
        self._check_amounts(effects, shown)
        undo = make_undo(self, effects, before)
        opened = undo.lease_hash in (ZERO_HASH, block_hash)
        require(opened or undo.lease is not None, "the lease is not there")
        if undo.source != ZERO_HASH:
            self.set_dependent(undo.source, block_hash)
        if lease is not None:
            self.swap_lease(undo.lease_hash, undo.lease, lease)
        at, sequence = place(after.address, after.height), self.counter.sequence + 1
        self.put_block(at, block_hash, sequence, wire or encode_block(block))
        self.put_undo(at, undo)
        self.swap_account(after.address, before, after)
        self.swap_pending(gone, put)
        self.counter.add(moves, before is None, sequence)

    def stage_state(self, effects: StateEffects) -> None:
        """Adds a judged state block with all that it does; raises InvariantBroken and then stages nothing of it."""
        self._check_unprepared()
        tip, block = self.state_tip(), effects.block
        require((tip.number + 1, tip.block_hash) == (block.number, block.previous), "the state block does not follow")
        require(block.timestamp >= tip.timestamp, "a state block is never dated before the one before it")
        for key, value in changed_rows(effects, self._charters).items():
            self.put(key, value)
        self._charters = self._charters.extended(effects.era)

    def rollback(self, block_hash: Hash) -> StoredBlock:
        """Takes back the last block of a chain, as if it had never come; only its arrival number stays used.

        Raises InvariantBroken, and then changes nothing, for a block that is not here, confirmed, not the last of its
        chain, or the source of another one.
        """
        self._check_unprepared()
        return take_back(self, block_hash)

    def rollback_with_descendants(self, block_hash: Hash) -> list[StoredBlock]:
        """Takes back the block and all that rests on it, on every chain; returns them in the order of their undoing.

        That is the newest arrival first and `block_hash` last, so that the reverse may be judged anew. Raises
        InvariantBroken, and then changes nothing, for a block that is not here or confirmed.
        """
        self._check_unprepared()
        return [take_back(self, item) for item in descendants(self, block_hash)]

    def rollback_descendants(self, block_hash: Hash) -> list[StoredBlock]:
        """The same without the block itself, which then is what was done last."""
        self._check_unprepared()
        return [take_back(self, item) for item in descendants(self, block_hash)[:-1]]

    def confirm(self, account: Address, height: int) -> list[Hash]:
        """Confirms the chain up to `height` for ever; returns what is newly confirmed, oldest first.

        A height that is confirmed already changes nothing. Raises InvariantBroken, and then changes nothing, where the
        chain does not reach so far or a source of these blocks is not confirmed: what a confirmed block rests on is.
        """
        self._check_unprepared()
        return confirm(self, account, height)

    def confirm_with_ancestors(self, block_hash: Hash) -> list[Hash]:
        """Confirms the block and all that it rests on; returns what is newly confirmed, in an order of arrival.

        Right where a vote for a block is a vote for all that it rests on. Raises InvariantBroken for an unknown block.
        """
        self._check_unprepared()
        found = unconfirmed_ancestors(self, block_hash)
        return [item for standing in found for item in confirm(self, standing.account, standing.height)]

    def _check_position(self, effects: Effects, before: AccountRecord) -> None:
        block, after = effects.block, effects.account
        require(after.address == block.account, "the effects are another account's")
        require(block.previous == before.head, "the block does not follow its chain's head")  # so it is not there yet
        require(after.height == before.height + 1 and after.head == effects.block_hash, "the new head is not the block")
        require(after.final_height == before.final_height, "a block confirms nothing")

    def _check_amounts(self, effects: Effects, before: AccountRecord) -> None:
        after, put, gone = effects.account, effects.pending_put, effects.pending_delete
        balances, pending = [0, 0], [0, 0]  # what moved, by asset
        for asset, bucket, delta in effects.moves:
            if bucket is _BALANCES:
                balances[asset] += delta
            elif bucket is _PENDING:
                pending[asset] += delta
        require(0 <= after.xusd <= U64_MAX and 0 <= after.xe <= U64_MAX, "a balance would leave u64")
        moved = [after.xusd - before.xusd, after.xe - before.xe]
        require(balances == moved, "the balance does not move as the moves say")
        if put is not None:
            require(put.source == effects.block_hash, "a block opens no entry but its own")  # so it is not there yet
            pending[put.asset] -= put.amount
        if gone is not None:
            require(self.pending(gone.destination, gone.source) == gone, "nothing is pending there")
            pending[gone.asset] += gone.amount
        require(pending == _NOTHING, "pending is not what moved there")
