"""Which buckets an exact session asks for, where it cannot ask for all."""

from xnode.net.streams import PeerId
from xnode.net.sync_ranges import BUCKETS
from xnode.net.sync_rounds import BUCKETS_MIN, FEWER, Rounds

A, B = PeerId("a"), PeerId("b")


def test_each_session_begins_behind_the_one_before_until_all_had_their_turn() -> None:
    rounds, differing = Rounds(), [1, 4, 7, 9, 12]
    seen = []
    for _ in range(6):
        asked = rounds.order(A, differing)[:2]  # as many as it can carry
        is_whole = rounds.is_whole(A, differing, asked)
        seen.append((asked, is_whole))
        rounds.on_end(A, asked, is_whole, True, 0)
    first = [([1, 4], False), ([7, 9], False), ([12], True)]
    assert seen == first * 2
    assert rounds.order(B, differing) == differing


def test_a_session_that_was_cut_off_leaves_its_buckets_in_the_round() -> None:
    rounds, differing = Rounds(), [1, 4, 7]
    rounds.on_end(A, [1, 4], False, False, 5)
    assert rounds.order(A, differing) == [7, 1, 4]
    assert not rounds.is_whole(A, differing, [7])


def test_who_got_much_that_was_of_no_use_asks_for_fewer_until_blocks_are_applied() -> None:
    rounds, differing = Rounds(), list(range(BUCKETS))
    counts = []
    for applied in (0, 0, 0, 0, 0, 0, 9, 9):
        asked = rounds.order(A, differing)
        counts.append(len(asked))
        rounds.on_end(A, asked, False, False, applied)
    assert counts == [4096, 1024, 256, 64, BUCKETS_MIN, BUCKETS_MIN, BUCKETS_MIN, BUCKETS_MIN * FEWER]


def test_who_left_begins_anew() -> None:
    rounds = Rounds()
    rounds.on_end(A, [1], False, True, 0)
    rounds.keep([A])
    assert rounds.order(A, [1, 2]) == [2]
    rounds.keep([B])
    assert rounds.order(A, [1, 2]) == [1, 2]


def test_what_differs_again_when_all_was_told_is_asked_again() -> None:
    rounds = Rounds()
    rounds.on_end(A, [1, 2], False, True, 3)
    assert rounds.order(A, [1, 2]) == [1, 2]
    assert rounds.is_whole(A, [1, 2], [1, 2])
