"""What the store's reads return beside the ledger's own records."""

from typing import NamedTuple

from xnode.core.blocks import Block
from xnode.core.ledger import Bucket
from xnode.core.values import Address, Asset, Hash

Totals = dict[tuple[Asset, Bucket], int]


class StoredBlock(NamedTuple):
    """An applied block; `height` counts from 1 in its chain, `sequence` from 1 in the order of arrival here.

    The sequences of blocks that were rolled back are missing.
    """

    block: Block
    block_hash: Hash
    height: int
    sequence: int


class Standing(NamedTuple):
    """Where an applied block stands, without the block."""

    account: Address
    height: int
    block_hash: Hash
    sequence: int


class Frontier(NamedTuple):
    """The end of one account's chain; only accounts with blocks have one."""

    address: Address
    height: int
    head: Hash


class Counts(NamedTuple):
    """How much there is; `accounts` counts those of the genesis too."""

    blocks: int
    accounts: int


class ProviderRecord(NamedTuple):
    """How many leases of a provider ended well, and how many by force."""

    settled: int
    unfulfilled: int


class Representative(NamedTuple):
    """Who holds the delegation of some XUSD, and of how much."""

    address: Address
    weight: int


class Tally(NamedTuple):
    """What is kept incrementally; `digest` is the sum of all frontiers' hashes, 32 bytes.

    `sequence` is the last arrival number given, and is never given again; `last_arrival` that of the last block that is
    still there.
    """

    blocks: int
    accounts: int
    sequence: int
    last_arrival: int
    digest: bytes
    totals: Totals
