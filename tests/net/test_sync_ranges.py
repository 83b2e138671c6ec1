"""Comparing ledgers by fingerprints of ranges, and splitting what differs between peers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.toy_ledger import ToyLedger, account, bucket_of, toy_block
from xnode.core.faults import PeerFault
from xnode.net import sync_ranges as ranges
from xnode.net.streams import PeerId
from xnode.net.sync_ranges import Shares

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
ALL = range(ranges.PARTS)
chains = st.dictionaries(st.integers(1, 60), st.integers(1, 4), max_size=20)


def ledger(heights: dict[int, int]) -> ToyLedger:
    made = ToyLedger()
    for owner, height in heights.items():
        made.grow(owner, height)
    return made


@settings(max_examples=40, deadline=None)
@given(chains, chains)
def test_the_parts_and_buckets_that_differ_hold_every_difference_and_nothing_else(
    ours: dict[int, int], theirs: dict[int, int]
) -> None:
    near, far = ledger(ours), ledger(theirs)
    different = {account(owner) for owner in ours.keys() | theirs.keys() if ours.get(owner) != theirs.get(owner)}
    parts = ranges.differing(near.parts(), far.parts())
    assert parts == sorted({ranges.part_of(owner) for owner in different})
    numbers = [bucket for part in parts for bucket in ranges.buckets_of(part)]
    found = ranges.differing(near.buckets(parts), far.buckets(parts))
    assert {numbers[index] for index in found} == {bucket_of(owner) for owner in different}


@given(st.frozensets(st.integers(0, ranges.PARTS - 1)), st.frozensets(st.integers(0, ranges.BUCKETS - 1)))
def test_sets_of_parts_and_buckets_come_back_from_their_bits(parts: frozenset[int], buckets: frozenset[int]) -> None:
    assert ranges.unpack_parts(ranges.pack_parts(parts)) == parts
    assert ranges.unpack_buckets(ranges.pack_buckets(buckets)) == sorted(buckets)


@pytest.mark.parametrize("value", [(), (64,), (1, 1), (2, 1), (True,), tuple(range(17)), 3, ("1",)])
def test_bad_questions_for_buckets(value: object) -> None:
    with pytest.raises(PeerFault):
        ranges.parse_parts(value)  # type: ignore[arg-type]


def test_a_part_is_its_accounts_first_bits() -> None:
    for owner in map(account, range(50)):
        assert bucket_of(owner) in ranges.buckets_of(ranges.part_of(owner))
    assert toy_block(1, 1) != toy_block(2, 1)


def test_one_peer_gets_all() -> None:
    assert Shares().take(A, ALL, (), 1) == ranges.ALL_PARTS


def test_three_peers_share_evenly_and_nobody_asks_twice() -> None:
    shares = Shares()
    pieces = [shares.take(A, ALL, (), 3), shares.take(B, ALL, (), 2), shares.take(C, ALL, (), 1)]
    assert sorted(map(len, pieces)) == [21, 21, 22]
    assert frozenset().union(*pieces) == ranges.ALL_PARTS
    assert sum(map(len, pieces)) == ranges.PARTS


def test_what_a_slow_peer_held_is_free_once_its_session_is_over() -> None:
    shares = Shares()
    held = shares.take(A, ALL, (), 2)
    assert shares.take(B, held, (), 1) == frozenset()
    shares.release(A)
    assert shares.take(B, held, (), 1) == held


def test_a_peer_gets_its_old_parts_first() -> None:
    assert Shares().take(A, ALL, {40, 41, 63}, 16) == {0, 40, 41, 63}
