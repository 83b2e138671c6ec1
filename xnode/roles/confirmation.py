"""The one place that says whether a block may be acted upon.

In this version a block counts as confirmed once this node's own ledger holds it. Voting (protocol section 8) will
answer here.
"""

from xnode.core.ledger import LedgerView
from xnode.core.values import Hash


def is_confirmed(view: LedgerView, block_hash: Hash) -> bool:
    """Whether machines may be booted and money counted for this block."""
    return view.has_block(block_hash)
