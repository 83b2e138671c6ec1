"""Our final votes on disk: what binds us at a position and for a step of a lease, until it is decided (section 8).

A final vote is noted under the position and, where its block moves a lease, under the step; each note names the other,
so that both go together. Where the block has lost to a rival at its step, its position is free for others: the vote is
kept as one that binds no more, so that peers who still know it don't bind us again.
"""

from collections.abc import Iterable
from typing import Final

from xnode.core.elections import FINALS_MAX, Elections
from xnode.core.lease import LeaseState
from xnode.core.steps import Step, step_of
from xnode.core.values import HASH_BYTES, Address, Hash
from xnode.core.vote_effects import CastVote
from xnode.core.votes import Position
from xnode.store.reads import PointReads
from xnode.store.records import StoredBlock
from xnode.store.snapshot import Snapshot
from xnode.store.transaction import Transaction

FINAL_SPACE: Final = "final-vote"  # note space: position -> block hash, then the step that it wants
STEP_SPACE: Final = "final-vote-step"  # note space: step -> block hash, then its position
LOST_SPACE: Final = "final-vote-lost"  # note space: position -> hashes of blocks that have lost their steps
LOST_MAX: Final = 16  # at one position
LEAVES: Final = {LeaseState.CREATED: b"\1", LeaseState.ACCEPTED: b"\2"}


class UnwrittenFinals:
    """Final votes that are not on disk yet, and so not said to anybody: `stage`, commit, `note_written`."""

    def __init__(self) -> None:
        self._votes: list[CastVote] = []
        self._staged = 0  # the first ones

    def __len__(self) -> int:
        return len(self._votes)

    def add(self, finals: Iterable[CastVote]) -> None:
        """Takes votes that have just been given."""
        self._votes += finals

    def has(self, block_hash: Hash) -> bool:
        """Whether there is one for this block."""
        return any(vote.block_hash == block_hash for vote in self._votes)

    def stage(self, transaction: Transaction) -> None:
        """Puts all into a transaction."""
        write_finals(transaction, self._votes)
        self._staged = len(self._votes)

    def note_written(self) -> None:
        """The transaction is on disk. Votes that were given since, by what it let into the ledger, are not."""
        del self._votes[: self._staged]
        self._staged = 0


def write_finals(transaction: Transaction, finals: Iterable[CastVote]) -> None:
    """Stages the notes of these final votes."""
    for vote in finals:
        position, step = position_key(vote.position), b"" if vote.step is None else _step_key(vote.step)
        transaction.put_note(FINAL_SPACE, position, vote.block_hash + step)
        if step:
            transaction.put_note(STEP_SPACE, step, vote.block_hash + position)


def restore_finals(view: Snapshot, elections: Elections) -> None:
    """Gives all that is noted back to elections that have just been made."""
    for key, value in view.notes(FINAL_SPACE, FINALS_MAX):
        elections.restore_final(_position_of(key), _block_of(value))
    for key, value in view.notes(STEP_SPACE, FINALS_MAX):
        elections.restore_step(_step_of(key), _block_of(value))
    for _, value in view.notes(LOST_SPACE, FINALS_MAX):
        for start in range(0, len(value), HASH_BYTES):
            elections.restore_lost(_block_of(value[start:]))


def final_at(view: PointReads, position: Position) -> Hash | None:
    """What we have finally voted for at this position, as far as it still matters."""
    value = view.note(FINAL_SPACE, position_key(position))
    return None if value is None else _block_of(value)


def settle_finals(transaction: Transaction, stored: StoredBlock) -> None:
    """Stages what the confirmation of this block means for the notes.

    A vote for it is not needed any more: what is confirmed says all. One for another block at its position stays for
    ever, but binds no step. One for a rival elsewhere binds its position no more.
    """
    position = position_key(Position(stored.block.account, stored.block.previous))
    at_position = transaction.note(FINAL_SPACE, position)
    if at_position is not None:
        if _block_of(at_position) == stored.block_hash:
            transaction.delete_note(FINAL_SPACE, position)
        if len(at_position) > HASH_BYTES:
            _delete(transaction, STEP_SPACE, at_position[HASH_BYTES:], _block_of(at_position))
    if transaction.note(LOST_SPACE, position) is not None:
        transaction.delete_note(LOST_SPACE, position)
    step = step_of(stored.block)
    if step is not None:
        _settle_step(transaction, _step_key(step), stored.block_hash)


def _settle_step(transaction: Transaction, step: bytes, winner: Hash) -> None:
    value = transaction.note(STEP_SPACE, step)
    if value is None:
        return
    transaction.delete_note(STEP_SPACE, step)
    block_hash, position = _block_of(value), value[HASH_BYTES:]
    if block_hash != winner:
        _delete(transaction, FINAL_SPACE, position, block_hash)
        lost = (transaction.note(LOST_SPACE, position) or b"") + block_hash
        transaction.put_note(LOST_SPACE, position, lost[-LOST_MAX * HASH_BYTES :])


def _delete(transaction: Transaction, space: str, key: bytes, block_hash: Hash) -> None:
    """Deletes the note of the vote for this block. One for another may have been given meanwhile: that binds us."""
    value = transaction.note(space, key)
    if value is not None and _block_of(value) == block_hash:
        transaction.delete_note(space, key)


def position_key(position: Position) -> bytes:
    """Account and block before."""
    return position.account + position.previous


def _position_of(key: bytes) -> Position:
    return Position(Address(key[:HASH_BYTES]), Hash(key[HASH_BYTES:]))


def _step_key(step: Step) -> bytes:
    return step.lease_hash + LEAVES[step.leaves]


def _step_of(key: bytes) -> Step:
    leaves = {value: state for state, value in LEAVES.items()}
    return Step(Hash(key[:HASH_BYTES]), leaves[key[HASH_BYTES:]])


def _block_of(value: bytes) -> Hash:
    return Hash(value[:HASH_BYTES])
