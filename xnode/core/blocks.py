"""The block types, their canonical bytes and their JSON form (protocol sections 2 and 4).

On the wire a block is one array: the common fields, the type's own fields, then signature and work. The hash covers all
but those two. In the signature's place a multisig account's block has an array of signatures, each beside its key in
ascending order of the keys (see `core.keyset`); empty, it is a draft that nobody has signed yet. A representative of
None leaves the account's delegation as it is.
"""

from collections.abc import Callable, Iterator
from enum import IntEnum
from operator import itemgetter
from typing import Any, Final, NamedTuple

from xnode.core.attestations import ATTESTATIONS_MAX, Attestation
from xnode.core.codec import Malformed, Plain, decode, decode_own, encode
from xnode.core.faults import CallerFault
from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.keyset import (
    Keyset,
    KeySignature,
    keyset_from_json,
    read_keyset,
    read_signatures,
    signatures_from_json,
    signatures_to_json,
)
from xnode.core.lease import Resources
from xnode.core.values import (
    U64_MAX,
    ZERO_HASH,
    Address,
    Asset,
    Hash,
    PublicKey,
    Signature,
    hash_from_hex,
    signature_from_hex,
)

BLOCK_BYTES_MAX: Final = 4096


class BlockType(IntEnum):
    """The number is what stands in canonical bytes."""

    SEND = 0
    RECEIVE = 1
    CLAIM = 2
    LEASE = 3
    LEASE_ACCEPT = 4
    LEASE_SETTLE = 5
    LEASE_CANCEL = 6
    LEASE_FORCE_SETTLE = 7
    MULTISIG_OPEN = 8
    MULTISIG_UPDATE = 9


class Send(NamedTuple):
    """Moves `amount` of the block's asset into a pending entry of `destination`."""

    destination: Address
    amount: int


class Receive(NamedTuple):
    """Takes the pending entry that the send block `source` made."""

    source: Hash


class Claim(NamedTuple):
    """Asks the faucet."""


class Lease(NamedTuple):
    """Puts `amount` into escrow for a machine at the provider `destination`; `duration` in seconds."""

    destination: Address
    amount: int
    vcpus: int
    memory_mb: int
    disk_gb: int
    duration: int
    access_pub_key: PublicKey
    certificate_hash: Hash
    multiplier_milli: int

    @property
    def resources(self) -> Resources:
        """What is leased."""
        return Resources(self.vcpus, self.memory_mb, self.disk_gb)


class LeaseAccept(NamedTuple):
    """The provider's word that the machine runs: locks `amount` as its stake and pins the machine's SSH host key."""

    source: Hash
    amount: int
    certificate_hash: Hash
    host_key: PublicKey
    attestations: tuple[Attestation, ...]


class LeaseSettle(NamedTuple):
    """The provider's end of a lease: `amount` XE are minted."""

    source: Hash
    amount: int
    attestations: tuple[Attestation, ...]


class LeaseCancel(NamedTuple):
    """The consumer's end of a lease that nobody has accepted."""

    source: Hash


class LeaseForceSettle(NamedTuple):
    """The consumer's end of a lease whose provider never settled."""

    source: Hash
    attestations: tuple[Attestation, ...]


class MultisigOpen(NamedTuple):
    """The first block of a multisig account: the keyset whose hash is the account."""

    keyset: Keyset


class MultisigUpdate(NamedTuple):
    """From the next block on `keyset` is in force; the account stays the same."""

    keyset: Keyset


Body = (
    Send
    | Receive
    | Claim
    | Lease
    | LeaseAccept
    | LeaseSettle
    | LeaseCancel
    | LeaseForceSettle
    | MultisigOpen
    | MultisigUpdate
)

