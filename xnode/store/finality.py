"""Confirming: final heights that only rise, and below them nothing that could be taken back (protocol section 8)."""

from xnode.core.ledger import AccountRecord
from xnode.core.values import ZERO_HASH, Address, Hash
from xnode.store.invariants import require
from xnode.store.reads import PointReads
from xnode.store.records import Standing
from xnode.store.rollback import NOT_HERE, unconfirmed
from xnode.store.schema import place
from xnode.store.staging import Staging
from xnode.store.undo import Undo


def confirm(staging: Staging, address: Address, height: int) -> list[Hash]:
    """Raises the final height; returns the hashes that it passes, upwards. Raises InvariantBroken."""
    record = staging.account(address)
    require(record is not None and 0 <= height <= record.height, "the chain does not reach so far")
    assert record is not None
    found = [_ready(staging, address, item) for item in range(record.final_height + 1, height + 1)]
    if found:
        _raise(staging, record, height)
    return found


def _raise(staging: Staging, record: AccountRecord, height: int) -> None:
    for item in range(record.final_height + 1, height + 1):
        staging.put_undo(place(record.address, item), None)
    staging.swap_account(record.address, record, record._replace(final_height=height))


def _ready(view: PointReads, address: Address, height: int) -> Hash:
    """The block at this height, whose source is confirmed or lies below it in the same chain."""
    standing, undo = _unconfirmed_at(view, address, height)
    require(_open_source(view, address, undo) is None, "what a confirmed block rests on must be confirmed first")
    return standing.block_hash


def _unconfirmed_at(view: PointReads, address: Address, height: int) -> tuple[Standing, Undo]:
    standing, undo = view.standing_at(address, height), view.undo(address, height)
    require(standing is not None and undo is not None, "an unconfirmed block or its undo record is missing")
    assert standing is not None
    assert undo is not None
    return standing, undo


def _open_source(view: PointReads, address: Address, undo: Undo) -> tuple[Address, int] | None:
    """Where the source in another chain stands that has to be confirmed first; None where there is none."""
    found = view.place_of(undo.source) if undo.source != ZERO_HASH else None
    if found is None or found[0] == address:
        return None
    account = view.account(found[0])
    return None if account is not None and found[1] <= account.final_height else found


def unconfirmed_ancestors(view: PointReads, block_hash: Hash) -> list[Standing]:
    """The block and all that it rests on, as far as it is not confirmed, in order of arrival."""
    require(view.has_block(block_hash), NOT_HERE)
    found: dict[Hash, Standing] = {}
    queue = [block_hash]
    while queue:
        item = queue.pop()
        if item not in found and not view.is_confirmed(item):
            found[item], undo = unconfirmed(view, item)
            previous = ZERO_HASH if undo.account is None else undo.account.head
            queue += [other for other in (previous, undo.source) if other != ZERO_HASH]
    return sorted(found.values(), key=lambda standing: standing.sequence)


class Climb:
    """Confirms a block with all that it rests on, a few blocks at a time, each after what it rests on.

    Walks each chain upwards from its final height and turns to another chain where a source there is not confirmed yet.
    Between two steps anything may happen to the store: what is confirmed meanwhile is passed over, and where a block is
    gone the climb is over.
    """

    def __init__(self, block_hash: Hash) -> None:
        self._goal = block_hash
        self._stack: list[tuple[Address, int]] | None = None
        self.is_over = False

    def step(self, staging: Staging, blocks_max: int) -> list[Standing]:
        """Confirms so many at most; returns them, in order."""
        if self._stack is None:
            goal = staging.standing(self._goal)
            self._stack = [] if goal is None else [(goal.account, goal.height)]
        found: list[Standing] = []
        for _ in range(2 * blocks_max):
            if not self._stack or len(found) >= blocks_max:
                break
            found += self._one(staging, self._stack)
        self.is_over = not self._stack
        return found

    def _one(self, staging: Staging, stack: list[tuple[Address, int]]) -> list[Standing]:
        address, height = stack[-1]
        record = staging.account(address)
        if record is None or record.height < height:
            stack.clear()  # it was taken back
            return []
        if record.final_height >= height:
            stack.pop()
            return []
        standing, undo = _unconfirmed_at(staging, address, record.final_height + 1)
        source = _open_source(staging, address, undo)
        if source is not None:
            stack.append(source)
            return []
        _raise(staging, record, record.final_height + 1)
        return [standing]
