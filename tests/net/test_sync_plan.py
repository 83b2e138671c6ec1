"""The rules of a sync session, without any stream."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.toy_ledger import account
from xnode.core.blocks import BLOCK_BYTES_MAX
from xnode.core.codec import encode
from xnode.core.faults import PeerFault
from xnode.core.values import U64_MAX, ZERO_HASH, Hash
from xnode.net import sync_plan as plan
from xnode.net.sync_plan import Asking, Comparison, Frontier, Record, Resume, Summary, Taken
from xnode.net.sync_ranges import BITMAP_BYTES, PARTS_BYTES

HEAD = Hash(b"h" * 32)
OTHER = Hash(b"o" * 32)
EXACT = Asking(follows=False)
FOLLOWING = Asking(follows=True)


def frontiers(count: int) -> list[Frontier]:
    return sorted((account(number), number, HEAD) for number in range(1, count + 1))


def compare(ours: list[Frontier], pages: list[Record], steps: int = 7) -> Comparison:
    comparison = Comparison(iter(sorted(ours)))
    for number, record in enumerate(pages, start=1):
        assert comparison.add(record) == (number == len(pages))
        while not comparison.advance(steps):
            pass
    return comparison


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 1024, 1500])
def test_frontiers_cross_in_pages(count: int) -> None:
    sent = frontiers(count)
    pages = list(plan.frontier_pages(sent))
    assert max(len(encode(page)) for page in pages) <= plan.SMALL_BYTES_MAX
    assert compare(sent, pages).wanted == {}
    ahead = [(owner, height + 1, OTHER) for owner, height, _ in sent]
    assert compare(ahead, pages).wanted == {owner: (height, HEAD) for owner, height, _ in sent}


def test_frontiers_above_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "FRONTIERS_MAX", 600)
    comparison = Comparison(iter(()))
    many = frontiers(700)
    comparison.add((plan.FRONTIERS, tuple(many[:512]), False))
    with pytest.raises(PeerFault) as caught:
        comparison.add((plan.FRONTIERS, tuple(many[512:]), True))
    assert caught.value.code == "too_many"


def test_accounts_that_we_do_not_know_are_not_kept() -> None:
    assert compare([], list(plan.frontier_pages(frontiers(1500)))).wanted == {}


def test_one_asker_makes_us_look_at_so_many_chains_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "WANTED_MAX", 10)
    assert len(compare(frontiers(50), list(plan.frontier_pages([]))).wanted) == 10


chains = st.dictionaries(st.integers(1, 30), st.integers(1, 9))


@settings(max_examples=40, deadline=None)
@given(chains, chains, st.integers(1, 5))
def test_what_is_wanted_is_what_we_have_more_of(ours: dict[int, int], theirs: dict[int, int], steps: int) -> None:
    def ends(heights: dict[int, int]) -> list[Frontier]:
        return sorted((account(number), heights[number], HEAD) for number in heights)

    wanted = compare(ends(ours), list(plan.frontier_pages(ends(theirs))), steps).wanted
    assert wanted == {
        account(number): (theirs.get(number, 0), HEAD if number in theirs else ZERO_HASH)
        for number in ours
        if ours[number] > theirs.get(number, 0)
    }


def rising(*entries: tuple[int, object, object]) -> tuple[object, ...]:
    return tuple(sorted((account(number), height, head) for number, height, head in entries))


@pytest.mark.parametrize(
    "record",
    [
        (),
        (plan.FRONTIERS, (), False),
        (plan.FRONTIERS, tuple(frontiers(2)[::-1]), True),
        (plan.FRONTIERS, (frontiers(1)[0], frontiers(1)[0]), True),
        (plan.FRONTIERS, rising((1, 0, HEAD)), True),
        (plan.FRONTIERS, rising((1, True, HEAD)), True),
        (plan.FRONTIERS, rising((1, 1, b"short")), True),
        (plan.FRONTIERS, (1,), True),
        (plan.FRONTIERS, (), 1),
        (plan.ASK, (), True),
        (plan.FRONTIERS, tuple(frontiers(513)), True),
    ],
)
def test_bad_frontiers_are_the_peers_fault(record: Record) -> None:
    with pytest.raises(PeerFault):
        Comparison(iter(frontiers(9))).add(record)


def test_a_fork_is_wanted_with_the_head_that_differs() -> None:
    ours: list[Frontier] = [(account(number), 5, HEAD) for number in range(1, 6)]
    ours[0] = (account(1), 8, OTHER)
    known = sorted([(account(1), 5, HEAD), (account(2), 5, HEAD), (account(3), 5, OTHER), (account(4), 9, OTHER)])
    assert compare(ours, [(plan.FRONTIERS, tuple(known), True)]).wanted == {
        account(1): (5, HEAD),  # we are ahead
        account(3): (5, OTHER),  # a fork: something from below is sent
        account(5): (
            0,
            ZERO_HASH,
        ),  # unknown to them, so all of it is sent
    }


def page(count: int, last: bool, start: int = 0, after: int = 0) -> Record:
    return (plan.BLOCKS, tuple(b"%d" % number for number in range(start, start + count)), after, last)


def test_pages_grow_and_a_session_is_bounded() -> None:
    state, counts, coming = EXACT, [], []
    while not state.is_over:
        while plan.may_ask(state):
            state, (_, count) = plan.ask(state)
            assert isinstance(count, int)
            counts.append(count)
            coming.append(count)
        assert len(coming) <= plan.PAGES_AHEAD
        state, wires = plan.on_page(state, page(coming.pop(0), False))
        state = plan.on_taken(state, Taken(applied=len(wires)))
    assert counts[:4] == [64, 128, 256, 256]
    assert sum(counts) == plan.SESSION_BLOCKS_MAX == state.received == state.taken.applied
    assert coming == []


def test_a_short_page_must_be_the_last() -> None:
    asking, _ = plan.ask(EXACT)
    state, wires = plan.on_page(asking, page(3, True))
    assert (len(wires), state.is_over) == (3, True)
    with pytest.raises(PeerFault, match="asked for"):
        plan.on_page(asking, page(3, False, after=9))
    with pytest.raises(PeerFault, match="asked for"):
        plan.on_page(asking, page(0, False))


def test_a_short_page_of_a_log_must_get_on() -> None:
    asking, _ = plan.ask(FOLLOWING._replace(after=5))
    state, _ = plan.on_page(asking, page(3, False, after=9))
    assert (state.after, state.is_over) == (9, False)
    with pytest.raises(PeerFault, match="asked for"):
        plan.on_page(asking, page(0, False, after=5))
    with pytest.raises(PeerFault, match="go back"):
        plan.on_page(asking, page(64, False, after=4))


def test_a_log_of_empty_pages_ends() -> None:
    state, pages = FOLLOWING, 0
    while not state.is_over:
        while plan.may_ask(state):
            state, _ = plan.ask(state)
        pages += 1
        state, _ = plan.on_page(state, page(0, False, after=pages))
    assert pages == plan.SESSION_PAGES_MAX


@pytest.mark.parametrize("last", [True, False])
def test_more_than_asked_for_is_the_peers_fault(last: bool) -> None:
    asking, _ = plan.ask(EXACT)
    with pytest.raises(PeerFault) as caught:
        plan.on_page(asking, page(65, last))
    assert caught.value.code == "not_asked"


@pytest.mark.parametrize("items", [(b"",), (b"x", b"x"), (b"x" * (BLOCK_BYTES_MAX + 1),), (1,), ("x",), (None,)])
def test_bad_blocks_in_a_page(items: Record) -> None:
    asking, _ = plan.ask(EXACT)
    with pytest.raises(PeerFault) as caught:
        plan.on_page(asking, (plan.BLOCKS, items, 0, True))
    assert caught.value.code == "malformed"


def test_a_full_page_of_long_blocks_fits_its_bound() -> None:
    for count in (1, 64, 256):
        wires = tuple(bytes([number]) * BLOCK_BYTES_MAX for number in range(count))
        assert len(encode((plan.BLOCKS, wires, U64_MAX, True))) <= plan.page_bytes_max(count)


def test_useless_blocks_end_the_session() -> None:
    state = EXACT
    for _ in range(4):
        state = plan.on_taken(state, Taken(refused=256))
    assert plan.on_taken(state, Taken(applied=1, refused=255)).refused == 0
    with pytest.raises(PeerFault) as caught:
        plan.on_taken(state, Taken(refused=1))
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


def theirs(blocks: int, last_arrival: int) -> Summary:
    return Summary(bytes(PARTS_BYTES), blocks, last_arrival)


def test_who_is_far_behind_follows_from_the_beginning() -> None:
    assert plan.resume_from(None, {0, 3}, 0, theirs(1_000, 1_200)) == Resume(0b1001, 0)
    assert plan.resume_from(None, {0, 3}, 0, theirs(999, 1_200)) is None
    assert plan.resume_from(None, {0, 3}, 600, theirs(2_000, 2_000)) is None


def test_who_has_followed_goes_on_where_it_was_with_the_parts_it_had() -> None:
    known = Resume(0b0111, 5_000)
    assert plan.resume_from(known, {1, 2, 3}, 4_900, theirs(9_000, 9_000)) == Resume(0b0110, 5_000)
    assert plan.resume_from(known, {3}, 4_900, theirs(9_000, 9_000)) is None
    assert plan.resume_from(known, {1}, 4_900, theirs(5_500, 5_999)) is None


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 9)
    | st.binary(max_size=33)
    | st.sampled_from([bytes(32), bytes(PARTS_BYTES), bytes(BITMAP_BYTES)]),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(plain, max_size=4).map(tuple))
def test_any_record_is_understood_or_the_peers_fault(record: Record) -> None:
    asking, _ = plan.ask(EXACT)
    readers = (
        plan.parse_digest,
        plan.parse_summary,
        plan.parse_follow,
        plan.parse_exact,
        lambda item: plan.parse_buckets(item, 1),
        lambda item: Comparison(iter(())).add(item),
        lambda item: plan.on_page(asking, item),
        lambda item: plan.parse_ask(item, 0),
    )
    for reader in readers:
        try:
            reader(record)
        except PeerFault as fault:
            assert fault.code in {"malformed", "not_asked", "too_many"}  # noqa: PT017 - many inputs are good
