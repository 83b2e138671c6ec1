"""A request's own proof, by which a lease's keys stand in for the operator's token (http-api).

Which bytes are signed depends on the call: xnode/core/tunnel.py for the tunnel, xnode/core/access.py for machines.
"""

from typing import Final

from starlette.datastructures import Headers

from xnode.api.parse import optional
from xnode.api.port import AccessProof
from xnode.core.faults import CallerFault, Unproved
from xnode.core.values import U64_MAX, signature_from_hex

SIGNATURE: Final = optional(
    "X-Access-Signature",
    "text",
    "instead of the token: ed25519 by the lease's access key or its consumer, 128 hex characters",
)
TIMESTAMP: Final = optional("X-Access-Timestamp", "text", "Unix nanoseconds that the signature covers")
PROOF: Final = (SIGNATURE, TIMESTAMP)


def is_signed(headers: Headers) -> bool:
    """Whether a proof is shown, good or not."""
    return any(field.name in headers for field in PROOF)


def proof_of(headers: Headers) -> AccessProof | None:
    """The proof; None where none is shown. Raises Unproved for one that can't be any."""
    if not is_signed(headers):
        return None
    signature, timestamp = (headers.get(field.name, "") for field in PROOF)
    try:
        return AccessProof(signature_from_hex(signature.lower()), _timestamp(timestamp))
    except CallerFault as fault:
        raise Unproved(fault.code, str(fault)) from None


def _timestamp(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and len(text) <= 20 and int(text) <= U64_MAX):
        raise CallerFault("access_timestamp", "X-Access-Timestamp must be Unix nanoseconds")
    return int(text)
