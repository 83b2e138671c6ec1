"""What is judged anew because the DAO has changed what holds: since when, on disk until all has been looked at."""

from typing import Final

from xnode.store.reads import PointReads
from xnode.store.store import Store
from xnode.store.transaction import Transaction

REVIEW_SPACE: Final = "review"  # note space: b"" -> ns, from which date on blocks are judged anew
TIME_BYTES: Final = 8


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
