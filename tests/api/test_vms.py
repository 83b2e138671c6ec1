"""Life cycle, console and metrics of machines over HTTP: what crosses to the node, and what its answers become."""

import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.support.ledger import NOW
from tests.support.node_port import MemoryNode, Running, access_headers, running_api, serving
from tests.support.raw_http import connect
from xnode.api import console
from xnode.api.port import AccessProof
from xnode.api.settings import ApiSettings
from xnode.core.faults import Ended, NotAllowed, PeerFault, Unproved, WrongState
from xnode.core.lease import LeaseState
from xnode.core.power import Verb

UNKNOWN = "ab" * 32
SETTINGS = ApiSettings(port=0, rate=1e6, burst=1e6, console_followers_max=2)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_api(tmp_path_factory.mktemp("node"), SETTINGS) as running:
        yield running


@pytest.fixture
def running(shared: Running) -> Iterator[Running]:
    yield shared
    shared.node.faults.clear()
    shared.node.heard.clear()
    shared.node.console = b"it boots\n"


def url_of(running: Running, what: str, state: LeaseState = LeaseState.ACCEPTED) -> str:
    return f"/vms/{running.node.leases[state].hex()}/{what}"


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("verb", Verb)
def test_a_verb_reaches_the_node_and_its_refusal_comes_back(running: Running, verb: Verb) -> None:
    answer = running.http.post(url_of(running, verb), json={})
    told = ("steer", (running.node.leases[LeaseState.ACCEPTED], verb, None))
    assert running.node.heard == [told]
    if verb in (Verb.START, Verb.RESUME):  # the machine runs
        assert code_of(answer) == (409, "vm_running")
        assert "stop or reboot or pause or reset it" in answer.json()["error"]
        return
    state = "paused" if verb is Verb.PAUSE else "running"
    assert answer.json() == {"lease_hash": told[1][0].hex(), "status": state, "duration_ms": 12}


def test_an_unknown_machine_and_an_unknown_verb(running: Running) -> None:
    for name in (UNKNOWN, "short"):
        assert code_of(running.http.post(f"/vms/{name}/stop", json={})) == (404, "vm_unknown")
        assert code_of(running.http.get(f"/vms/{name}/console")) == (404, "vm_unknown")
        assert code_of(running.http.get(f"/vms/{name}/metrics")) == (404, "vm_unknown")
    assert code_of(running.http.post(url_of(running, "dance"), json={})) == (404, "path_unknown")
    assert code_of(running.http.get(url_of(running, "stop"))) == (405, "method_not_allowed")


def test_an_act_takes_no_fields_and_says_json(running: Running) -> None:
    assert code_of(running.http.post(url_of(running, "stop"), json={"force": True})) == (400, "unknown_field")
    assert code_of(running.http.post(url_of(running, "stop"), content=b"")) == (415, "not_json")
    assert running.node.heard == []


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (NotAllowed("not_your_lease", "x"), 403),
        (Unproved("access_used", "x"), 401),
        (WrongState("vm_busy", "x", retryable=True), 409),
        (Ended("lease_ended", "x"), 410),
        (PeerFault("unreachable", "x"), 502),
    ],
)
def test_faults_become_statuses(running: Running, fault: Exception, status: int) -> None:
    running.node.faults = dict.fromkeys(("steer", "watch_console", "figures"), fault)
    assert running.http.post(url_of(running, "stop"), json={}).status_code == status
    assert running.http.get(url_of(running, "console")).status_code == status
    assert running.http.get(url_of(running, "console?follow=true")).status_code == status
    assert running.http.get(url_of(running, "metrics")).status_code == status


def test_a_proof_crosses_to_the_node(running: Running) -> None:
    headers = access_headers(running.node, running.node.leases[LeaseState.ACCEPTED])
    proof = AccessProof(bytes.fromhex(headers["X-Access-Signature"]), NOW)  # type: ignore[arg-type]
    running.http.post(url_of(running, "stop"), json={}, headers=headers)
    running.http.get(url_of(running, "console"), headers=headers)
    running.http.get(url_of(running, "metrics"), headers=headers)
    assert [told[-1] for _, told in running.node.heard] == [proof] * 3


def test_metrics(running: Running) -> None:
    answer = running.http.get(url_of(running, "metrics")).json()
    assert answer["lease_hash"] == running.node.leases[LeaseState.ACCEPTED].hex()
    assert (answer["cpu_ns"], answer["guest_memory_bytes"], answer["network_sent_bytes"]) == (1, None, 8)
    stopped = running.http.get(url_of(running, "metrics", LeaseState.SETTLED))
    assert code_of(stopped) == (409, "vm_stopped")


