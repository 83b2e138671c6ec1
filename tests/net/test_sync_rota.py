"""Whose turn it is to be asked."""

from xnode.net import sync_rota
from xnode.net.streams import PeerId
from xnode.net.sync_rota import Rota, SessionEnd

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")
OURS = b"our digest"


def turn(rota: Rota, peers: list[PeerId], now: float, end: SessionEnd) -> PeerId | None:
    peer = rota.next(peers, now, OURS)
    if peer is not None:
        rota.on_end(peer, end, now, OURS)
    return peer


def test_new_peers_come_at_once() -> None:
    rota = Rota()
    assert [turn(rota, [A, B], 0.0, SessionEnd.EQUAL) for _ in range(3)] == [A, B, None]
    assert turn(rota, [A, B, C], 0.1, SessionEnd.EQUAL) == C


def test_peers_that_have_more_take_turns() -> None:
    rota = Rota()
    assert [turn(rota, [A, B], now, SessionEnd.MORE) for now in (0.0, 1.0, 2.0, 3.0)] == [A, B, A, B]


def test_who_has_more_behind_what_we_have_is_asked_soon_but_not_for_ever_so() -> None:
    rota, rest = Rota(), sync_rota.SKIM_SECONDS
    for number in range(sync_rota.SKIMS_MAX + 1):
        assert not rota.is_met()
        assert turn(rota, [A], number * rest, SessionEnd.SKIMMED) == A
        assert rota.next([A], (number + 1) * rest - 0.1) is None
    after = sync_rota.SKIMS_MAX * rest
    assert rota.next([A], after + 9.9) is None
    assert rota.next([A, B], after + 9.9) == B
    rota.on_end(B, SessionEnd.EQUAL, after + 9.9)
    assert rota.is_met()
    assert turn(rota, [A, B], after + 19.9, SessionEnd.SKIMMED) == A
    assert not rota.is_met()


def test_a_busy_peer_is_not_asked_twice() -> None:
    rota = Rota()
    assert rota.next([A, B], 0.0, OURS, busy={A}) == B
    assert rota.askable([A, B, C], {A}) == 2


def test_differing_frontiers_are_looked_at_every_ten_seconds() -> None:
    rota = Rota()
    assert turn(rota, [A], 0.0, SessionEnd.CAUGHT_UP) == A
    assert turn(rota, [A], 9.9, SessionEnd.CAUGHT_UP) is None
    assert turn(rota, [A], 10.0, SessionEnd.CAUGHT_UP) == A


def test_equal_peers_are_asked_once_a_minute() -> None:
    rota = Rota()
    assert turn(rota, [A], 0.0, SessionEnd.EQUAL) == A
    assert turn(rota, [A], 59.9, SessionEnd.EQUAL) is None
    assert turn(rota, [A], 60.0, SessionEnd.EQUAL) == A


def test_equal_no_longer_once_our_ledger_changed() -> None:
    rota = Rota()
    assert turn(rota, [A], 0.0, SessionEnd.EQUAL) == A
    assert rota.next([A], 9.9, b"another") is None
    assert rota.next([A], 10.0, b"another") == A


def test_equal_no_longer_once_the_peer_told_so() -> None:
    rota = Rota()
    assert turn(rota, [A], 0.0, SessionEnd.EQUAL) == A
    rota.on_differs(A)
    assert rota.next([A], 9.9, OURS) is None
    assert rota.next([A], 10.0, OURS) == A


def test_fruitless_sessions_become_rare() -> None:
    rota = Rota()
    times = [now for now in range(800) if turn(rota, [A], float(now), SessionEnd.FRUITLESS)]
    assert times == [0, 10, 30, 70, 150, 310, 470, 630, 790]


def test_bad_peers_rest_ever_longer_and_stay_remembered() -> None:
    rota = Rota()
    assert turn(rota, [A], 0.0, SessionEnd.FAULT) == A
    assert turn(rota, [A], 19.9, SessionEnd.SLOW) is None
    assert turn(rota, [A], 20.0, SessionEnd.SLOW) == A
    assert rota.next([B], 30.0) == B  # it left, and comes again
    assert rota.next([A], 59.9) is None
    assert rota.next([A], 60.0) == A


def test_a_good_peer_that_comes_again_is_new() -> None:
    rota = Rota()
    assert turn(rota, [A], 0.0, SessionEnd.EQUAL) == A
    rota.next([], 1.0)
    assert rota.next([A], 2.0, OURS) == A


def test_bad_peers_do_not_starve_others() -> None:
    rota = Rota()
    asked = [turn(rota, [A], float(now), SessionEnd.FAULT) for now in range(3)]
    assert asked == [A, None, None]
    assert turn(rota, [A, B], 3.0, SessionEnd.MORE) == B
    assert turn(rota, [A, B], 4.0, SessionEnd.MORE) == B


def test_who_is_remembered_is_bounded() -> None:
    rota = Rota()
    for number in range(sync_rota.PEERS_MAX + 10):
        peer = PeerId(str(number))
        assert rota.next([peer], float(number)) == peer
        rota.on_end(peer, SessionEnd.FAULT, float(number))
    assert len(rota._known) <= sync_rota.PEERS_MAX + 1


def test_met_is_who_was_asked_and_has_nothing_more() -> None:
    rota = Rota()
    assert not rota.is_met()
    turn(rota, [A, B], 0.0, SessionEnd.EQUAL)
    assert not rota.is_met()  # B was not asked yet
    turn(rota, [A, B], 0.0, SessionEnd.MORE)
    assert not rota.is_met()
    turn(rota, [A, B], 0.0, SessionEnd.CAUGHT_UP)
    assert rota.is_met()
    lonely = Rota()
    turn(lonely, [C], 0.0, SessionEnd.FAULT)
    assert not lonely.is_met()


def test_who_is_not_awaited_may_tell_all_and_holds_nothing_up() -> None:
    rota = Rota()
    rota.next([A, B], 0)
    rota.on_end(A, SessionEnd.EQUAL, 0, b"")
    assert rota.is_met({A})
    assert rota.is_met({C})  # who was awaited has left
    assert not rota.is_met({B})  # it is connected and was not asked yet
    rota.next([B], 1)
    assert not rota.is_met({A})  # nobody has told anything


def test_it_is_not_met_while_a_peer_was_asked_for_nothing_or_a_part_since_one_has_told_all() -> None:
    for told in (SessionEnd.EQUAL, SessionEnd.CAUGHT_UP, SessionEnd.FRUITLESS):
        rota = Rota()
        assert rota.next([A, B], 0.0) == A
        rota.on_end(A, told, 1.0)
        rota.on_end(B, SessionEnd.BUSY, 2.0)
        assert not rota.is_met()
        rota.on_end(A, told, 3.0)
        assert rota.is_met()  # B was asked for nothing because A was asked for all


def test_faults_keep_nobody_from_being_met_but_are_not_enough() -> None:
    rota = Rota()
    assert rota.next([A, B], 0.0) == A
    rota.on_end(A, SessionEnd.FAULT, 1.0)
    rota.on_end(B, SessionEnd.BUSY, 2.0)
    assert not rota.is_met()
    rota.on_end(B, SessionEnd.CAUGHT_UP, 12.0)
    assert rota.is_met()
