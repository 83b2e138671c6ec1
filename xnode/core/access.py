"""Signed proofs that a request is by a lease's consumer: who signed what, when, and whether it was used before.

Theory of operation. A proof is an ed25519 signature over a keyed hash whose tag and content say what it is for, with a
timestamp in it, by the lease's access key or its consumer's account. It is good for ACCESS_WINDOW around its
timestamp. What acts is used once: it is remembered until it has left the window. What only reads may be repeated within
it. All that is remembered was validly signed, and one lease can't use up the room of another.
"""

from collections.abc import Sequence
from typing import Final

from xnode.core.faults import Unavailable, Unproved
from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.keys import verify
from xnode.core.values import NS, Address, Hash, PublicKey, Signature

ACCESS_WINDOW: Final = 60 * NS  # how far a proof's timestamp may be from now, either way
ACCESS_PROOFS_MAX: Final = 10_000  # remembered as used; above it new ones wait until old ones left the window
ACTS_PER_LEASE_MAX: Final = 60  # of them for one lease's machine
ACTS_LEASES_MAX: Final = 1_000  # leases with acts in the window


class UsedProofs:
    """Proofs that were used and are still in their window, so that each is good for one use only."""

    def __init__(self, proofs_max: int = ACCESS_PROOFS_MAX) -> None:
        self._proofs_max = proofs_max
        self._timestamps: dict[bytes, int] = {}  # (message || key) -> its timestamp, ns

    def __len__(self) -> int:
        return len(self._timestamps)

    def add(self, proof: bytes, timestamp: int, now: int) -> None:
        """Spends `proof`; times in ns. Raises Unproved when it was spent before, Unavailable when full."""
        if proof in self._timestamps:
            raise Unproved("access_used", "this access signature was used already; sign a new timestamp")
        if len(self._timestamps) >= self._proofs_max:
            self.forget(now)
        if len(self._timestamps) >= self._proofs_max:
            raise Unavailable("access_busy", "too many signed requests in the last minute; try again", retryable=True)
        self._timestamps[proof] = timestamp

    def forget(self, now: int) -> None:
        """Drops what has left its window."""
        live = {proof: at for proof, at in self._timestamps.items() if at >= now - ACCESS_WINDOW}
        self._timestamps = live


class UsedActs:
    """The same by lease, each with room of its own."""

    def __init__(self, leases_max: int = ACTS_LEASES_MAX, acts_max: int = ACTS_PER_LEASE_MAX) -> None:
        self._leases_max = leases_max
        self._acts_max = acts_max
        self._used: dict[Hash, UsedProofs] = {}

    def __len__(self) -> int:
        return sum(len(used) for used in self._used.values())

    def of(self, lease_hash: Hash, now: int) -> UsedProofs:
        """Those of a lease; raises Unavailable when too many leases have some."""
        if lease_hash not in self._used and len(self._used) >= self._leases_max:
            self._forget(now)
        if lease_hash not in self._used and len(self._used) >= self._leases_max:
            raise Unavailable("access_busy", "too many signed requests in the last minute; try again", retryable=True)
        return self._used.setdefault(lease_hash, UsedProofs(self._acts_max))

    def _forget(self, now: int) -> None:
        for used in self._used.values():
            used.forget(now)
        self._used = {lease_hash: used for lease_hash, used in self._used.items() if len(used)}


def machine_message(network_key: NetworkKey, lease_hash: Hash, node: Address, timestamp: int, what: str) -> bytes:
    """The 32 bytes that a consumer signs to act on its machine or look at it: keyed hash of tag `machine` ||
    lease hash || account of the node that is asked || timestamp || what (stop, ..., console, metrics).

    The timestamp is in ns, 8 bytes big-endian. No node can pass such a proof on to another.
    """
    data = lease_hash + node + timestamp.to_bytes(8, "big") + what.encode()
    return tagged_hash(network_key, Tag.MACHINE, data)


def check_timestamp(timestamp: int, now: int, not_before: int = 0) -> None:
    """Times in ns; `not_before` is when whoever asks began to remember what was used. Raises Unproved."""
    if not 0 <= timestamp < 2**64 or abs(timestamp - now) > ACCESS_WINDOW:
        raise Unproved("access_timestamp", "the access timestamp is over 60 s off; sign a new one")
    if timestamp < not_before:
        raise Unproved("access_timestamp", "the access timestamp is older than this node's start; sign a new one")


def find_signer(keys: Sequence[PublicKey], message: bytes, signature: Signature) -> PublicKey:
    """Whose signature it is; raises Unproved."""
    signer = next((key for key in keys if verify(key, message, signature)), None)
    if signer is None:
        raise Unproved("bad_access_signature", "the access signature is not by a key of this lease")
    return signer
