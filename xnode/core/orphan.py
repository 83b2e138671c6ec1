"""A machine whose lease the ledger does not know: how long that has held, and the proof that it may go (section 12).

Theory of operation. A lease can be missing for a bad reason: the ledger is still being fetched, was restored from an
old copy, or its block was rolled back and comes again. So such a machine is stopped and kept for a grace. The grace is
the sum of what was really looked at: a look counts for the time since the last one, for LOOK_COUNTS_MAX at most, so
that neither a clock that leaps nor a node that was off shortens it; and it counts only where the ledger was in step
with the network. A lease that turns up ends the watch for good.

    ledger in step    lease      the watch
    yes               unknown    grows
    no                unknown    stays as it is
    any               known      ends
"""

from typing import Final, NamedTuple

from xnode.core.faults import WrongState
from xnode.core.lease import EndProof, LeaseRecord
from xnode.core.pool import SpareProof
from xnode.core.values import NS, Hash

LOOK_COUNTS_MAX: Final = 60 * NS  # ns by which one look may lengthen the watch
ORPHAN_GRACE_DEFAULT: Final = 72 * 3600  # s


class OrphanWatch(NamedTuple):
    """How long a lease has been unknown, in ns that were looked at; `looked_at` in ns since the epoch."""

    looked_at: int
    unknown_for: int


class OrphanProof(NamedTuple):
    """Evidence that a machine's lease does not exist. Only `prove_orphaned` may make one."""

    lease_hash: Hash
    unknown_for: int  # ns


Proof = EndProof | OrphanProof | SpareProof  # what destroys a machine


def look(watch: OrphanWatch | None, now: int, *, is_synced: bool) -> OrphanWatch:
    """The watch after a look at `now` (ns) that found no lease."""
    if watch is None:
        return OrphanWatch(now, 0)
    passed = min(max(0, now - watch.looked_at), LOOK_COUNTS_MAX) if is_synced else 0
    return OrphanWatch(now, watch.unknown_for + passed)


def is_over(watch: OrphanWatch, grace: int) -> bool:
    """Whether the grace (s) has passed."""
    return watch.unknown_for >= grace * NS


def prove_orphaned(
    lease_hash: Hash, lease: LeaseRecord | None, watch: OrphanWatch, grace: int, *, is_synced: bool
) -> OrphanProof:
    """The proof, by the ledger of now and the watch; raises WrongState(lease_known, not_synced or orphan_kept)."""
    if lease is not None:
        raise WrongState("lease_known", f"the ledger knows lease {lease_hash.hex()}, so its machine must stay")
    if not is_synced:
        raise WrongState("not_synced", "the ledger is not in step with the network, so machines without a lease stay")
    if not is_over(watch, grace):
        left = grace - watch.unknown_for // NS
        raise WrongState("orphan_kept", f"the machine of lease {lease_hash.hex()} is kept for another {left} s")
    return OrphanProof(lease_hash, watch.unknown_for)
