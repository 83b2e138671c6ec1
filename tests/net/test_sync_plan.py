"""The rules of a sync session and the order of peers, without any stream."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.toy_ledger import account
from xnode.core.blocks import BLOCK_BYTES_MAX
from xnode.core.codec import encode
from xnode.core.faults import PeerFault
from xnode.core.values import Hash
from xnode.net import sync_plan as plan
from xnode.net.streams import PeerId
from xnode.net.sync_plan import Asking, Comparison, Frontier, Record, Rota, SessionEnd

HEAD = Hash(b"h" * 32)
OTHER = Hash(b"o" * 32)
A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


def frontiers(count: int) -> list[Frontier]:
    return [(account(number), number, HEAD) for number in range(1, count + 1)]


def compare(ours: list[Frontier], pages: list[Record], steps: int = 7) -> Comparison:
    comparison = Comparison(iter(ours))
    for number, record in enumerate(pages, start=1):
        assert comparison.add(record) == (number == len(pages))
        while not comparison.advance(steps):
            pass
    return comparison


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 1024, 1500])
def test_frontiers_cross_in_pages(count: int) -> None:
    sent = frontiers(count)
    pages = list(plan.frontier_pages(sent))
    assert max(len(encode(page)) for page in pages) <= plan.FRONTIERS_FRAME_BYTES_MAX
    assert compare(sent, pages).heights == {owner: height for owner, height, _ in sent}


def test_frontiers_above_the_limit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "FRONTIERS_MAX", 600)
    assert sum(len(page[1]) for page in plan.frontier_pages(frontiers(900)) if isinstance(page[1], tuple)) == 600
    comparison = Comparison(iter(()))
    comparison.add((plan.FRONTIERS, tuple(frontiers(512)), False))
    more = tuple((account(number), 1, HEAD) for number in range(600, 700))
    with pytest.raises(PeerFault) as caught:
        comparison.add((plan.FRONTIERS, more, True))
    assert caught.value.code == "too_many"


def test_accounts_that_we_do_not_know_are_not_kept() -> None:
    assert compare([], list(plan.frontier_pages(frontiers(1500)))).heights == {}


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.integers(1, 30), st.integers(1, 9)), st.dictionaries(st.integers(1, 30), st.integers(1, 9)))
def test_comparison_is_the_intersection(ours: dict[int, int], theirs: dict[int, int]) -> None:
    def chains(heights: dict[int, int]) -> list[Frontier]:
        return [(account(number), heights[number], HEAD) for number in sorted(heights)]

    heights = compare(chains(ours), list(plan.frontier_pages(chains(theirs))), steps=1).heights
    assert heights == {account(number): theirs[number] for number in ours.keys() & theirs.keys()}


@pytest.mark.parametrize(
    "record",
    [
        (),
        (plan.FRONTIERS, (), False),
        (plan.FRONTIERS, ((account(2), 1, HEAD), (account(1), 1, HEAD)), True),
        (plan.FRONTIERS, ((account(1), 1, HEAD), (account(1), 1, HEAD)), True),
        (plan.FRONTIERS, ((account(1), 0, HEAD),), True),
        (plan.FRONTIERS, ((account(1), True, HEAD),), True),
        (plan.FRONTIERS, ((account(1), 1, b"short"),), True),
        (plan.FRONTIERS, (1,), True),
        (plan.FRONTIERS, (), 1),
        (plan.ASK, (), True),
        (plan.FRONTIERS, tuple(frontiers(513)), True),
    ],
)
def test_bad_frontiers_are_the_peers_fault(record: Record) -> None:
    with pytest.raises(PeerFault):
        Comparison(iter(frontiers(9))).add(record)


def test_heights_to_send_above() -> None:
    known = ((account(1), 5, HEAD), (account(2), 5, HEAD), (account(3), 5, OTHER), (account(4), 9, OTHER))
    ours: list[Frontier] = [(account(number), 5, HEAD) for number in range(1, 6)]
    ours[0] = (account(1), 8, OTHER)
    assert compare(ours, [(plan.FRONTIERS, known, True)]).heights == {
        account(1): 5,  # we are ahead
        account(2): 5,  # equal
        account(3): 4,  # a fork: our head is sent
        account(4): 9,  # they are ahead; the fifth is unknown to them, so all of it is sent
    }


def page(count: int, last: bool, start: int = 0) -> Record:
    return (plan.BLOCKS, tuple(b"%d" % number for number in range(start, start + count)), last)


def test_pages_grow_and_a_session_is_bounded() -> None:
    state, counts = Asking(), []
    while not state.is_over:
        state, (_, count) = plan.ask(state)
        counts.append(count)
        assert isinstance(count, int)
        state, wires = plan.on_page(state, page(count, False))
        state = plan.on_applied(state, len(wires), len(wires))
    assert counts[:4] == [64, 128, 256, 256]
    assert sum(count for count in counts if isinstance(count, int)) == plan.SESSION_BLOCKS_MAX
    assert (state.received, state.applied) == (plan.SESSION_BLOCKS_MAX, plan.SESSION_BLOCKS_MAX)


def test_a_short_page_must_be_the_last() -> None:
    asking, _ = plan.ask(Asking())
    state, wires = plan.on_page(asking, page(3, True))
    assert (len(wires), state.is_over) == (3, True)
    with pytest.raises(PeerFault, match="asked for"):
        plan.on_page(asking, page(3, False))
    with pytest.raises(PeerFault, match="asked for"):
        plan.on_page(asking, page(0, False))


@pytest.mark.parametrize("last", [True, False])
def test_more_than_asked_for_is_the_peers_fault(last: bool) -> None:
    asking, _ = plan.ask(Asking())
    with pytest.raises(PeerFault) as caught:
        plan.on_page(asking, page(65, last))
    assert caught.value.code == "not_asked"
    with pytest.raises(PeerFault):
        plan.on_page(Asking(), page(1, last))


@pytest.mark.parametrize("items", [(b"",), (b"x", b"x"), (b"x" * (BLOCK_BYTES_MAX + 1),), (1,), ("x",), (None,)])
def test_bad_blocks_in_a_page(items: Record) -> None:
    asking, _ = plan.ask(Asking())
    with pytest.raises(PeerFault) as caught:
        plan.on_page(asking, (plan.BLOCKS, items, True))
    assert caught.value.code == "malformed"


def test_a_full_page_of_long_blocks_fits_its_bound() -> None:
    for count in (1, 64, 256):
        wires = tuple(bytes([number]) * BLOCK_BYTES_MAX for number in range(count))
        assert len(encode((plan.BLOCKS, wires, True))) <= plan.page_bytes_max(count)


def test_useless_blocks_end_the_session() -> None:
    state = Asking()
    for _ in range(4):
        state = plan.on_applied(state, 256, 0)
    assert plan.on_applied(state, 256, 1).useless == 0
    with pytest.raises(PeerFault) as caught:
        plan.on_applied(state, 1, 0)
    assert caught.value.code == "useless"


@pytest.mark.parametrize(
    ("record", "sent"),
    [((2, 0), 0), ((2, 257), 0), ((2, 64), 9_937), ((2, True), 0), ((2,), 0), ((1, 1), 0), ((), 0)],
)
def test_bad_questions(record: Record, sent: int) -> None:
    with pytest.raises(PeerFault):
        plan.parse_ask(record, sent)


def test_good_questions() -> None:
    assert plan.parse_ask((plan.ASK, 1), 0) == 1
    assert plan.parse_ask((plan.ASK, 256), 9_744) == 256


plain = st.recursive(
    st.none() | st.booleans() | st.integers(0, 6) | st.binary(max_size=33) | st.just(bytes(32)),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(plain, max_size=4).map(tuple))
def test_any_record_is_understood_or_the_peers_fault(record: Record) -> None:
    asking, _ = plan.ask(Asking())
    readers = (
        plan.parse_digest,
        plan.parse_is_equal,
        lambda item: Comparison(iter(())).add(item),
        lambda item: plan.on_page(asking, item),
        lambda item: plan.parse_ask(item, 0),
    )
    for reader in readers:
        try:
            reader(record)
        except PeerFault as fault:
            assert fault.code in {"malformed", "not_asked", "too_many"}  # noqa: PT017 - many inputs are good


def run_rota(rota: Rota, peers: list[PeerId], now: float, end: SessionEnd) -> PeerId | None:
    peer = rota.next(peers, now)
    if peer is not None:
        rota.on_end(peer, end, now)
    return peer


def test_new_peers_come_first_then_each_in_turn_every_10_s() -> None:
    rota, peers = Rota(), [A, B, C]
    assert [run_rota(rota, peers, 0.1 * step, SessionEnd.EQUAL) for step in range(4)] == [A, B, C, None]
    assert rota.count(SessionEnd.EQUAL) == 3
    turns = [(now, run_rota(rota, peers, now, SessionEnd.EQUAL)) for now in range(1, 42)]
    assert [turn for turn in turns if turn[1]] == [(11, A), (21, B), (31, C), (41, A)]
    assert rota.next([*peers, PeerId("d")], 42) == "d"


def test_peers_with_more_share_the_turns() -> None:
    rota = Rota()
    turns = [run_rota(rota, [A, B], now, SessionEnd.MORE) for now in range(6)]
    assert turns == [A, B, A, B, A, B]


def test_a_faulty_peer_rests_longer_and_longer() -> None:
    rota = Rota()
    turns = [now for now in range(2000) if run_rota(rota, [A], now, SessionEnd.FAULT)]
    assert turns == [0, 20, 60, 140, 300, 620, 1260, 1900]
    rota.on_end(A, SessionEnd.EQUAL, 1900)
    assert rota.next([A], 1911) == A


def test_a_faulty_peer_that_reconnects_still_rests() -> None:
    rota = Rota()
    rota.on_end(A, SessionEnd.FAULT, 0)
    assert rota.next([], 1) is None
    assert rota.next([A], 2) is None
    assert rota.next([A], 20) == A


def test_the_rota_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "PEERS_MAX", 10)
    rota = Rota()
    for number in range(100):
        run_rota(rota, [PeerId(str(number))], float(number), SessionEnd.FAULT)
    assert len(rota._last) <= 11
    assert len(rota._faults) <= 11
