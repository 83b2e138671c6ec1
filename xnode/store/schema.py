"""The keys and values of the store. Every prefix stands in docs/data-dir.md; changing one raises SCHEMA_VERSION.

Keys that belong together are in order: a chain is account + height, arrival is a sequence number, both big-endian, so
that every list is one range scan. Values are canonical records (core.codec), but for those that are bytes of a fixed
layout: indexes, amounts, and the blocks themselves, which stand in order of arrival: so they are read by the thousand.
"""

import re
from typing import Any, Final

from xnode.core.blocks import decode_block
from xnode.core.codec import Malformed, Plain, decode, decode_own, encode
from xnode.core.keyset import Keyset
from xnode.core.lease import LeaseRecord, LeaseState, Resources
from xnode.core.ledger import AccountRecord, Bucket, Pending
from xnode.core.values import HASH_BYTES, Address, Asset, Hash
from xnode.store.leveldb import corrupt
from xnode.store.records import ProviderRecord, Representative, Standing, StoredBlock, Tally

SCHEMA_VERSION: Final = 6

META: Final = b"m"
ACCOUNT: Final = b"a"
CHAIN: Final = b"c"
PLACE: Final = b"h"
ARRIVAL: Final = b"s"
PENDING: Final = b"p"
LEASE: Final = b"l"
LEASE_INDEX: Final = b"i"
PROVIDER: Final = b"r"
UNDO: Final = b"u"
WEIGHT: Final = b"w"
HEAVIEST: Final = b"v"
NOTE: Final = b"n"
STATE_BLOCK: Final = b"g"
STATE_VALUE: Final = b"k"
ERA: Final = b"e"
FRONTIER_SUM: Final = b"f"
STATE: Final = (STATE_BLOCK, STATE_VALUE, ERA)
DERIVED: Final = (ACCOUNT, PENDING, LEASE, LEASE_INDEX, PROVIDER, UNDO, WEIGHT, HEAVIEST, FRONTIER_SUM)
PREFIXES: Final = (META, CHAIN, PLACE, ARRIVAL, *DERIVED, NOTE, *STATE)

SCHEMA_KEY: Final = META + b"schema"
GENESIS_KEY: Final = META + b"genesis"
TALLY_KEY: Final = META + b"tally"
STATE_TIP_KEY: Final = META + b"state"

NUMBER_BYTES: Final = 8
PLACE_BYTES: Final = HASH_BYTES + NUMBER_BYTES
STANDING_BYTES: Final = NUMBER_BYTES + HASH_BYTES
ARRIVAL_HEAD_BYTES: Final = PLACE_BYTES + HASH_BYTES  # before a block's wire form
AMOUNT_BYTES: Final = 16  # a total of many u64
AMOUNT_MAX: Final = 2 ** (8 * AMOUNT_BYTES) - 1
NOTE_SPACE: Final = re.compile(r"[a-z0-9_.-]{1,32}")
NOTE_KEY_BYTES_MAX: Final = 256
NOTE_BYTES_MAX: Final = 256 * 1024

BY_TIME: Final = b"*"
BY_CONSUMER: Final = b"c"
BY_PROVIDER: Final = b"p"
ANY_STATE: Final = b"\x00"
STATES: Final = {state: bytes([number]) for number, state in enumerate(LeaseState, start=1)}
BUCKET_BITS: Final = 12  # of an address: its bucket among the sums of frontiers
BUCKETS_OF_FRONTIERS: Final = 2**BUCKET_BITS
SUM_BYTES: Final = 32

BUCKETS: Final = tuple((asset, bucket) for asset in Asset for bucket in Bucket)


def number(value: int) -> bytes:
    """Eight bytes big-endian: in key order as in number order."""
    return value.to_bytes(NUMBER_BYTES, "big")


def place(account: Address, height: int) -> bytes:
    """Where a block stands: account + height."""
    return account + number(height)


def unplace(at: bytes) -> tuple[Address, int]:
    """Account and height."""
    return Address(at[:-NUMBER_BYTES]), int.from_bytes(at[-NUMBER_BYTES:], "big")


def bucket_of(address: Address) -> int:
    """The bucket of frontiers that an account belongs to: its address' first bits."""
    return int.from_bytes(address[:2], "big") >> (16 - BUCKET_BITS)


def bucket_start(bucket: int) -> bytes:
    """The least two bytes with which the addresses of a bucket begin."""
    return (bucket << (16 - BUCKET_BITS)).to_bytes(2, "big")


def sum_key(bucket: int) -> bytes:
    """The row of a bucket's sum; a sum of 0 has none."""
    return FRONTIER_SUM + bucket.to_bytes(2, "big")


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


def heaviest_key(representative: Address, weight: int) -> bytes:
    """Its entry in the index by weight: the heaviest comes first, of equals the lowest address."""
    return HEAVIEST + pack_amount(AMOUNT_MAX - weight) + representative


def unpack_heaviest(key: bytes) -> Representative:
    """Whose entry of that index this is."""
    at = 1 + AMOUNT_BYTES
    return Representative(Address(key[at:]), AMOUNT_MAX - unpack_amount(key[1:at]))


def weight_rows(representative: Address, before: int, after: int) -> dict[bytes, bytes | None]:
    """The changes of both its rows; a weight of 0 has none."""
    if before == after:
        return {}
    rows: dict[bytes, bytes | None] = {WEIGHT + representative: pack_amount(after) if after else None}
    if before:
        rows[heaviest_key(representative, before)] = None
    if after:
        rows[heaviest_key(representative, after)] = b""
    return rows


