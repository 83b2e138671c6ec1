"""The ledger's rules: (view, block) -> effects or a named refusal (protocol sections 3 to 7).

Theory of operation. `judge` runs the checks in the order of section 4, cheap before dear, and stops at the first that
fails; it and the rules of each block type are in `rules.py`. It writes nothing: what a good block does is an `Effects`
value, which the store lands in one atomic batch. Effects name amounts moved between the buckets of the supply identity,
and `judge` checks that they balance before anybody can write them.
"""

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Final, NamedTuple

from xnode.core.blocks import Block
from xnode.core.charter import Charter
from xnode.core.genesis import Genesis
from xnode.core.keyset import Keyset
from xnode.core.lease import LeaseRecord
from xnode.core.values import NS, ZERO_HASH, Address, Asset, Hash


class Outcome(StrEnum):
    """What becomes of a block; every word is stable and documented in docs/refusals.md."""

    PROGRESS = "progress"  # good and new: it may be applied
    OLD = "old"  # already applied: success without effect
    FORK = "fork"  # another block stands at its position
    GAP_PREVIOUS = "gap_previous"  # its previous block is not here yet
    GAP_SOURCE = "gap_source"  # the block that it refers to is not here yet
    BAD_FORMAT = "bad_format"  # not one canonical block
    BAD_WORK = "bad_work"  # too little work for its root
    BAD_SIGNATURE = "bad_signature"  # not signed by its account
    BAD_TIMESTAMP = "bad_timestamp"  # a live block or a lease too far from now, or too far from its attested time
    NOT_OPEN = "not_open"  # a multisig account must open before it does anything else
    ALREADY_OPEN = "already_open"  # it opens once
    BAD_QUORUM = "bad_quorum"  # not signed by exactly as many keys of the keyset in force as its type asks for
    BAD_REPRESENTATIVE = "bad_representative"  # a multisig account can't vote, and one key can't move its delegation
    NOT_A_PROVIDER = "not_a_provider"  # a multisig account hosts no machines
    BAD_ASSET = "bad_asset"  # this type is not for this asset
    BAD_BALANCE = "bad_balance"  # the balance after it does not follow from the one before
    BAD_AMOUNT = "bad_amount"  # zero, or not what the formula gives
    BAD_DESTINATION = "bad_destination"  # to oneself, or to an account that can't sign
    BAD_RESOURCES = "bad_resources"  # nothing asked for, or over a limit
    BAD_DURATION = "bad_duration"  # outside the network's range
    BAD_MULTIPLIER = "bad_multiplier"  # outside 500..10000
    BAD_KEY = "bad_key"  # an SSH key, or one of a keyset, that is not a point of the curve
    BAD_ATTESTATIONS = "bad_attestations"  # too few valid ones, or too far from now
    BAD_TIME = "bad_time"  # the attested time is too early or too late for this step
    INSUFFICIENT = "insufficient"  # more is spent than there is
    NOT_YOURS = "not_yours"  # the signer is not who may do this
    WRONG_STATE = "wrong_state"  # the lease's state forbids it
    RIVAL = "rival"  # an unconfirmed block of another chain has taken this step of the lease
    NO_SOURCE = "no_source"  # what it refers to is known and is not open for it
    FAUCET_OFF = "faucet_off"  # this network has none
    FAUCET_WAIT = "faucet_wait"  # claimed within the interval
    OVERFLOW = "overflow"  # an amount leaves u64


GAPS: Final = frozenset({Outcome.GAP_PREVIOUS, Outcome.GAP_SOURCE})


class Refusal(NamedTuple):
    """Why a block has no effects; `detail` is for people, `needs` the missing block of a gap (else zeros)."""

    outcome: Outcome
    detail: str
    needs: Hash = ZERO_HASH


class Bucket(StrEnum):
    """The places where units of an asset can be (supply identity, section 4)."""

    BALANCES = "balances"
    PENDING = "pending"
    ESCROW = "escrow"
    STAKE = "stake"
    BURNT = "burnt"
    FORFEITED = "forfeited"
    GENESIS = "genesis"
    CLAIMED = "claimed"
    MINTED = "minted"


