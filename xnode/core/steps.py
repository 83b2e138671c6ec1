"""Steps of a lease: what two blocks of two chains may both want, and only one can have (protocol sections 4 and 8).

A block takes a position of its own chain. One that moves a lease takes a step too: the lease and the state that it
leaves. An acceptance (provider) and a cancellation (consumer) want the same step, and so do a settlement and a forced
one, on two chains that nothing orders. So a vote for a block is a vote for its position and for its step.
"""

from typing import Final, NamedTuple

from xnode.core.blocks import Block, BlockType
from xnode.core.lease import TRANSITIONS, LeaseRecord, LeaseState
from xnode.core.values import ZERO_HASH, Hash

LEAVES: Final = {BlockType[event.value.upper()]: state for state, event in TRANSITIONS}


class Step(NamedTuple):
    """One move of a lease, whichever block makes it."""

    lease_hash: Hash
    leaves: LeaseState


def step_of(block: Block) -> Step | None:
    """The step that this block wants; None for a block that moves no lease."""
    leaves = LEAVES.get(block.type)
    return None if leaves is None else Step(Hash(getattr(block.body, "source", ZERO_HASH)), leaves)


def taker(lease: LeaseRecord, leaves: LeaseState) -> Hash | None:
    """The block that has moved this lease out of the state `leaves`; None where it never was there, or still is."""
    was_accepted = lease.accept_hash != ZERO_HASH
    if leaves is LeaseState.ACCEPTED and not was_accepted:
        return None
    taken_by = lease.accept_hash if leaves is LeaseState.CREATED and was_accepted else lease.end_hash
    return taken_by if taken_by != ZERO_HASH else None
