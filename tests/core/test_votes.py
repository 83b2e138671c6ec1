"""Bundles of votes (protocol section 8): both ways, strictly, for one network and purpose."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.ledger import NOW, address_of, key_of
from tests.support.strategies import bytes32, u64s
from xnode.core.codec import Malformed, decode, encode
from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.keys import verify
from xnode.core.values import ZERO_HASH, Address, Hash
from xnode.core.votes import VOTES, VOTES_MAX, Position, Vote, VoteBundle, bundle_votes

NETWORK, OTHER_NETWORK = NetworkKey(b"n" * 32), NetworkKey(b"o" * 32)
ALICE = address_of("alice")
KEY = key_of("alice")

votes = st.builds(Vote, st.builds(Position, bytes32, bytes32), bytes32, st.booleans())
vote_lists = st.lists(votes, min_size=1, max_size=VOTES_MAX, unique_by=lambda vote: vote.position)


def vote_at(number: int, is_final: bool = False, block: bytes = b"b" * 32) -> Vote:
    return Vote(Position(Address(number.to_bytes(32, "big")), ZERO_HASH), Hash(block), is_final)


def bundle_of(*chosen: Vote) -> VoteBundle:
    return VoteBundle(ALICE, NOW, chosen or (vote_at(1), vote_at(2, is_final=True)))


def refused(*elements: Any) -> str:
    with pytest.raises(Malformed) as caught:
        VOTES.read(NETWORK, encode(elements))
    return str(caught.value)


def refused_votes(*items: Any) -> str:
    return refused(ALICE, NOW, items, bytes(64))


@settings(max_examples=20)
@given(timestamp=u64s, chosen=vote_lists)
def test_a_bundle_goes_both_ways(timestamp: int, chosen: list[Vote]) -> None:
    bundle = VoteBundle(ALICE, timestamp, tuple(chosen))
    wire = VOTES.sign(NETWORK, KEY, bundle)
    read, is_signed = VOTES.read(NETWORK, wire)
    assert (read, is_signed) == (bundle, True)
    assert type(read.votes[0]) is Vote
    assert type(read.votes[0].position) is Position


def test_one_signature_covers_the_whole_bundle() -> None:
    *fields, signature = decode(VOTES.sign(NETWORK, KEY, bundle_of()))
    assert verify(ALICE, tagged_hash(NETWORK, Tag.VOTE, encode(tuple(fields))), signature)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        bundle_of()._replace(timestamp=NOW + 1),
        bundle_of(vote_at(1)),
        bundle_of(vote_at(1), vote_at(2, is_final=False)),
        bundle_of(vote_at(1, block=b"c" * 32), vote_at(2, is_final=True)),
        bundle_of(vote_at(3), vote_at(2, is_final=True)),
    ],
)
def test_any_change_spoils_the_signature(changed: VoteBundle) -> None:
    signature = decode(VOTES.sign(NETWORK, KEY, bundle_of()))[-1]
    assert VOTES.read(NETWORK, encode((*changed, signature))) == (changed, False)


def test_another_network_tag_or_signer_is_not_signed() -> None:
    wire = VOTES.sign(NETWORK, KEY, bundle_of())
    assert VOTES.read(OTHER_NETWORK, wire) == (bundle_of(), False)
    assert VOTES._replace(tag=Tag.BLOCK).read(NETWORK, wire) == (bundle_of(), False)
    assert VOTES.read(NETWORK, VOTES.sign(NETWORK, key_of("bob"), bundle_of())) == (bundle_of(), False)


def test_a_full_bundle_is_read_and_a_larger_one_refused() -> None:
    full = bundle_of(*map(vote_at, range(VOTES_MAX)))
    wire = VOTES.sign(NETWORK, KEY, full)
    assert VOTES.read(NETWORK, wire)[1]
    assert len(wire) < 8 * 1024
    assert "1 to 64 votes" in refused_votes(*map(vote_at, range(VOTES_MAX + 1)))
    with pytest.raises(Malformed):
        VOTES.sign(NETWORK, KEY, bundle_of(*map(vote_at, range(VOTES_MAX + 1))))


def test_an_empty_bundle_is_refused() -> None:
    assert "1 to 64 votes" in refused_votes()


def test_a_position_named_twice_is_refused() -> None:
    assert "each position once" in refused_votes(vote_at(1), vote_at(1, is_final=True))


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (7, "a vote must be"),
        ((vote_at(1).position, ZERO_HASH), "a vote must be"),
        ((*vote_at(1), None), "a vote must be"),
        ((vote_at(1).position, ZERO_HASH, 1), "final flag"),
        ((vote_at(1).position, ZERO_HASH, None), "final flag"),
        ((vote_at(1).position, bytes(31), True), "block hash"),
        (((bytes(32),), ZERO_HASH, True), "a position must be"),
        ((bytes(32), ZERO_HASH, True), "a position must be"),
        (((bytes(33), bytes(32)), ZERO_HASH, True), "account"),
        (((bytes(32), "previous"), ZERO_HASH, True), "previous"),
    ],
)
def test_a_malformed_vote_is_refused(item: Any, reason: str) -> None:
    assert reason in refused_votes(item)


def test_a_malformed_bundle_is_refused() -> None:
    assert "votes must be" in refused(ALICE, NOW, b"votes", bytes(64))
    assert "representative" in refused(ALICE[:-1], NOW, (vote_at(1),), bytes(64))
    assert "timestamp" in refused(ALICE, None, (vote_at(1),), bytes(64))
    assert "signature" in refused(ALICE, NOW, (vote_at(1),), bytes(63))
    assert "4 elements" in refused(ALICE, NOW, (vote_at(1),))


def test_bundling_keeps_order_and_fills_bundles() -> None:
    many = [vote_at(number) for number in range(VOTES_MAX + 3)]
    first, second = bundle_votes(ALICE, NOW, many)
    assert (*first.votes, *second.votes) == tuple(many)
    assert len(first.votes) == VOTES_MAX
    assert bundle_votes(ALICE, NOW, ()) == ()


def test_bundling_keeps_one_vote_a_position_and_never_loses_a_final_one() -> None:
    other = vote_at(1, block=b"c" * 32)
    final = vote_at(1, is_final=True)
    assert bundle_votes(ALICE, NOW, [vote_at(1), other])[0].votes == (other,)
    assert bundle_votes(ALICE, NOW, [vote_at(1), final, other])[0].votes == (final,)
