"""A timekeeper's attestation for a lease."""

from typing import Final

from xnode.api.calls import Api, Asked, Call
from xnode.api.leases import known_lease
from xnode.api.parse import Field
from xnode.api.schema import HEX32, HEX64, INTEGER, record
from xnode.core.faults import Unavailable


async def request_attestation(api: Api, asked: Asked) -> dict[str, object]:
    """By this node's own timekeeper, or the configured one."""
    lease = known_lease(api, asked.body["lease_hash"])
    attestation = await api.bridge.call(api.port.attest, lease.lease_hash)
    with api.port.snapshot() as view:
        is_listed = attestation.public_key in view.charter_at(attestation.timestamp).timekeepers.keys
    if not is_listed:  # then no block could carry it
        text = "the network does not list this node's timekeeper (sys.timekeepers): ask another node, or the DAO"
        raise Unavailable("no_timekeeper", text)
    return {
        "public_key": attestation.public_key.hex(),
        "timestamp": attestation.timestamp,
        "signature": attestation.signature.hex(),
    }


CALLS: Final = (
    Call(
        "POST",
        "/attestation/request",
        "Have a timekeeper attest the time for a lease",
        request_attestation,
        record(public_key=HEX32, timestamp=INTEGER, signature=HEX64),
        (400, 404, 503),
        body=(Field("lease_hash", "hash", "hash of the lease block to attest"),),
        price=10,
    ),
)