BODIES: Final[dict[BlockType, type[Body]]] = {
    BlockType.SEND: Send,
    BlockType.RECEIVE: Receive,
    BlockType.CLAIM: Claim,
    BlockType.LEASE: Lease,
    BlockType.LEASE_ACCEPT: LeaseAccept,
    BlockType.LEASE_SETTLE: LeaseSettle,
    BlockType.LEASE_CANCEL: LeaseCancel,
    BlockType.LEASE_FORCE_SETTLE: LeaseForceSettle,
    BlockType.MULTISIG_OPEN: MultisigOpen,
    BlockType.MULTISIG_UPDATE: MultisigUpdate,
}
KEYSET_TYPES: Final = frozenset({BlockType.MULTISIG_OPEN, BlockType.MULTISIG_UPDATE})
COMMON: Final = ("type", "account", "previous", "asset", "balance", "representative", "timestamp")
BYTES32: Final = frozenset(
    {"account", "previous", "destination", "source", "access_pub_key", "certificate_hash", "host_key", "public_key"}
)


KINDS: Final = {int(kind): kind for kind in BlockType}
ASSETS: Final = {int(asset): asset for asset in Asset}
NAMES: Final = {kind: (*COMMON, *body._fields, "signature", "work") for kind, body in BODIES.items()}
ASSET_AT: Final = COMMON.index("asset")
ATTESTED: Final = frozenset(kind for kind, names in NAMES.items() if "attestations" in names)


def _form(name: str) -> tuple[type, int]:
    """A field's plain type, and its length where that is fixed."""
    if name in ("attestations", "keyset"):
        return tuple, 0
    if name == "signature":
        return bytes, 64
    return (bytes, 32) if name in BYTES32 or name == "representative" else (int, 0)


FORMS: Final = {kind: tuple(_form(name) for name in names) for kind, names in NAMES.items()}


class Shape(NamedTuple):
    """The fields of a block of one key that are bytes, how many bytes they have, and the fields that are integers."""

    bytes_of: Callable[[tuple[Any, ...]], tuple[bytes, ...]]
    sizes: tuple[int, ...]
    ints_of: Callable[[tuple[Any, ...]], tuple[int, ...]]


def _shapes(kind: BlockType) -> Iterator[tuple[tuple[type, ...], Shape]]:
    """The types of its fields, with and without a representative: nearly all blocks are known to be good by these."""
    for representative in (bytes, type(None)):
        types = tuple(representative if name == "representative" else _form(name)[0] for name in NAMES[kind])
        places = [place for place, wanted in enumerate(types) if wanted is bytes]
        numbers = [place for place, wanted in enumerate(types) if wanted is int]
        sizes = tuple(FORMS[kind][place][1] for place in places)
        yield types, Shape(itemgetter(*places), sizes, itemgetter(*numbers))


SHAPES: Final = {kind: dict(_shapes(kind)) for kind in BlockType}
FLAT: Final = {int(kind): SHAPES[kind] for kind in BlockType if kind not in ATTESTED | KEYSET_TYPES}


class Block(NamedTuple):
    """One signed step of one account's chain; `balance` is of `asset` after it, `timestamp` in ns.

    `signatures` stand in place of `signature` in a multisig account's block and are None in every other.
    """

    type: BlockType
    account: Address
    previous: Hash
    asset: Asset
    balance: int
    representative: Address | None
    timestamp: int
    body: Body
    signature: Signature = Signature(bytes(64))
    work: int = 0
    signatures: tuple[KeySignature, ...] | None = None

    @property
    def work_root(self) -> bytes:
        """What its work is searched for: the block before it, or the account for a first one (section 6)."""
        return work_root(self.account, self.previous)


def work_root(account: bytes, previous: bytes) -> bytes:
    """The same for a block of these."""
    return account if previous == ZERO_HASH else previous


def _hashed_fields(block: Block) -> tuple[Any, ...]:
    common = (int(block.type), block.account, block.previous, int(block.asset), block.balance)
    return (*common, block.representative, block.timestamp, *block.body)


def block_hash(network_key: NetworkKey, block: Block) -> Hash:
    """The block's identity: everything but signature and work."""
    return tagged_hash(network_key, Tag.BLOCK, encode(_hashed_fields(block)))


