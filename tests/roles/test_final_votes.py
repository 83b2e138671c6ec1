"""The notes of our final votes: what a confirmation frees, and what it must leave, because it is another vote's."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.blocks import EXAMPLES
from tests.support.store import open_store
from tests.support.vote_network import hash_number, position_number
from xnode.core.blocks import Block, BlockType, LeaseCancel
from xnode.core.elections import Elections
from xnode.core.steps import step_of
from xnode.core.values import Hash
from xnode.core.vote_effects import CastVote
from xnode.core.votes import Position
from xnode.roles.final_votes import LOST_MAX, final_at, restore_finals, settle_finals, write_finals
from xnode.store.records import StoredBlock
from xnode.store.store import Store

ACCEPT, CANCEL, NEXT = hash_number(1), hash_number(2), hash_number(3)
HERE = position_number(1)
ACCEPTING = EXAMPLES[BlockType.LEASE_ACCEPT]
CANCELLING = EXAMPLES[BlockType.LEASE_CANCEL]._replace(body=LeaseCancel(ACCEPTING.body.source))  # type: ignore[union-attr]
STEP = step_of(ACCEPTING)


def at(block: Block, position: Position) -> Block:
    return block._replace(account=position.account, previous=position.previous)


class Notes:
    """The notes of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def write(self, *votes: CastVote) -> None:
        with self.store.transaction() as transaction:
            write_finals(transaction, votes)
            transaction.commit()

    def confirm(self, block: Block, identity: Hash, *votes: CastVote) -> None:
        """Votes that were given by then, and a confirmation, in one batch, as the role has it."""
        with self.store.transaction() as transaction:
            write_finals(transaction, votes)
            settle_finals(transaction, StoredBlock(block, identity, 1, 1))
            transaction.commit()

    def at(self, position: Position) -> Hash | None:
        with self.store.snapshot() as view:
            return final_at(view, position)

    def restored(self) -> Any:
        elections = Elections(None)
        with self.store.snapshot() as view:
            restore_finals(view, elections)
        return elections

    def steps(self) -> dict[Any, Hash]:
        return dict(self.restored()._step_finals)

    def lost(self) -> Iterable[Hash]:
        return set(self.restored()._lost)


def final(position: Position, identity: Hash, block: Block | None = None) -> CastVote:
    return CastVote(position, identity, True, None if block is None else step_of(block))


THERE = position_number(2)


def test_both_blocks_want_one_step() -> None:
    assert step_of(CANCELLING) == STEP is not None


def test_a_vote_whose_step_another_block_has_got_binds_its_position_no_more(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        notes = Notes(store)
        notes.write(final(HERE, ACCEPT, ACCEPTING))
        notes.confirm(at(CANCELLING, THERE), CANCEL)
        assert (notes.at(HERE), notes.steps(), notes.lost()) == (None, {}, {ACCEPT})


def test_the_vote_that_follows_at_the_position_of_a_loser_stays(tmp_path: Path) -> None:
    """The cancellation wins; what the provider wrote instead gets our final vote before that is on disk."""
    with open_store(tmp_path) as store:
        notes = Notes(store)
        notes.write(final(HERE, ACCEPT, ACCEPTING))
        notes.confirm(at(CANCELLING, THERE), CANCEL, final(HERE, NEXT))
        assert (notes.at(HERE), notes.lost()) == (NEXT, {ACCEPT})


def test_the_vote_that_follows_for_the_step_of_a_loser_stays(tmp_path: Path) -> None:
    """Another block wins the position; the rival for the step gets our final vote before that is on disk."""
    with open_store(tmp_path) as store:
        notes = Notes(store)
        notes.write(final(HERE, ACCEPT, ACCEPTING))
        notes.confirm(at(EXAMPLES[BlockType.CLAIM], HERE), NEXT, final(THERE, CANCEL, CANCELLING))
        assert notes.steps() == {STEP: CANCEL}
        assert notes.at(THERE) == CANCEL


def test_all_that_lost_their_steps_at_one_position_are_remembered_until_it_is_decided(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        notes = Notes(store)
        losers = [hash_number(100 + number) for number in range(LOST_MAX + 1)]
        for number, loser in enumerate(losers):
            lease = hash_number(200 + number)
            accept = ACCEPTING._replace(body=ACCEPTING.body._replace(source=lease))  # type: ignore[union-attr]
            cancel = CANCELLING._replace(body=CANCELLING.body._replace(source=lease))  # type: ignore[union-attr]
            notes.write(final(HERE, loser, accept))
            notes.confirm(at(cancel, THERE), CANCEL)
        assert notes.lost() == set(losers[1:])
        notes.confirm(at(EXAMPLES[BlockType.CLAIM], HERE), NEXT)
        assert notes.lost() == set()
