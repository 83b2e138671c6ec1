"""The keys and values of the store. Every prefix stands in docs/data-dir.md; changing one raises SCHEMA_VERSION.

Keys that belong together are in order: a chain is account + height, arrival is a sequence number, both big-endian, so
that every list is one range scan. Values are canonical records (core.codec).
"""

import re
from typing import Any, Final

from xnode.core.blocks import decode_block, encode_block
from xnode.core.codec import Malformed, decode, encode
from xnode.core.lease import LeaseRecord, LeaseState, Resources
from xnode.core.ledger import AccountRecord, Bucket, Pending
from xnode.core.values import Address, Asset, Hash
from xnode.store.leveldb import corrupt
from xnode.store.records import ProviderRecord, StoredBlock, Tally

SCHEMA_VERSION: Final = 1

META: Final = b"m"
ACCOUNT: Final = b"a"
CHAIN: Final = b"c"
PLACE: Final = b"h"
ARRIVAL: Final = b"s"
PENDING: Final = b"p"
LEASE: Final = b"l"
LEASE_INDEX: Final = b"i"
PROVIDER: Final = b"r"
NOTE: Final = b"n"
PREFIXES: Final = (META, ACCOUNT, CHAIN, PLACE, ARRIVAL, PENDING, LEASE, LEASE_INDEX, PROVIDER, NOTE)

SCHEMA_KEY: Final = META + b"schema"
GENESIS_KEY: Final = META + b"genesis"
TALLY_KEY: Final = META + b"tally"

NUMBER_BYTES: Final = 8
AMOUNT_BYTES: Final = 16  # a total of many u64
NOTE_SPACE: Final = re.compile(r"[a-z0-9_.-]{1,32}")
NOTE_KEY_BYTES_MAX: Final = 256
NOTE_BYTES_MAX: Final = 256 * 1024

BY_TIME: Final = b"*"
BY_CONSUMER: Final = b"c"
BY_PROVIDER: Final = b"p"
ANY_STATE: Final = b"\x00"
STATES: Final = {state: bytes([number]) for number, state in enumerate(LeaseState, start=1)}
BUCKETS: Final = tuple((asset, bucket) for asset in Asset for bucket in Bucket)


def number(value: int) -> bytes:
    """Eight bytes big-endian: in key order as in number order."""
    return value.to_bytes(NUMBER_BYTES, "big")


def place(account: Address, height: int) -> bytes:
    """Where a block stands: account + height."""
    return account + number(height)


def note_prefix(space: str) -> bytes:
    """All notes of one space; raises ValueError for a name that is none."""
    if NOTE_SPACE.fullmatch(space) is None:
        raise ValueError(f"a note's space must match {NOTE_SPACE.pattern}, not {space!r}")
    return NOTE + space.encode() + b"\x00"


def note_key(space: str, key: bytes) -> bytes:
    """One note's key; raises ValueError when it is too long."""
    if len(key) > NOTE_KEY_BYTES_MAX:
        raise ValueError(f"a note's key has {NOTE_KEY_BYTES_MAX} bytes at most")
    return note_prefix(space) + key


def lease_facet(state: LeaseState | None, consumer: Address | None, provider: Address | None) -> bytes:
    """The index prefix that holds these leases in order; with both accounts given, that of the consumer."""
    who = BY_CONSUMER + consumer if consumer else BY_PROVIDER + provider if provider else BY_TIME
    return LEASE_INDEX + who + (STATES[state] if state else ANY_STATE)


def lease_position(lease: LeaseRecord) -> bytes:
    """A lease's place in each of its indexes: (created_at, hash)."""
    return number(lease.created_at) + lease.lease_hash


def lease_index_keys(lease: LeaseRecord, state: LeaseState | None) -> list[bytes]:
    """Its three index keys under `state`; None stands for any."""
    facets = ((None, None), (lease.consumer, None), (None, lease.provider))
    return [lease_facet(state, *who) + lease_position(lease) for who in facets]


def unpack(value: bytes) -> tuple[Any, ...]:
    """The fields of a stored value; raises OperatorFault(store_corrupt)."""
    try:
        return decode(value)
    except Malformed as error:
        raise corrupt(f"a value that is no record: {error}") from error


def pack_account(record: AccountRecord) -> bytes:
    """All but the address, which is the key."""
    return encode(record[1:])


def unpack_account(address: bytes, value: bytes) -> AccountRecord:
    """The account at `address`."""
    return AccountRecord(Address(address), *unpack(value))


def pack_block(stored: StoredBlock) -> bytes:
    """Hash, sequence and the block's wire form."""
    return encode((stored.block_hash, stored.sequence, encode_block(stored.block)))


def unpack_block(at: bytes, value: bytes) -> StoredBlock:
    """The block at the place `at`."""
    block_hash, sequence, wire = unpack(value)
    try:
        block = decode_block(wire)
    except Malformed as error:
        raise corrupt(f"block {block_hash.hex()}: {error}") from error
    return StoredBlock(block, Hash(block_hash), int.from_bytes(at[-NUMBER_BYTES:], "big"), sequence)


def pending_key(entry: Pending) -> bytes:
    """Destination, then source."""
    return PENDING + entry.destination + entry.source


def pack_pending(entry: Pending) -> bytes:
    """What is not in the key."""
    return encode((entry.sender, int(entry.asset), entry.amount))


def unpack_pending(key: bytes, value: bytes) -> Pending:
    """The entry; `key` is destination + source."""
    sender, asset, amount = unpack(value)
    return Pending(Hash(key[-32:]), sender, Address(key[-64:-32]), Asset(asset), amount)


def pack_lease(lease: LeaseRecord) -> bytes:
    """All but the hash, which is the key."""
    return encode(tuple(str(item) if isinstance(item, LeaseState) else item for item in lease[1:]))


def unpack_lease(lease_hash: bytes, value: bytes) -> LeaseRecord:
    """The lease that the block `lease_hash` opened."""
    lease = LeaseRecord(Hash(lease_hash), *unpack(value))
    return lease._replace(resources=Resources(*lease.resources), state=LeaseState(lease.state))


def pack_provider(record: ProviderRecord) -> bytes:
    """Both counts."""
    return encode(tuple(record))


def unpack_provider(value: bytes) -> ProviderRecord:
    """Both counts."""
    return ProviderRecord(*unpack(value))


def pack_tally(tally: Tally) -> bytes:
    """Totals stand in the order of BUCKETS, 16 bytes each."""
    totals = tuple(tally.totals[bucket].to_bytes(AMOUNT_BYTES, "big") for bucket in BUCKETS)
    return encode((tally.blocks, tally.accounts, tally.sequence, tally.digest, totals))


def unpack_tally(value: bytes) -> Tally:
    """The tally."""
    blocks, accounts, sequence, digest, totals = unpack(value)
    amounts = (int.from_bytes(amount, "big") for amount in totals)
    return Tally(blocks, accounts, sequence, digest, dict(zip(BUCKETS, amounts, strict=True)))
