"""Votes: a representative's signed word on which block stands at a chain position (protocol section 8).

A representative bundles its votes, one signature for many, because a gossip message costs far more than a vote.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from xnode.core.codec import Malformed, Plain
from xnode.core.hashing import Tag
from xnode.core.records import RecordKind, read_bytes32, read_int
from xnode.core.values import Address, Hash

VOTES_MAX: Final = 64  # in one bundle


class Position(NamedTuple):
    """A place in a chain: the block of `account` that follows `previous` (zeros for its first block)."""

    account: Address
    previous: Hash


class Vote(NamedTuple):
    """For one block at one position. A final vote is given once per position for ever; another may move."""

    position: Position
    block_hash: Hash
    is_final: bool


class VoteBundle(NamedTuple):
    """One to 64 votes, each position once. `timestamp` in ns: of two non-final votes the one with the later counts, so
    a representative's timestamps must rise from bundle to bundle."""

    representative: Address
    timestamp: int
    votes: tuple[Vote, ...]


def read_votes(value: Plain, name: str) -> tuple[Vote, ...]:
    """1 to VOTES_MAX votes, no position twice, or Malformed."""
    if not isinstance(value, tuple) or not 1 <= len(value) <= VOTES_MAX:
        raise Malformed(f"{name} must be an array of 1 to {VOTES_MAX} votes")
    votes = tuple(_read_vote(item) for item in value)
    if len({vote.position for vote in votes}) != len(votes):
        raise Malformed(f"{name} must name each position once")
    return votes


def _read_vote(value: Plain) -> Vote:
    if not isinstance(value, tuple) or len(value) != len(Vote._fields):
        raise Malformed("a vote must be an array of position, block hash and final flag")
    position, block_hash, is_final = value
    if type(is_final) is not bool:
        raise Malformed("the final flag must be true or false")
    return Vote(_read_position(position), Hash(read_bytes32(block_hash, "block hash")), is_final)


def _read_position(value: Plain) -> Position:
    if not isinstance(value, tuple) or len(value) != len(Position._fields):
        raise Malformed("a position must be an array of account and previous")
    account, previous = value
    return Position(Address(read_bytes32(account, "account")), Hash(read_bytes32(previous, "previous")))


VOTES: Final = RecordKind(
    Tag.VOTE,
    VoteBundle,
    (("representative", read_bytes32), ("timestamp", read_int), ("votes", read_votes)),
    "representative",
)


def bundle_votes(representative: Address, timestamp: int, votes: Iterable[Vote]) -> tuple[VoteBundle, ...]:
    """The votes in as few bundles as they fit; of several at one position the last counts, but a final one stays."""
    chosen: dict[Position, Vote] = {}
    for vote in votes:
        known = chosen.get(vote.position)
        if known is None or not known.is_final:
            chosen[vote.position] = vote
    kept = tuple(chosen.values())
    return tuple(
        VoteBundle(representative, timestamp, kept[start : start + VOTES_MAX])
        for start in range(0, len(kept), VOTES_MAX)
    )
