"""Signed records that nodes gossip outside the ledger: one array, the fields in order, then the signature (section 2).

Each kind is a NamedTuple whose field types decide how they are read; `record_kind` binds it to its tag and to the
field that names its signer. What is signed is the tagged hash of the fields, so no record is valid on another network.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar, get_type_hints

from xnode.core.codec import RECORD_BYTES_MAX, Malformed, Plain, decode, encode
from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.keys import SigningKey, verify
from xnode.core.lease import Resources
from xnode.core.values import HASH_BYTES, SIGNATURE_BYTES, U64_MAX, Address, Hash, PublicKey

TEXT_CHARACTERS_MAX: Final = 256
LIST_ITEMS_MAX: Final = 32
ELLIPSIS: Final = " ..."

RecordT = TypeVar("RecordT", bound=tuple[Any, ...])


def read_bytes32(value: Plain, name: str) -> bytes:
    """32 bytes or Malformed."""
    if not isinstance(value, bytes) or len(value) != HASH_BYTES:
        raise Malformed(f"{name} must be 32 bytes")
    return value


def read_int(value: Plain, name: str) -> int:
    """A u64 or Malformed."""
    if type(value) is not int or not 0 <= value <= U64_MAX:
        raise Malformed(f"{name} must be an integer of u64")
    return value


def read_text(value: Plain, name: str) -> str:
    """A short text or Malformed."""
    if not isinstance(value, str) or len(value) > TEXT_CHARACTERS_MAX or not value.isprintable():
        raise Malformed(f"{name} must be printable text of {TEXT_CHARACTERS_MAX} characters at most")
    return value


def shortened(text: str) -> str:
    """The text as a record can carry it: what is too long or not printable is left out."""
    printable = "".join(character for character in text if character.isprintable())
    if len(printable) <= TEXT_CHARACTERS_MAX:
        return printable
    return printable[: TEXT_CHARACTERS_MAX - len(ELLIPSIS)] + ELLIPSIS


def read_texts(value: Plain, name: str) -> tuple[str, ...]:
    """A short list of short texts or Malformed."""
    if not isinstance(value, tuple) or len(value) > LIST_ITEMS_MAX:
        raise Malformed(f"{name} must be an array of {LIST_ITEMS_MAX} at most")
    return tuple(read_text(item, name) for item in value)


def read_resources(value: Plain, name: str) -> Resources:
    """Three integers or Malformed."""
    if not isinstance(value, tuple) or len(value) != len(Resources._fields):
        raise Malformed(f"{name} must be three integers")
    return Resources(*(read_int(item, name) for item in value))


Reader = Callable[[Plain, str], Any]
READERS: Final[dict[Any, Reader]] = {
    Address: read_bytes32,
    Hash: read_bytes32,
    PublicKey: read_bytes32,
    Resources: read_resources,
    int: read_int,
    str: read_text,
    tuple[str, ...]: read_texts,
}


class RecordKind(NamedTuple, Generic[RecordT]):
    """How one kind of record is read, signed and checked; `signer` names the field with the signing account."""

    tag: Tag
    make: Callable[..., RecordT]
    readers: tuple[tuple[str, Reader], ...]
    signer: str

    def sign(self, network_key: NetworkKey, key: SigningKey, record: RecordT) -> bytes:
        """The record's wire form; raises Malformed for one that `read` would refuse: peers would blame us for it."""
        for (name, read), value in zip(self.readers, record, strict=True):
            read(value, name)
        fields = encode(tuple(record))
        return encode((*record, key.sign(tagged_hash(network_key, self.tag, fields))))

    def read(self, network_key: NetworkKey, data: bytes) -> tuple[RecordT, bool]:
        """The record and whether its signature is good; raises Malformed for anything that is not one."""
        values = decode(data, RECORD_BYTES_MAX)
        if len(values) != len(self.readers) + 1:
            raise Malformed(f"a {self.tag} record has {len(self.readers) + 1} elements")
        signature = values[-1]
        if not isinstance(signature, bytes) or len(signature) != SIGNATURE_BYTES:
            raise Malformed("signature must be 64 bytes")
        record = self.make(*(read(value, name) for (name, read), value in zip(self.readers, values, strict=False)))
        message: Hash = tagged_hash(network_key, self.tag, encode(values[:-1]))
        return record, verify(getattr(record, self.signer), message, signature)


def record_kind(tag: Tag, make: type[RecordT], signer: str) -> RecordKind[RecordT]:
    """The kind of the NamedTuple `make`, its readers taken from its field types."""
    return RecordKind(tag, make, tuple((name, READERS[hint]) for name, hint in get_type_hints(make).items()), signer)