def test_looking_at_a_machine_asks_its_provider(running: Running) -> None:
    lease_hash = running.node.leases[LeaseState.ACCEPTED]
    running.http.get(f"/vms/{lease_hash.hex()}")
    assert running.node.heard == [("refresh_lease", (lease_hash,))]


def read(running: Running, query: str = "") -> tuple[bytes, str]:
    answer = running.http.get(url_of(running, "console") + query)
    assert answer.headers["content-type"] == "application/octet-stream"
    return answer.content, answer.headers["x-next-position"]


def test_the_console_in_pieces(running: Running) -> None:
    assert read(running) == (b"it boots\n", "9")
    assert read(running, "?position=3") == (b"boots\n", "9")
    assert read(running, "?position=-3") == (b"ts\n", "9")
    assert read(running, "?position=9") == (b"", "9")
    assert read(running, "?position=1000") == (b"it boots\n", "9")
    for query in ("?position=x", "?follow=maybe", "?position=1&position=2", "?patience=1"):
        assert running.http.get(url_of(running, "console") + query).status_code == 400


def test_one_answer_is_bounded(running: Running) -> None:
    running.node.console = bytes(range(256)) * 4096
    first, position = read(running)
    assert console.ANSWER_BYTES_MAX <= len(first) <= console.ANSWER_BYTES_MAX + 100_000
    assert int(position) == len(first)
    rest = b""
    while (part := read(running, f"?position={position}"))[0]:
        rest, position = rest + part[0], part[1]
    assert first + rest == running.node.console


def follow(running: Running) -> Any:
    return running.http.stream("GET", url_of(running, "console?follow=true"))


def wait_for_no_followers(running: Running) -> None:
    for _ in range(500):
        if "xnode_api_console_followers 0\n" in running.http.get("/metrics").text:
            return
        time.sleep(0.01)
    raise AssertionError("a follower that left is still counted")


def test_the_console_is_followed_until_the_machine_is_gone(running: Running) -> None:
    with follow(running) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"it boots\n"
        running.node.console = b"it boots\nand it is up\n"
        assert next(pieces) == b"and it is up\n"
        running.node.console = b"anew\n"  # its console was emptied by a start
        assert next(pieces) == b"anew\n"
        running.node.console = None
        assert list(pieces) == []
    wait_for_no_followers(running)


def test_followers_are_bounded_and_leave(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with follow(running) as first:
        pieces = first.iter_raw()  # closes the stream when it is let go of
        next(pieces)
        monkeypatch.setattr(console, "FOLLOWERS_PER_LEASE_MAX", 1)
        assert code_of(running.http.get(url_of(running, "console?follow=true"))) == (503, "too_many_followers")
        with running.http.stream("GET", url_of(running, "console?follow=true", LeaseState.SETTLED)) as second:
            others = second.iter_raw()
            next(others)
            monkeypatch.setattr(console, "FOLLOWERS_PER_LEASE_MAX", 9)
            assert code_of(running.http.get(url_of(running, "console?follow=true"))) == (503, "too_many_followers")
    wait_for_no_followers(running)


async def test_requests_at_once_do_not_get_past_the_bound(tmp_path: Path) -> None:
    node = MemoryNode(tmp_path)
    node.console = b"it boots\n"
    release = node.waits["watch_console"] = trio.Event()
    path = f"/vms/{node.leases[LeaseState.ACCEPTED].hex()}/console?follow=true"
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with AsyncExitStack() as stack:
        bound = await stack.enter_async_context(serving(node, ApiSettings(port=0, console_followers_max=1)))
        first, second = [await stack.enter_async_context(connect(bound.port)) for _ in range(2)]
        await first.send(request.encode())
        with trio.fail_after(5):
            await node.entered.wait()
            await second.send(request.encode())
            assert (await second.head()).startswith(b"HTTP/1.1 503")
            release.set()
            assert (await first.head()).startswith(b"HTTP/1.1 200")
    node.store.close()


def test_what_is_followed_is_bounded(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "FOLLOW_BYTES_MAX", 15)
    with follow(running) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        running.node.console = b"it boots\nand writes\n"
        assert b"".join(pieces) == b"and writes\n"
    wait_for_no_followers(running)
