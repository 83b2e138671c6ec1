"""What a block rests on: the blocks that must be confirmed before it may be voted for (protocol section 8)."""

from xnode.core.blocks import Block
from xnode.core.lease import LeaseState
from xnode.core.steps import step_of
from xnode.core.values import ZERO_HASH, Hash
from xnode.store.snapshot import Snapshot


def foundations(view: Snapshot, block: Block) -> tuple[Hash, ...]:
    """Their hashes; zeros for one that is not here."""
    source = getattr(block.body, "source", ZERO_HASH)
    needs = [item for item in (block.previous, source) if item != ZERO_HASH]
    step = step_of(block)
    if step is not None and step.leaves is LeaseState.ACCEPTED:  # else the acceptance could still lose
        lease = view.lease(step.lease_hash)
        needs.append(ZERO_HASH if lease is None else lease.accept_hash)
    return tuple(needs)
