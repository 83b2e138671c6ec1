"""Keysets: keys of which a threshold must sign (protocol sections 3, 4 and 9).

A multisig account, and the state chain, are held by a keyset. What the protocol leaves open is decided here so that one
keyset, and one set of signatures, has one encoding that nobody on the way can change:
- the keys stand in ascending order of their bytes, hence each once; all are valid points;
- the threshold is from 1 to the number of keys;
- each signature stands beside its key, in ascending order of the keys, hence one of each key;
- there are exactly as many as are asked for: a surplus one could be taken away by anybody.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from xnode.core.codec import Malformed, Plain, encode
from xnode.core.faults import CallerFault
from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.keys import is_valid_point, verify
from xnode.core.records import read_bytes32, read_int
from xnode.core.values import (
    SIGNATURE_BYTES,
    Address,
    PublicKey,
    Signature,
    public_key_from_hex,
    signature_from_hex,
)

KEYSET_KEYS_MAX: Final = 16  # as many signatures still fit into every type of block beside all it may carry


class Keyset(NamedTuple):
    """Keys of which `threshold` must sign."""

    keys: tuple[PublicKey, ...]
    threshold: int


class KeySignature(NamedTuple):
    """One key's signature."""

    public_key: PublicKey
    signature: Signature


def make_keyset(keys: Iterable[PublicKey], threshold: int, keys_max: int = KEYSET_KEYS_MAX) -> Keyset:
    """The keyset of these keys in whatever order; raises CallerFault(bad_keyset)."""
    keyset = Keyset(tuple(sorted(keys)), threshold)
    flaw = keyset_flaw(keyset, keys_max) or points_flaw(keyset)
    if flaw:
        raise CallerFault("bad_keyset", flaw)
    return keyset


def keyset_flaw(keyset: Keyset, keys_max: int = KEYSET_KEYS_MAX) -> str:
    """What is wrong with its form, or "": the cheap half of the checks."""
    if not 1 <= len(keyset.keys) <= keys_max:
        return f"a keyset has 1 to {keys_max} keys"
    if not _is_ascending(keyset.keys):
        return "a keyset's keys stand in ascending order, each once"
    if not 1 <= keyset.threshold <= len(keyset.keys):
        return f"a keyset of {len(keyset.keys)} keys has a threshold from 1 to {len(keyset.keys)}"
    return ""


def points_flaw(keyset: Keyset) -> str:
    """Which key can't sign, or "": the dear half."""
    unfit = next((key for key in keyset.keys if not is_valid_point(key)), None)
    return "" if unfit is None else f"the keyset's key {unfit.hex()} is no usable ed25519 public key"


def keyset_address(network_key: NetworkKey, keyset: Keyset) -> Address:
    """The address of the multisig account that this keyset opens (section 3).

    Its tag keeps it apart from every other hash, and nobody has a private key for a hash: no `signature` can spend.
    """
    return Address(tagged_hash(network_key, Tag.KEYSET, encode(keyset)))


def signatures_flaw(signatures: Sequence[KeySignature], keys_max: int = KEYSET_KEYS_MAX) -> str:
    """What is wrong with their form, or ""; none at all is a draft that nobody has signed yet."""
    if len(signatures) > keys_max:
        return f"there are {keys_max} signatures at most"
    if not _is_ascending([item.public_key for item in signatures]):
        return "signatures stand in ascending order of their keys, one of each"
    return ""


def all_verify(message: bytes, signatures: Iterable[KeySignature]) -> bool:
    """Whether each is its own key's signature of the message, whoever that key belongs to."""
    return all(verify(item.public_key, message, item.signature) for item in signatures)


def quorum_flaw(keyset: Keyset, signatures: Sequence[KeySignature], needed: int | None = None) -> str:
    """Why these signers are not exactly `needed` (the threshold) of the keyset, in order, or ""; verifies nothing."""
    wanted = keyset.threshold if needed is None else needed
    if len(signatures) != wanted:
        return f"exactly {wanted} of the keyset's {len(keyset.keys)} keys must sign, and {len(signatures)} did"
    if not _is_ascending([item.public_key for item in signatures]):
        return "signatures stand in ascending order of their keys, one of each"
    stranger = next((item.public_key for item in signatures if item.public_key not in keyset.keys), None)
    return "" if stranger is None else f"the key {stranger.hex()} is not in the keyset in force"


