"""Errors that carry blame: the caller's, the peer's, the operator's, the machine's, ours.

Each is mapped to an HTTP response, a peer's score or a log line in one place; its `code` is a stable
word in snake case, its message a sentence that says what to do.
"""


class Fault(Exception):
    """The base: never raised itself. `code` is stable, `str(fault)` is for people."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


class CallerFault(Fault):
    """The caller's input is wrong: HTTP 400."""


class NotFound(Fault):
    """The caller named a thing that this node does not know: HTTP 404."""


class NotAllowed(Fault):
    """The caller may not do this: HTTP 403 (401 where proof of identity is missing)."""


class Unproved(NotAllowed):
    """What the caller shows does not prove who it is: HTTP 401."""


class WrongState(Fault):
    """The thing exists but its state forbids the act: HTTP 409."""


class Ended(Fault):
    """The thing has ended for good: HTTP 410."""


class Unavailable(Fault):
    """This node can't do it now: HTTP 503."""


class PeerFault(Fault):
    """A peer answered wrongly or not at all: HTTP 502 where a caller waits for it."""


class OperatorFault(Fault):
    """The node's own set-up is wrong; its operator must act."""


class MachineFault(Fault):
    """A virtual machine, its image or its host failed.

    `evidence` is what a guest or a program wrote, for the log of the host's operator only: what a fault says is told
    to whoever asks for a lease's steps, while a console is its consumer's and that operator's.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False, evidence: str = "") -> None:
        super().__init__(code, message, retryable=retryable)
        self.evidence = evidence
