"""Counting final votes at heads."""

from tests.support.ledger import address_of
from xnode.core.catch_up import HeadTally
from xnode.core.values import ZERO_HASH, Hash
from xnode.core.votes import Position, Vote, VoteBundle
from xnode.core.weights import Weights

HEAD, OTHER = Hash(b"h" * 32), Hash(b"o" * 32)
PLACE = Position(address_of("alice"), ZERO_HASH)
A, B, C = address_of("a"), address_of("b"), address_of("c")
WEIGHTS = Weights(100, {A: 40, B: 27, C: 33})


def decided(*votes: tuple[str, Hash, bool]) -> list[Hash]:
    tally = HeadTally(WEIGHTS, {PLACE: HEAD})
    for name, block_hash, is_final in votes:
        tally.count(VoteBundle(address_of(name), 1, (Vote(PLACE, block_hash, is_final),)))
    return tally.decided()


def test_final_votes_of_67_percent_decide() -> None:
    assert decided(("a", HEAD, True), ("b", HEAD, True)) == [HEAD]
    assert decided(("a", HEAD, True), ("c", HEAD, True)) == [HEAD]


def test_less_does_not() -> None:
    assert decided(("b", HEAD, True), ("c", HEAD, True)) == []
    assert decided() == []


def test_a_representative_counts_once() -> None:
    assert decided(*[("a", HEAD, True)] * 3) == []


def test_votes_that_are_not_final_count_nothing() -> None:
    assert decided(("a", HEAD, True), ("b", HEAD, False), ("c", HEAD, False)) == []


def test_votes_for_another_block_count_nothing() -> None:
    assert decided(("a", OTHER, True), ("b", OTHER, True), ("c", HEAD, True)) == []


def test_who_has_no_weight_counts_nothing() -> None:
    assert decided(("a", HEAD, True), ("nobody", HEAD, True)) == []
