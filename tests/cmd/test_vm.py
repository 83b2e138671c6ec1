"""`xnode vm` and `xnode lease events` at a node: what is asked, what is shown; and what a console may not do."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Ended, invoke
from tests.support.node_port import Running, running_api
from xnode.core.lease import LeaseState
from xnode.core.power import Verb
from xnode.roles.lease_log import Step
from xnode_cmd.console_text import UNFINISHED_CHARACTERS_MAX, ConsoleText
from xnode_cmd.lease_progress import step_text
from xnode_cmd.output import show_bytes
from xnode_cmd.vm import VERBS


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with running_api(tmp_path / "node") as running:
        yield running


def ask(running: Running, *words: str) -> Ended:
    lease = running.node.leases[LeaseState.ACCEPTED].hex()[:16]
    return invoke(*[lease if word == "LEASE" else word for word in words], "--api", str(running.http.base_url))


def test_there_is_a_command_for_each_verb() -> None:
    assert set(VERBS) == set(Verb)


def test_a_verb_says_what_has_become_of_it(running: Running) -> None:
    lease_hash = running.node.leases[LeaseState.ACCEPTED]
    ended = ask(running, "vm", "pause", "LEASE")
    assert (ended.status, ended.out) == (0, f"pause: the machine of lease {lease_hash.hex()[:12]} is paused (0.0 s)\n")
    assert ("steer", (lease_hash, Verb.PAUSE, None)) in running.node.heard
    asked = json.loads(ask(running, "vm", "reboot", "LEASE", "--json").out)
    assert asked == {"lease_hash": lease_hash.hex(), "status": "running", "duration_ms": 12}


def test_a_refusal_says_what_to_do(running: Running) -> None:
    ended = ask(running, "vm", "start", "LEASE")
    assert ended.status == 1
    assert (
        ended.err
        == "Error: the machine is running, so it can't be told to start: stop or reboot or pause or reset it\n"
    )


def test_metrics(running: Running) -> None:
    ended = ask(running, "vm", "metrics", "LEASE")
    assert ended.out.splitlines() == [
        "cpu      0.0 s",
        "memory   2 B of the host's, unknown in use by the guest",
        "disk     3 B of the host's; read 4 B, written 5 B",
        "network  received 7 B, sent 8 B",
    ]
    assert json.loads(ask(running, "vm", "metrics", "LEASE", "--json").out)["cpu_ns"] == 1


def test_console(running: Running) -> None:
    running.node.console = b"\x1b[1;32mgreen\x1b[0m\r\n\xff\x07"
    assert ask(running, "vm", "console", "LEASE").out == "green\n\N{REPLACEMENT CHARACTER}"
    assert ask(running, "vm", "console", "LEASE", "--position", "-3").out == "\n\N{REPLACEMENT CHARACTER}"
    running.node.faults["watch_console"] = Exception()
    assert ask(running, "vm", "console", "LEASE").status == 1


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain\ttext\n", "plain\ttext\n"),
        (b"\x1b[2J\x1b[Hhome", "home"),
        (b"\x1b]0;title\x07after", "after"),
        (b"\x1b]0;title\x1b\\after", "after"),
        (b"\x1bMup", "up"),
        ("é\x85\u202e".encode(), "é"),
    ],
)
def test_a_console_can_not_touch_the_terminal(raw: bytes, shown: str) -> None:
    for size in (1, 2, len(raw)):
        text = ConsoleText()
        pieces = [text.clean(raw[at : at + size]) for at in range(0, len(raw), size)]
        assert b"".join(pieces).decode() == shown


def test_an_escape_that_never_ends_is_not_kept_for_ever() -> None:
    text = ConsoleText()
    for _ in range(UNFINISHED_CHARACTERS_MAX):
        assert b"\x1b" not in text.clean(b"\x1b]0;" if not text._held else b"xx")
    assert len(text._held) <= UNFINISHED_CHARACTERS_MAX


def test_events_are_shown_with_their_times(running: Running) -> None:
    running.node.steps[running.node.leases[LeaseState.ACCEPTED]] = (
        Step(1_000_000, "provider_booted", "", 3_400),
        Step(2_000_000_000, "requested", f"for {'ab' * 32}", None),
    )
    assert ask(running, "lease", "events", "LEASE").out.splitlines() == [
        "1970-01-01 00:00:00.001Z  provider booted (3.4 s)",
        "1970-01-01 00:00:02.000Z  requested: for abababababab",
    ]
    first, _ = ask(running, "lease", "events", "LEASE", "--json").out.splitlines()
    assert json.loads(first) == {"time": 1_000_000, "step": "provider_booted", "detail": "", "duration_ms": 3_400}


def test_the_end_of_a_lease_is_an_event(running: Running) -> None:
    lease = running.node.leases[LeaseState.SETTLED].hex()
    ended = invoke("lease", "events", lease, "--follow", "--api", str(running.http.base_url))
    assert ended.out == "end: settled\n"
    assert step_text({"state": "settled", "detail": "x"}) == "settled: x"


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, "unknown"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 29, "1.5 GiB"), (1 << 41, "2048.0 GiB")],
)
def test_bytes_are_shown_in_their_unit(count: int | None, shown: str) -> None:
    assert show_bytes(count) == shown
