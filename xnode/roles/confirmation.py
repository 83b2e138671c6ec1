"""The one place that says whether a block may be acted upon: it is confirmed by the votes (protocol section 8)."""

from xnode.core.values import Hash
from xnode.store.reads import PointReads


def is_confirmed(view: PointReads, block_hash: Hash) -> bool:
    """Whether machines may be booted and money counted for this block; False for an unknown one."""
    return view.has_block(block_hash) and view.is_confirmed(block_hash)