def encode_block(block: Block) -> bytes:
    """The wire form."""
    signed = block.signature if block.signatures is None else block.signatures
    return encode((*_hashed_fields(block), signed, block.work))


def read_flat(data: bytes) -> tuple[Any, ...] | None:
    """The fields of the block of one key in `data`, where no field is an array itself; all are as they must be.

    None where it is no such block, which says nothing of whether it is one at all: `decode_block` does.
    """
    try:
        values = decode_own(data) if len(data) <= BLOCK_BYTES_MAX else ()
    except Malformed:
        return None
    types = tuple(map(type, values))
    shape = FLAT[values[0]].get(types) if types[:1] == (int,) and values[0] in FLAT else None
    if shape is None or tuple(map(len, shape.bytes_of(values))) != shape.sizes or min(shape.ints_of(values)) < 0:
        return None
    return values if values[ASSET_AT] in ASSETS and encode(values) == data else None


def flat_hash(network_key: NetworkKey, values: tuple[Any, ...]) -> Hash:
    """The `block_hash` of the block of these fields, as `read_flat` gives them."""
    return tagged_hash(network_key, Tag.BLOCK, encode(values[:-2]))


def decode_block(data: bytes) -> Block:
    """The block in `data`; raises Malformed unless `encode_block` would write exactly these bytes."""
    flat = read_flat(data)
    return _decoded(data) if flat is None else _built(KINDS[flat[0]], flat)


def _decoded(data: bytes) -> Block:
    """Any block, by all checks, one after the other."""
    values = decode(data, BLOCK_BYTES_MAX)
    kind = _kind(values)
    if len(values) != len(NAMES[kind]):
        raise Malformed(f"a {kind.name.lower()} block has {len(NAMES[kind])} elements")
    shape = SHAPES[kind].get(tuple(map(type, values)))
    if shape is None or tuple(map(len, shape.bytes_of(values))) != shape.sizes:
        _check_each(kind, values)
    return _built(kind, values)


def _check_each(kind: BlockType, values: tuple[Plain, ...]) -> None:
    """Raises Malformed for the first field that is not as it should be; there may be none."""
    for value, (wanted, size), name in zip(values, FORMS[kind], NAMES[kind], strict=True):
        if type(value) is not wanted or (isinstance(value, bytes) and len(value) != size):
            _check_odd(name, value)


def open_block(data: bytes) -> Block:
    """The block in bytes that `decode_block` has accepted before, several times cheaper."""
    values = decode_own(data)
    return _built(KINDS[values[0]], values)


def _built(kind: BlockType, values: tuple[Any, ...]) -> Block:
    """The block of fields whose forms are right."""
    _, account, previous, asset_number, balance, representative, timestamp, *own, signed, work = values
    asset = ASSETS.get(asset_number)
    if asset is None:
        raise Malformed("unknown asset")
    if kind in ATTESTED:
        own[-1] = _attestations(own[-1])
    elif kind in KEYSET_TYPES:
        own[0] = read_keyset(own[0], "keyset")
    body = BODIES[kind](*own)
    is_of_one_key = type(signed) is bytes and kind not in KEYSET_TYPES
    if is_of_one_key:
        return Block(kind, account, previous, asset, balance, representative, timestamp, body, signed, work)
    common = (kind, account, previous, asset, balance, representative, timestamp, body)
    return Block(*common, work=work, signatures=read_signatures(signed, "signatures"))


def _kind(values: tuple[Plain, ...]) -> BlockType:
    if len(values) < len(COMMON) + 2:
        raise Malformed("a block has too few elements")
    number = values[0]
    if type(number) is not int or number not in KINDS:
        raise Malformed(f"unknown block type {number!r}")
    return KINDS[number]


def _check_odd(name: str, value: Plain) -> None:
    """A field that is not of the plain form; raises Malformed unless it may be so."""
    if name == "signature":
        if not isinstance(value, tuple):
            _checked_signature(value)
    else:
        _checked(name, value)


