"""From faults to the API's one error shape: {"error", "code", "retryable"?} and a status (http-api: Conventions)."""

from collections.abc import Mapping
from typing import Final

from starlette.responses import JSONResponse

from xnode.core.faults import (
    CallerFault,
    Ended,
    Fault,
    MachineFault,
    NotAllowed,
    NotFound,
    OperatorFault,
    PeerFault,
    Unavailable,
    Unproved,
    WrongState,
)

STATUSES: Final[dict[type[Fault], int]] = {
    CallerFault: 400,
    Unproved: 401,
    NotAllowed: 403,
    NotFound: 404,
    WrongState: 409,
    Ended: 410,
    PeerFault: 502,
    MachineFault: 502,
    Unavailable: 503,
    OperatorFault: 503,
}
INTERNAL: Final = Fault("internal", "the node failed at this; its operator finds the reason in its log")


class HttpFault(Fault):
    """A fault that only HTTP knows, with its own status and headers."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None, *, retryable: bool = False
    ) -> None:
        super().__init__(code, message, retryable=retryable)
        self.status = status
        self.headers = dict(headers or {})


def status_of(fault: Fault) -> int:
    """The HTTP status; 500 for a fault of ours."""
    if isinstance(fault, HttpFault):
        return fault.status
    return next((status for kind, status in STATUSES.items() if isinstance(fault, kind)), 500)


def error_response(fault: Fault) -> JSONResponse:
    """The answer to a request that met this fault."""
    body: dict[str, object] = {"error": str(fault), "code": fault.code}
    if fault.retryable:
        body["retryable"] = True
    headers = fault.headers if isinstance(fault, HttpFault) else None
    return JSONResponse(body, status_of(fault), headers)


def fault_in(error: Exception) -> Fault | None:
    """The fault that this error is, or that a group of one carries (trio's nurseries wrap what leaves them)."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, Fault) else None
