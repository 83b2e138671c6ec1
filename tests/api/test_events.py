"""The event stream of one lease."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.node_port import Running, running_api
from xnode.api import clients, events
from xnode.api.settings import ApiSettings
from xnode.core.lease import LeaseState
from xnode.core.values import Hash
from xnode.roles.lease_log import Step

STEPS = (
    Step(10, "created", "the lease block is on its way", 7),
    Step(20, "accepted", ""),
    Step(20, "running", "ssh answers"),
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_api(tmp_path_factory.mktemp("node"), ApiSettings(port=0, followers_max=1)) as running:
        yield running


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "POLL_SECONDS", 0.005)


def url_of(lease_hash: Hash) -> str:
    return f"/leases/{lease_hash.hex()}/events"


def read(answer: httpx.Response) -> Iterator[tuple[str, str, dict[str, object]]]:
    """(id, event, data) one by one."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
        elif line == "" and "data" in fields:
            yield fields["id"], fields["event"], json.loads(fields["data"])
            fields = {}


def test_an_ended_lease_is_told_to_its_end(running: Running) -> None:
    lease_hash = running.node.leases[LeaseState.SETTLED]
    running.node.steps[lease_hash] = STEPS
    with running.http.stream("GET", url_of(lease_hash)) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = list(read(answer))
    assert [(name, event) for name, event, _ in told[:-1]] == [(str(at), step) for at, step, _, _ in STEPS]
    assert told[0][2] == {"time": 10, "step": "created", "detail": STEPS[0].detail, "duration_ms": 7}
    assert told[1][2]["duration_ms"] is None
    assert told[-1][1:] == ("end", {"state": "settled", "detail": "ssh answers"})


def test_going_on_behind_an_event(running: Running) -> None:
    lease_hash = running.node.leases[LeaseState.SETTLED]
    running.node.steps[lease_hash] = STEPS
    with running.http.stream("GET", url_of(lease_hash), headers={"Last-Event-ID": "10"}) as answer:
        assert [event for _, event, _ in read(answer)] == ["accepted", "running", "end"]


def test_a_lease_is_followed_while_it_lives(running: Running) -> None:
    lease_hash = running.node.open_lease(77)
    running.node.steps[lease_hash] = STEPS[:1]
    with running.http.stream("GET", url_of(lease_hash)) as answer:
        told = read(answer)
        assert next(told)[1] == "created"
        running.node.steps[lease_hash] = STEPS[:2]
        assert next(told)[1] == "accepted"
        running.node.steps[lease_hash] = STEPS
        assert next(told)[1] == "running"
        running.node.play(lambda view: running.node.alice.cancel(view, lease_hash))
        assert [(event, data["state"]) for _, event, data in told] == [("end", "cancelled")]


def test_followers_are_bounded_and_leave(running: Running) -> None:
    lease_hash = running.node.open_lease(78)
    running.node.steps[lease_hash] = STEPS[:1]
    with running.http.stream("GET", url_of(lease_hash)) as answer:
        told = read(answer)
        next(told)
        second = running.http.get(url_of(lease_hash))
        assert (second.status_code, second.json()["code"]) == (503, "too_many_followers")
        assert "xnode_api_event_streams 1\n" in running.http.get("/metrics").text
    for _ in range(200):
        if "xnode_api_event_streams 0\n" in running.http.get("/metrics").text:
            break
    else:
        raise AssertionError("the follower that left is still counted")


def test_a_client_s_share_of_the_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_api(tmp_path, ApiSettings(port=0, followers_per_client_max=1)) as running:
        url = url_of(running.node.leases[LeaseState.CREATED])
        with running.http.stream("GET", url), running.http.stream("GET", url) as second:
            assert second.status_code == 200
            monkeypatch.setattr(clients, "is_loopback", lambda _: False)
            refused = running.http.get(url)
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_followers")


def test_an_unknown_lease(running: Running) -> None:
    assert running.http.get(url_of(Hash(bytes(32)))).status_code == 404
    assert running.http.head(url_of(running.node.leases[LeaseState.CREATED])).status_code == 200


def test_a_stopping_server_ends_the_streams(tmp_path: Path) -> None:
    with ExitStack() as stack:
        with running_api(tmp_path, ApiSettings(port=0, grace=5)) as running:
            lease_hash = running.node.leases[LeaseState.CREATED]
            running.node.steps[lease_hash] = STEPS[:1]
            client = stack.enter_context(httpx.Client(base_url=running.http.base_url, trust_env=False))
            told = read(stack.enter_context(client.stream("GET", url_of(lease_hash))))
            next(told)
        assert list(told) == []