HELD: Final = (Bucket.BALANCES, Bucket.PENDING, Bucket.ESCROW, Bucket.STAKE, Bucket.BURNT, Bucket.FORFEITED)
ISSUED: Final = (Bucket.GENESIS, Bucket.CLAIMED, Bucket.MINTED)
_ISSUED: Final = frozenset(ISSUED)
_XUSD: Final = Asset.XUSD


class Move(NamedTuple):
    """A change of one bucket of one asset."""

    asset: Asset
    bucket: Bucket
    delta: int


class AccountRecord(NamedTuple):
    """An account's state; `height` counts its blocks, `head` is zeros before the first; `last_claim` in ns or 0.

    `keyset` is the one in force: None in an account of one key, and before a multisig account has opened. Its first
    `final_height` blocks are confirmed; no rule asks for that or changes it.
    """

    address: Address
    head: Hash
    height: int
    xusd: int
    xe: int
    representative: Address
    last_claim: int
    final_height: int
    keyset: Keyset | None

    def balance(self, asset: Asset) -> int:
        """Units held of one asset."""
        return self.xusd if asset is Asset.XUSD else self.xe


class Pending(NamedTuple):
    """Units sent but not yet received; `source` is the send block."""

    source: Hash
    sender: Address
    destination: Address
    asset: Asset
    amount: int


class Effects(NamedTuple):
    """All that a good block does; lands in one batch or not at all."""

    block: Block
    block_hash: Hash
    account: AccountRecord
    pending_put: Pending | None
    pending_delete: Pending | None
    lease: LeaseRecord | None
    moves: tuple[Move, ...]


class LedgerView(ABC):
    """What the rules may look at."""

    @abstractmethod
    def account(self, address: Address) -> AccountRecord | None:
        """The account, or None where it has neither blocks nor an opening balance."""

    @abstractmethod
    def has_block(self, block_hash: Hash) -> bool:
        """Whether this block is applied."""

    @abstractmethod
    def pending(self, destination: Address, source: Hash) -> Pending | None:
        """The open pending entry, or None."""

    @abstractmethod
    def lease(self, lease_hash: Hash) -> LeaseRecord | None:
        """The lease that this block opened, or None."""

    @abstractmethod
    def charter_at(self, time: int) -> Charter:
        """The rates and timekeepers that hold at `time` (ns), as far as the state chain is known here."""


class Context(NamedTuple):
    """What the rules must know besides view and block; times in ns.

    `now` is given for a live block, None for a synced one. `latest` is the newest date that a lease may bear, also a
    synced one; None where all that is judged has been in a ledger before.
    """

    genesis: Genesis
    now: int | None
    latest: int | None = None


def live_context(genesis: Genesis, now: int) -> Context:
    """What live blocks are judged by at `now` (ns)."""
    return Context(genesis, now, now + genesis.timing.live_window * NS)


def synced_context(genesis: Genesis, now: int) -> Context:
    """What blocks that somebody had before us are judged by at `now` (ns)."""
    return live_context(genesis, now)._replace(now=None)


def new_account(address: Address, genesis: Genesis) -> AccountRecord:
    """An account before its first block. It delegates as the genesis says until a block of its own names another: else
    the weight of accounts without a node would never vote, and could stop the network."""
    held = {item.asset: item.amount for item in genesis.allocations if item.account == address}
    return AccountRecord(
        address,
        ZERO_HASH,
        height=0,
        xusd=held.get(Asset.XUSD, 0),
        xe=held.get(Asset.XE, 0),
        representative=genesis.representative,
        last_claim=0,
        final_height=0,
        keyset=None,
    )


def supply_balances(totals: dict[tuple[Asset, Bucket], int]) -> bool:
    """The supply identity: for each asset all that is held equals all that was issued."""
    return all(
        sum(totals.get((asset, bucket), 0) for bucket in HELD)
        == sum(totals.get((asset, bucket), 0) for bucket in ISSUED)
        for asset in Asset
    )


def moves_balance(moves: tuple[Move, ...]) -> bool:
    """Whether these moves keep the supply identity."""
    xusd = xe = 0
    for asset, bucket, delta in moves:
        gained = -delta if bucket in _ISSUED else delta
        if asset is _XUSD:
            xusd += gained
        else:
            xe += gained
    return xusd == 0 == xe
