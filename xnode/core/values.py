"""Hash, Address, PublicKey, Signature, amounts and times: parsed once at the edge, then trusted (protocol section 2).

All four byte values are plain `bytes` with a distinct static type; lengths are checked where they are parsed.
Amounts are whole units of u64; times are Unix nanoseconds, u64; durations are seconds.
"""

from enum import IntEnum
from typing import Final, NewType

from xnode.core.faults import CallerFault

Hash = NewType("Hash", bytes)  # 32 bytes: a block, lease, offer, state or certificate hash
Address = NewType("Address", bytes)  # 32 bytes: an ed25519 public key, or the hash of a keyset
PublicKey = NewType("PublicKey", bytes)  # 32 bytes, ed25519
Signature = NewType("Signature", bytes)  # 64 bytes, ed25519

HASH_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
U64_MAX: Final = 2**64 - 1
NS: Final = 1_000_000_000  # nanoseconds in a second
ZERO_HASH: Final = Hash(bytes(32))


class Asset(IntEnum):
    """The two assets (section 3); the number is what stands in canonical bytes."""

    XUSD = 0
    XE = 1


def _from_hex(text: object, count: int, what: str) -> bytes:
    if not isinstance(text, str) or len(text) != 2 * count:
        raise CallerFault("bad_hex", f"{what} must be {2 * count} lower-case hex characters")
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if value.hex() != text:
        raise CallerFault("bad_hex", f"{what} must be {2 * count} lower-case hex characters")
    return value


def hash_from_hex(text: object, what: str = "a hash") -> Hash:
    """Parses 64 lower-case hex characters; raises CallerFault(bad_hex)."""
    return Hash(_from_hex(text, HASH_BYTES, what))


def address_from_hex(text: object, what: str = "an account address") -> Address:
    """Parses 64 lower-case hex characters; raises CallerFault(bad_hex)."""
    return Address(_from_hex(text, HASH_BYTES, what))


def public_key_from_hex(text: object, what: str = "an ed25519 public key") -> PublicKey:
    """Parses 64 lower-case hex characters; does not check the curve (see keys.is_valid_point)."""
    return PublicKey(_from_hex(text, HASH_BYTES, what))


def signature_from_hex(text: object, what: str = "a signature") -> Signature:
    """Parses 128 lower-case hex characters; raises CallerFault(bad_hex)."""
    return Signature(_from_hex(text, SIGNATURE_BYTES, what))