def verify_threshold(
    keyset: Keyset, message: bytes, signatures: Sequence[KeySignature], needed: int | None = None
) -> bool:
    """Whether exactly `needed` keys of the set (its threshold, if not said) have signed the message, in order."""
    return not quorum_flaw(keyset, signatures, needed) and all_verify(message, signatures)


def join_signatures(one: Iterable[KeySignature], other: Iterable[KeySignature]) -> tuple[KeySignature, ...]:
    """All of both in their order; of one key the first counts."""
    by_key = {item.public_key: item for item in (*other, *one)}
    return tuple(by_key[key] for key in sorted(by_key))


def read_keyset(value: Plain, name: str, keys_max: int = KEYSET_KEYS_MAX) -> Keyset:
    """A keyset of good form from its record, or Malformed; its points are not checked."""
    if not isinstance(value, tuple) or len(value) != len(Keyset._fields) or not isinstance(value[0], tuple):
        raise Malformed(f"{name} must be an array of keys and a threshold")
    keys = tuple(PublicKey(read_bytes32(key, f"a key of {name}")) for key in value[0])
    keyset = Keyset(keys, read_int(value[1], f"the threshold of {name}"))
    flaw = keyset_flaw(keyset, keys_max)
    if flaw:
        raise Malformed(flaw)
    return keyset


def read_signatures(value: Plain, name: str, keys_max: int = KEYSET_KEYS_MAX) -> tuple[KeySignature, ...]:
    """Signatures of good form, or Malformed; they are not verified."""
    if not isinstance(value, tuple):
        raise Malformed(f"{name} must be an array of signatures")
    signatures = tuple(_read_signature(item, name) for item in value)
    flaw = signatures_flaw(signatures, keys_max)
    if flaw:
        raise Malformed(flaw)
    return signatures


def _read_signature(value: Plain, name: str) -> KeySignature:
    match value:
        case (public_key, bytes(signature)) if len(signature) == SIGNATURE_BYTES:
            return KeySignature(PublicKey(read_bytes32(public_key, f"a key of {name}")), Signature(signature))
    raise Malformed(f"one of {name} is an array of a key and its signature of {SIGNATURE_BYTES} bytes")


def keyset_to_json(keyset: Keyset) -> dict[str, object]:
    """{keys, threshold}, the keys as lower-case hex."""
    return {"keys": [key.hex() for key in keyset.keys], "threshold": keyset.threshold}


def keyset_from_json(document: object, name: str = "keyset", keys_max: int = KEYSET_KEYS_MAX) -> Keyset:
    """The keyset of good form in its JSON form; raises CallerFault(bad_keyset, bad_hex). Its points are not checked."""
    shape = f"{name} must be an object of keys (an array) and threshold (an integer)"
    if not isinstance(document, dict) or set(document) != set(Keyset._fields):
        raise CallerFault("bad_keyset", shape)
    keys, threshold = document["keys"], document["threshold"]
    if not isinstance(keys, list) or type(threshold) is not int:
        raise CallerFault("bad_keyset", shape)
    keyset = Keyset(tuple(public_key_from_hex(key, f"a key of {name}") for key in keys), threshold)
    flaw = keyset_flaw(keyset, keys_max)
    if flaw:
        raise CallerFault("bad_keyset", flaw)
    return keyset


def signatures_to_json(signatures: Iterable[KeySignature]) -> list[dict[str, str]]:
    """[{public_key, signature}, ...] in lower-case hex."""
    return [{"public_key": item.public_key.hex(), "signature": item.signature.hex()} for item in signatures]


def signatures_from_json(
    document: object, name: str = "signatures", keys_max: int = KEYSET_KEYS_MAX
) -> tuple[KeySignature, ...]:
    """Signatures of good form in their JSON form; raises CallerFault(bad_signatures, bad_hex)."""
    if not isinstance(document, list):
        raise CallerFault("bad_signatures", f"{name} must be an array of objects of public_key and signature")
    signatures = tuple(_signature_from_json(item, name) for item in document)
    flaw = signatures_flaw(signatures, keys_max)
    if flaw:
        raise CallerFault("bad_signatures", flaw)
    return signatures


def _signature_from_json(item: object, name: str) -> KeySignature:
    if not isinstance(item, dict) or set(item) != set(KeySignature._fields):
        raise CallerFault("bad_signatures", f"each of {name} must be an object of public_key and signature")
    public_key = public_key_from_hex(item["public_key"], f"a key of {name}")
    return KeySignature(public_key, signature_from_hex(item["signature"], f"a signature of {name}"))


def _is_ascending(keys: Sequence[Any]) -> bool:
    return all(one < other for one, other in pairwise(keys))