def pack_amount(amount: int) -> bytes:
    """16 bytes big-endian."""
    return amount.to_bytes(AMOUNT_BYTES, "big")


def unpack_amount(value: bytes) -> int:
    """The amount; raises OperatorFault(store_corrupt)."""
    if len(value) != AMOUNT_BYTES:
        raise corrupt(f"a value that is no amount: {value.hex()}")
    return int.from_bytes(value, "big")


def unpack(value: bytes) -> tuple[Any, ...]:
    """The fields of a stored value; raises OperatorFault(store_corrupt)."""
    try:
        return decode(value)
    except Malformed as error:
        raise corrupt(f"a value that is no record: {error}") from error


def unpack_row(value: bytes) -> tuple[Any, ...]:
    """The same several times cheaper, for rows read by the thousand: without the check of their canonical form."""
    try:
        return decode_own(value)
    except Malformed as error:
        raise corrupt(f"a value that is no record: {error}") from error


def pack_account(record: AccountRecord) -> bytes:
    """All but the address, which is the key."""
    return encode(record[1:])


def unpack_account(address: bytes, value: bytes) -> AccountRecord:
    """The account at `address`."""
    return account_of((Address(address), *unpack_row(value)))


def account_of(fields: tuple[Any, ...]) -> AccountRecord:
    """The account of these fields."""
    account = AccountRecord(*fields)
    return account if account.keyset is None else account._replace(keyset=Keyset(*account.keyset))


def pack_arrival(at: bytes, block_hash: Hash, wire: bytes) -> bytes:
    """A block as it arrived: its place, its hash, its wire form."""
    return at + block_hash + wire


def unpack_arrival(arrived: bytes, value: bytes) -> StoredBlock:
    """The block that arrived with this number (as in the key)."""
    block_hash = Hash(value[PLACE_BYTES:ARRIVAL_HEAD_BYTES])
    try:
        block = decode_block(wire_of(value))
    except Malformed as error:
        raise corrupt(f"block {block_hash.hex()}: {error}") from error
    return StoredBlock(block, block_hash, unplace(value[:PLACE_BYTES])[1], int.from_bytes(arrived, "big"))


def wire_of(value: bytes) -> bytes:
    """The wire form in a block's row, without decoding it."""
    if len(value) <= ARRIVAL_HEAD_BYTES:
        raise corrupt(f"a value that is no block: {value.hex()}")
    return value[ARRIVAL_HEAD_BYTES:]


def pack_standing(arrived: bytes, block_hash: Hash) -> bytes:
    """What stands at a place: the arrival number (as in its key) and the hash of its block."""
    return arrived + block_hash


def unpack_standing(at: bytes, value: bytes) -> Standing:
    """What stands at the place `at`."""
    if len(value) != STANDING_BYTES:
        raise corrupt(f"a value that is no place of a block: {value.hex()}")
    account, height = unplace(at)
    return Standing(account, height, Hash(value[NUMBER_BYTES:]), int.from_bytes(value[:NUMBER_BYTES], "big"))


def pending_key(entry: Pending) -> bytes:
    """Destination, then source."""
    return PENDING + entry.destination + entry.source


def pack_pending(entry: Pending) -> bytes:
    """What is not in the key."""
    return encode((entry.sender, int(entry.asset), entry.amount))


def unpack_pending(key: bytes, value: bytes) -> Pending:
    """The entry; `key` is destination + source."""
    sender, asset, amount = unpack_row(value)
    return Pending(Hash(key[-32:]), sender, Address(key[-64:-32]), Asset(asset), amount)


def pack_lease(lease: LeaseRecord) -> bytes:
    """All but the hash, which is the key."""
    return encode(lease_fields(lease)[1:])


def lease_fields(lease: LeaseRecord) -> tuple[Plain, ...]:
    """All its fields, as they stand in a value."""
    return tuple(str(item) if isinstance(item, LeaseState) else item for item in lease)


def lease_of(fields: tuple[Any, ...]) -> LeaseRecord:
    """The lease of these fields."""
    lease = LeaseRecord(*fields)
    return lease._replace(resources=Resources(*lease.resources), state=LeaseState(lease.state))


def unpack_lease(lease_hash: bytes, value: bytes) -> LeaseRecord:
    """The lease that the block `lease_hash` opened."""
    return lease_of((Hash(lease_hash), *unpack(value)))


def pack_provider(record: ProviderRecord) -> bytes:
    """Both counts."""
    return encode(tuple(record))


def unpack_provider(value: bytes) -> ProviderRecord:
    """Both counts."""
    return ProviderRecord(*unpack(value))


def pack_tally(tally: Tally) -> bytes:
    """Totals stand in the order of BUCKETS, 16 bytes each."""
    return encode((*tally[:-1], tuple(pack_amount(tally.totals[bucket]) for bucket in BUCKETS)))


def unpack_tally(value: bytes) -> Tally:
    """The tally."""
    blocks, accounts, sequence, last_arrival, digest, totals = unpack(value)
    amounts = dict(zip(BUCKETS, map(unpack_amount, totals), strict=True))
    return Tally(blocks, accounts, sequence, last_arrival, digest, amounts)
