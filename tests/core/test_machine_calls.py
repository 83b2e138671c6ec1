"""Questions about a machine and their answers: the wire both ways, and whatever a peer may send."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnode.core import machine_calls
from xnode.core.codec import Malformed, decode, encode
from xnode.core.faults import (
    CallerFault,
    Ended,
    Fault,
    MachineFault,
    NotAllowed,
    NotFound,
    OperatorFault,
    PeerFault,
    Unavailable,
    Unproved,
    WrongState,
)
from xnode.core.machine import ConsolePart, MachineFigures, MachineStatus
from xnode.core.machine_calls import CONSOLE_BYTES_MAX, Done, Question, read_console, read_done, read_figures
from xnode.core.values import Hash, Signature

FIGURES = MachineFigures(1, 2, 3, 4, 5, 6, 7, 8, 9)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=8,
)
WORDS = st.sampled_from(["done", "under_way", "console", "figures", "refused"])


def over_the_wire(args: Any) -> Any:
    return decode(encode(args))


def test_a_question_both_ways() -> None:
    question = Question(Hash(b"l" * 32), "console", 5, Signature(b"s" * 64), (1, 0, 2000))
    assert machine_calls.read_question(over_the_wire(question.wire())) == question


@pytest.mark.parametrize(
    "args",
    [
        (),
        (b"l" * 31, "stop", 1, b"s" * 64, ()),
        (b"l" * 32, b"stop", 1, b"s" * 64, ()),
        (b"l" * 32, "stop", True, b"s" * 64, ()),
        (b"l" * 32, "stop", 1, b"s" * 63, ()),
        (b"l" * 32, "stop", 1, b"s" * 64, (1, 2, 3, 4, 5)),
        (b"l" * 32, "stop", 1, b"s" * 64, (True,)),
        (b"l" * 32, "stop", 1, b"s" * 64),
    ],
)
def test_no_question(args: Any) -> None:
    with pytest.raises(Malformed):
        machine_calls.read_question(args)


def test_answers_both_ways() -> None:
    done = Done(MachineStatus.PAUSED, 12)
    assert read_done(over_the_wire(machine_calls.done_answer(done))) == done
    assert read_done(over_the_wire(machine_calls.done_answer(None))) is None
    part = ConsolePart(b"\xff\x00", 7)
    assert read_console(over_the_wire(machine_calls.console_answer(part))) == part
    silent = FIGURES._replace(guest_memory_bytes=None, network_received_bytes=None, network_sent_bytes=None)
    for figures in (FIGURES, silent):
        assert read_figures(over_the_wire(machine_calls.figures_answer(figures))) == figures


def test_a_console_is_cut_to_what_one_answer_holds() -> None:
    part = ConsolePart(b"x" * (CONSOLE_BYTES_MAX + 9), CONSOLE_BYTES_MAX + 109)
    assert read_console(machine_calls.console_answer(part)) == (b"x" * CONSOLE_BYTES_MAX, CONSOLE_BYTES_MAX + 100)


@pytest.mark.parametrize(
    ("fault", "back"),
    [
        (CallerFault("a", "b"), CallerFault),
        (NotFound("a", "b"), NotFound),
        (NotAllowed("a", "b"), NotAllowed),
        (Unproved("a", "b"), NotAllowed),
        (WrongState("a", "b", retryable=True), WrongState),
        (Ended("a", "b"), Ended),
        (Unavailable("a", "b"), Unavailable),
        (MachineFault("a", "b"), MachineFault),
        (OperatorFault("a", "b"), PeerFault),
    ],
)
@pytest.mark.parametrize("read", [read_done, read_console, read_figures])
def test_a_refusal_keeps_its_kind_and_words(fault: Fault, back: type[Fault], read: Any) -> None:
    with pytest.raises(back) as caught:
        read(over_the_wire(machine_calls.refusal(fault)))
    assert type(caught.value) is back
    assert (caught.value.code, str(caught.value), caught.value.retryable) == ("a", "b", fault.retryable)


@given(st.lists(PLAIN | WORDS, max_size=5).map(tuple), st.sampled_from([read_done, read_console, read_figures]))
def test_any_answer_is_read_or_the_peers_fault(answer: Any, read: Any) -> None:
    told: Fault | None = None
    try:
        read(answer)
    except Fault as fault:
        told = fault
    if told is None:
        assert answer[0] in ("done", "under_way", "console", "figures")
    else:
        assert str(told).isprintable()
        assert told.code.isascii()
