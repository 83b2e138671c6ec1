"""Signed time: attestations, their quorum and the lower median (protocol section 7)."""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from xnode.core.keys import verify
from xnode.core.values import NS, Hash, PublicKey, Signature

ATTESTATIONS_MAX: Final = 20


class Attestation(NamedTuple):
    """A timekeeper's word that `timestamp` (ns) had come when it signed for a lease."""

    public_key: PublicKey
    timestamp: int
    signature: Signature


class Timekeepers(NamedTuple):
    """`sys.timekeepers`: who is listed and how many must agree."""

    keys: tuple[PublicKey, ...]
    threshold: int


def attestation_message(lease_hash: Hash, timestamp: int) -> bytes:
    """The 40 bytes that a timekeeper signs."""
    return lease_hash + timestamp.to_bytes(8, "big")


def is_valid(attestation: Attestation, lease_hash: Hash, listed: Collection[PublicKey]) -> bool:
    """Whether the signer is listed and the signature good."""
    message = attestation_message(lease_hash, attestation.timestamp)
    return attestation.public_key in listed and verify(attestation.public_key, message, attestation.signature)


def lower_median(timestamps: Sequence[int]) -> int:
    """The lower of the two middle ones where there is an even number; the caller gives at least one."""
    return sorted(timestamps)[(len(timestamps) - 1) // 2]


def valid_ones(
    attestations: Sequence[Attestation], lease_hash: Hash, listed: Collection[PublicKey]
) -> tuple[Attestation, ...]:
    """Those that count: listed, well signed, and the first of each key."""
    by_key: dict[PublicKey, Attestation] = {}
    for item in attestations:
        if item.public_key not in by_key and is_valid(item, lease_hash, listed):
            by_key[item.public_key] = item
    return tuple(by_key.values())


def canonical_time(
    attestations: Sequence[Attestation], lease_hash: Hash, timekeepers: Timekeepers, now: int | None, skew: int
) -> int | None:
    """The attested time in ns: the lower median of the valid ones; None where too few are valid or too many are given.

    For a live block `now` (ns) is given, and one valid attestation more than `skew` seconds off refuses the whole set:
    were it only left out, the median, and so the lease's start, would depend on each node's clock.
    """
    if len(attestations) > ATTESTATIONS_MAX:
        return None
    valid = valid_ones(attestations, lease_hash, timekeepers.keys)
    if len(valid) < max(1, timekeepers.threshold):
        return None
    if now is not None and any(abs(item.timestamp - now) > skew * NS for item in valid):
        return None
    return lower_median([item.timestamp for item in valid])
