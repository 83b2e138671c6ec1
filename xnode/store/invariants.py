"""The store's own checks: what the rules have promised is asked once more before anything is written."""


class InvariantBroken(RuntimeError):
    """A change that would make the ledger wrong: a fault of this program, so nothing is written."""


def require(holds: bool, message: str) -> None:
    """Raises InvariantBroken unless it holds."""
    if not holds:
        raise InvariantBroken(message)
