"""What is judged anew because the DAO has changed what holds: since when, on disk until all has been looked at.

A block that was judged before this node heard of the change may be good no more, or do something else than what it did:
a lease starts at the median of other timekeepers' times. The same blocks must have the same effects on every node.
"""

from typing import Final, NamedTuple

from xnode.core.blocks import BlockType
from xnode.core.ledger import Context, Effects
from xnode.core.rules import judge_checked
from xnode.store.reads import PointReads
from xnode.store.records import StoredBlock
from xnode.store.store import Store
from xnode.store.transaction import Transaction

REVIEW_SPACE: Final = "review"  # note space: b"" -> ns, from which date on blocks are judged anew
TIME_BYTES: Final = 8
# What is judged by rates or timekeepers; nothing else can come out otherwise, but by what it rests on.
_BY_CHARTER: Final = frozenset(
    {BlockType.LEASE, BlockType.LEASE_ACCEPT, BlockType.LEASE_SETTLE, BlockType.LEASE_FORCE_SETTLE}
)


def stage_review(transaction: Transaction, since: int) -> None:
    """Asks for it in the batch of the change; the earliest date of several counts."""
    known = review_since(transaction)
    earliest = since if known is None else min(since, known)
    transaction.put_note(REVIEW_SPACE, b"", earliest.to_bytes(TIME_BYTES, "big"))


def review_since(view: PointReads) -> int | None:
    """From which date on (ns) unconfirmed blocks are still to be judged anew."""
    value = view.note(REVIEW_SPACE, b"")
    return None if value is None else int.from_bytes(value, "big")


def end_review(store: Store) -> None:
    """All have been looked at."""
    with store.transaction() as transaction:
        transaction.delete_note(REVIEW_SPACE, b"")
        transaction.commit()


class Anew(NamedTuple):
    """What judging anew has changed: these are taken back, newest first, and those landed again in their order."""

    undone: tuple[StoredBlock, ...]
    landed: tuple[Effects, ...]


def judge_anew(transaction: Transaction, stored: StoredBlock, context: Context) -> Anew | None:
    """Judges an unconfirmed block by what holds now, and stages what follows; None, and to be discarded, where it does
    what it did.

    One that is not good is taken back with all that rests on it. One that does something else lands again, and so does
    what rests on it as far as it is still good: its authors go on from there, so that none of them makes a fork.
    """
    block, identity = stored.block, stored.block_hash
    if block.type not in _BY_CHARTER:
        return None
    resting = transaction.rollback_descendants(identity)
    lease_hash = getattr(block.body, "source", identity)
    did = (transaction.account(block.account), transaction.lease(lease_hash))
    transaction.rollback(identity)
    verdict = judge_checked(transaction, block, context)
    if not isinstance(verdict, Effects):
        return Anew((*resting, stored), ())
    if (verdict.account, verdict.lease) == did:
        return None
    transaction.stage(verdict)
    undone, landed = list[StoredBlock](), [verdict]
    for item in reversed(resting):
        again = judge_checked(transaction, item.block, context)
        if isinstance(again, Effects):
            transaction.stage(again)
            landed.append(again)
        else:
            undone.insert(0, item)
    return Anew(tuple(undone), tuple(landed))
