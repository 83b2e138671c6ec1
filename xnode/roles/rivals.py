"""What stands in a block's way: another one at its position, or one of another chain that has taken its step.

Nothing orders two blocks of two chains (protocol section 8). The one that came first here stands, and unless it is
confirmed the other may still win: it is staged, as a fork is, and where it wins it takes the place of the first.
"""

from xnode.core.blocks import Block
from xnode.core.ledger import Outcome, Refusal
from xnode.core.steps import step_of, taker
from xnode.core.values import Hash
from xnode.store.reads import PointReads
from xnode.store.records import StoredBlock
from xnode.store.transaction import Transaction


def rival_of(view: PointReads, block: Block) -> Hash | None:
    """The applied block that has taken this one's step of a lease."""
    step = step_of(block)
    lease = view.lease(step.lease_hash) if step is not None else None
    return None if lease is None or step is None else taker(lease, step.leaves)


def refined(view: PointReads, block: Block, refusal: Refusal) -> Refusal:
    """The refusal, or `rival` where it comes from a block that may still lose."""
    if refusal.outcome is not Outcome.WRONG_STATE:
        return refusal
    rival = rival_of(view, block)
    if rival is None or view.is_confirmed(rival):
        return refusal
    detail = f"{rival.hex()} has taken this step of the lease and is not confirmed; the network votes on which stays"
    return Refusal(Outcome.RIVAL, detail)


def clear_way(transaction: Transaction, block: Block) -> list[StoredBlock] | None:
    """Takes back what stands in the way with all that rests on it; None, and nothing changed, where that is confirmed.

    An empty list: nothing does."""
    standing = transaction.standing_after(block.account, block.previous)
    found = [standing.block_hash if standing is not None else None, rival_of(transaction, block)]
    in_the_way = [item for item in dict.fromkeys(found) if item is not None]
    if any(transaction.is_confirmed(item) for item in in_the_way):
        return None
    undone: list[StoredBlock] = []
    for item in in_the_way:
        if transaction.has_block(item):
            undone += transaction.rollback_with_descendants(item)
    return undone