def _checked(name: str, value: Plain) -> Any:
    if name == "representative" and value is None:
        return None
    if name == "attestations":
        return _attestations(value)
    if name == "keyset":
        return read_keyset(value, name)
    if name in BYTES32 or name == "representative":
        if not isinstance(value, bytes) or len(value) != 32:
            raise Malformed(f"{name} must be 32 bytes")
    elif type(value) is not int:
        raise Malformed(f"{name} must be an integer")
    return value


def _checked_signature(value: Plain) -> Signature:
    if not isinstance(value, bytes) or len(value) != 64:
        raise Malformed("signature must be 64 bytes")
    return Signature(value)


def _attestations(value: Plain) -> tuple[Attestation, ...]:
    if not isinstance(value, tuple) or len(value) > ATTESTATIONS_MAX:
        raise Malformed(f"attestations must be an array of {ATTESTATIONS_MAX} at most")
    return tuple(_attestation(item) for item in value)


def _attestation(item: Plain) -> Attestation:
    if not isinstance(item, tuple) or len(item) != 3:
        raise Malformed("an attestation has three elements")
    return Attestation(_checked("public_key", item[0]), _checked("timestamp", item[1]), _checked_signature(item[2]))


def block_to_json(block: Block) -> dict[str, object]:
    """The JSON form: hashes, keys and signatures as lower-case hex, the type and asset by name."""
    fields: dict[str, object] = {name: _to_json(getattr(block, name)) for name in COMMON}
    fields["type"], fields["asset"] = block.type.name.lower(), block.asset.name
    fields |= {name: _to_json(value) for name, value in zip(block.body._fields, block.body, strict=True)}
    if block.signatures is None:
        return fields | {"signature": block.signature.hex(), "work": block.work}
    return fields | {"signatures": signatures_to_json(block.signatures), "work": block.work}


def _to_json(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        items = value._asdict().items() if hasattr(value, "_asdict") else None
        return {key: _to_json(item) for key, item in items} if items else [_to_json(item) for item in value]
    return value


def block_from_json(document: object) -> Block:
    """The block in its JSON form; raises CallerFault(bad_block) that names the field to mend."""
    if not isinstance(document, dict):
        raise CallerFault("bad_block", "a block must be a JSON object")
    kind = BlockType.__members__.get(str(document.get("type")).upper())
    if kind is None or document.get("type") != kind.name.lower():
        raise CallerFault("bad_block", "type must be one of " + ", ".join(item.name.lower() for item in BlockType))
    is_multisig = "signatures" in document or kind in KEYSET_TYPES
    names = (*COMMON, *BODIES[kind]._fields, "signatures" if is_multisig else "signature", "work")
    if set(document) != set(names):
        odd = sorted(set(document) ^ set(names))[0]
        raise CallerFault(
            "bad_block", f"{odd} is {'unknown' if odd in document else 'missing'} in a {kind.name.lower()} block"
        )
    try:
        own = [_from_json(name, document[name]) for name in names[1:]]
        return decode_block(encode((int(kind), *own)))
    except CallerFault as error:  # Malformed, or a bad_hex
        raise CallerFault("bad_block", str(error)) from error


def _from_json(name: str, value: object) -> Any:
    if name == "asset":
        return int(Asset[value]) if isinstance(value, str) and value in Asset.__members__ else None
    if name == "attestations" and isinstance(value, list):
        return tuple(_attestation_from_json(item) for item in value)
    if name == "keyset":
        return keyset_from_json(value, name)
    if name == "signatures":
        return signatures_from_json(value, name)
    if name == "signature":
        return signature_from_hex(value, name)
    if name in BYTES32 or (name == "representative" and value is not None):
        return hash_from_hex(value, name)
    return value if type(value) is int and 0 <= value <= U64_MAX else None


def _attestation_from_json(item: object) -> Any:
    if not isinstance(item, dict) or set(item) != set(Attestation._fields):
        return None
    return tuple(_from_json(name, item[name]) for name in Attestation._fields)
