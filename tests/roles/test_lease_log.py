"""The steps of leases: their order, their bounds, and what a provider may tell of its own."""

import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger import NOW
from xnode.core.codec import decode, encode
from xnode.core.values import NS, Hash
from xnode.roles.lease_log import LEASES_MAX, STEPS_MAX, TOLD_MAX, LeaseLog, Step, steps_read, steps_wire

LEASE = Hash(b"l" * 32)


def new_log(now: int = NOW) -> LeaseLog:
    return LeaseLog(lambda: now)


def test_no_two_steps_at_one_time_and_no_repetition() -> None:
    log = new_log()
    for word in ("a", "b", "b", "c"):
        log.record(LEASE, word)
    assert log.steps(LEASE) == (Step(NOW, "a", ""), Step(NOW + 1, "b", ""), Step(NOW + 2, "c", ""))
    assert [step.step for step in log.since(LEASE, NOW)] == ["b", "c"]


def test_steps_and_leases_are_bounded() -> None:
    log = new_log()
    for number in range(STEPS_MAX + 5):
        log.record(LEASE, f"step {number}")
    steps = log.steps(LEASE)
    assert (len(steps), steps[0].step, steps[1].step) == (STEPS_MAX, "step 0", "step 6")
    assert len(log.since(LEASE, 0)) == TOLD_MAX
    for number in range(LEASES_MAX):
        log.record(Hash(number.to_bytes(32, "big")), "a")
    assert log.steps(LEASE) == ()


def test_a_provider_can_not_date_its_steps_ahead_or_before_what_is_known() -> None:
    log = new_log()
    log.record(LEASE, "requested")
    log.take(LEASE, [Step(NOW - 9, "early", "", 1), Step(NOW + NS, "late", "x", None)])
    assert log.steps(LEASE)[1:] == (
        Step(NOW + 1, "provider_early", "", 1),
        Step(NOW + 2, "provider_late", "x", None),
    )


async def test_a_stopwatch_times_each_step_and_the_whole(autojump_clock: object) -> None:
    log = new_log()
    watch = log.stopwatch(LEASE)
    for seconds in (1, 2):
        await trio.sleep(seconds)
        assert watch.step(f"after {seconds}") == seconds * 1000
    watch.whole("all")
    assert [step.duration_ms for step in log.steps(LEASE)] == [1000, 2000, 3000]


def test_steps_cross_the_wire_and_are_cut() -> None:
    steps = [Step(NOW, "word", "detail", 5), Step(NOW + 1, "w" * 100, "d\n" * 900, None)]
    whole, cut = steps_read(decode(encode(steps_wire(steps))))
    assert whole == steps[0]
    assert (len(cut.step), len(cut.detail), cut.duration_ms) == (64, 512, None)
    assert cut.detail.isprintable()


PLAIN = st.none() | st.booleans() | st.integers(0, 2**64 - 1) | st.binary(max_size=4) | st.text(max_size=4)


@given(st.lists(PLAIN | st.lists(PLAIN, max_size=5).map(tuple), max_size=5).map(tuple) | PLAIN)
def test_whatever_a_provider_tells_is_steps_or_nothing(wire: object) -> None:
    for step in steps_read(wire):  # type: ignore[arg-type]
        assert 0 <= step.at < 2**64
        assert step.step.isprintable()
