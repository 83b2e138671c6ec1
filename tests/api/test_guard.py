"""Who may call what, over real HTTP; and the rate limit's arithmetic."""

import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.node_port import Running, access_headers, running_api
from xnode.api import parse
from xnode.api.app import create_app
from xnode.api.clients import client_of, is_loopback
from xnode.api.guard import Buckets
from xnode.api.settings import ApiSettings
from xnode.core.faults import OperatorFault
from xnode.core.lease import LeaseState
from xnode.core.power import Verb

TOKEN = "correct-horse-battery-staple"
PAGE = "https://wallet.example"
LEASE = "ab" * 32
VERBS = tuple(f"/vms/{LEASE}/{verb}" for verb in Verb)
ACTING = ("/lease/request", "/lease/quote", f"/leases/{LEASE}/cancel", "/peers", f"/vms/{LEASE}/exec", *VERBS)
PRIVATE = (f"/vms/{LEASE}/console", f"/vms/{LEASE}/metrics")


@pytest.fixture(scope="module")
def open_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_api(tmp_path_factory.mktemp("open")) as running:
        yield running


@pytest.fixture(scope="module")
def closed_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = ApiSettings(
        port=0, token=TOKEN, rate=1e6, burst=1e6, cors_origins=(PAGE,), hosts=("node.example",), body_bytes_max=1000
    )
    with running_api(tmp_path_factory.mktemp("closed"), settings) as running:
        yield running


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("path", ACTING)
def test_acting_needs_the_token(closed_api: Running, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        answer = closed_api.http.post(path, json={}, headers=headers)
        assert code_of(answer) == (401, "bad_token")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.text
    allowed = closed_api.http.post(path, json={}, headers={"Authorization": f"Bearer {TOKEN}"})
    assert allowed.status_code in (400, 404)


@pytest.mark.parametrize("path", PRIVATE)
def test_what_a_machine_says_of_itself_needs_the_token(closed_api: Running, path: str) -> None:
    assert code_of(closed_api.http.get(path)) == (401, "bad_token")
    allowed = closed_api.http.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert code_of(allowed) == (404, "vm_unknown")


@pytest.mark.parametrize("path", [*VERBS, *PRIVATE])
def test_a_lease_keys_proof_stands_in_for_the_token(closed_api: Running, path: str) -> None:
    headers = access_headers(closed_api.node, closed_api.node.leases[LeaseState.ACCEPTED])
    send = closed_api.http.get if path in PRIVATE else partial(closed_api.http.post, json={})
    assert code_of(send(path, headers=headers)) == (404, "vm_unknown")
    for name, flaw in (("X-Access-Signature", "zz"), ("X-Access-Timestamp", "-1"), ("X-Access-Timestamp", "9" * 20)):
        assert send(path, headers=headers | {name: flaw}).status_code == 401
    for name in headers:
        assert send(path, headers={name: headers[name]}).status_code == 401


def test_reads_are_open(closed_api: Running) -> None:
    for path in ("/leases", "/providers", "/vms", "/node", "/health", "/ready", "/metrics", "/docs"):
        assert closed_api.http.get(path).status_code == 200


def test_without_a_token_loopback_may_act(open_api: Running) -> None:
    assert open_api.http.post("/peers", json={"address": "/ip4/127.0.0.1"}).json() == {"address": "/ip4/127.0.0.1"}


def test_a_tunnel_needs_the_token_or_a_proof(closed_api: Running) -> None:
    lease_hash = closed_api.node.leases[LeaseState.SETTLED]
    url = f"/tunnel/{lease_hash.hex()}/tcp"
    assert code_of(closed_api.http.post(url)) == (401, "bad_token")
    assert code_of(closed_api.http.post(url, headers={"Authorization": f"Bearer {TOKEN}"})) == (410, "lease_ended")
    assert code_of(closed_api.http.post(url, headers=access_headers(closed_api.node, lease_hash))) == (
        410,
        "lease_ended",
    )


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.7"])
def test_bound_to_others_without_a_token_it_does_not_start(open_api: Running, bind: str) -> None:
    with pytest.raises(OperatorFault, match="xnode token new") as caught:
        create_app(open_api.node, None, ApiSettings(bind=bind))  # type: ignore[arg-type]
    assert caught.value.code == "token_needed"


@pytest.mark.parametrize("token", ["", "  "])
def test_an_empty_token_does_not_start(open_api: Running, token: str) -> None:
    with pytest.raises(OperatorFault, match="xnode token new"):
        create_app(open_api.node, None, ApiSettings(token=token))  # type: ignore[arg-type]


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback(bind: str) -> None:
    assert is_loopback(bind)


def test_the_settings_never_show_the_token() -> None:
    settings = ApiSettings(token=TOKEN)
    assert TOKEN not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:9", "127.0.0.1:8080", "[::1]:8080", "203.0.113.9", "node.example"]
)
def test_own_hosts(closed_api: Running, host: str) -> None:
    assert closed_api.http.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "a b"])
def test_foreign_hosts(closed_api: Running, host: str) -> None:
    assert code_of(closed_api.http.get("/health", headers={"Host": host})) == (403, "foreign_host")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", PAGE + ".evil.example"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_foreign_origins(closed_api: Running, method: str, origin: str) -> None:
    answer = closed_api.http.request(method, "/leases", headers={"Origin": origin})
    assert code_of(answer) == (403, "foreign_origin")
    assert "access-control-allow-origin" not in answer.headers


def test_the_own_origin(closed_api: Running) -> None:
    own = f"http://127.0.0.1:{closed_api.port}"
    assert closed_api.http.get("/leases", headers={"Origin": own}).status_code == 200


def test_a_listed_origin(closed_api: Running) -> None:
    preflight = closed_api.http.options("/lease/request", headers={"Origin": PAGE})
    assert preflight.status_code == 204
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    answer = closed_api.http.get("/leases", headers={"Origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "Origin" in answer.headers["vary"]
    refused = closed_api.http.post("/peers", json={}, headers={"Origin": PAGE})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
@pytest.mark.parametrize("path", ["/peers", "/lease/request", "/blocks", "/attestation/request", ACTING[2]])
def test_bodies_must_say_that_they_are_json(open_api: Running, path: str, media_type: str) -> None:
    answer = open_api.http.post(path, content=b"{}", headers={"Content-Type": media_type})
    assert code_of(answer) == (415, "not_json")


def test_a_charset_does_no_harm(open_api: Running) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert open_api.http.post("/peers", content=b'{"address": "/x"}', headers=headers).status_code == 200


@pytest.mark.parametrize("is_chunked", [False, True])
def test_large_bodies(closed_api: Running, is_chunked: bool) -> None:
    body = b'{"lease_hash": "' + b"a" * 1000 + b'"}'
    headers = {"Content-Type": "application/json"}
    content = iter([body[:500], body[500:]]) if is_chunked else body
    answer = closed_api.http.post("/attestation/request", content=content, headers=headers)
    assert code_of(answer) == (413, "too_large")


def test_a_body_that_does_not_come(open_api: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "BODY_SECONDS", 0.02)
    with socket.create_connection(("127.0.0.1", open_api.port), timeout=5) as client:
        client.sendall(
            b"POST /blocks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"too_slow" in answer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"address": NaN}',
        b'{"address": "/a", "address": "/b"}',
        b'"text"',
        b"{} {}",
        b"[" * 100_000,
        b'{"address": ' + b"9" * 5000 + b"}",
    ],
)
def test_bad_json(open_api: Running, body: bytes) -> None:
    answer = open_api.http.post("/peers", content=body, headers={"Content-Type": "application/json"})
    assert code_of(answer) == (400, "bad_json")


def test_unknown_paths_and_methods(open_api: Running) -> None:
    assert code_of(open_api.http.get("/nothing")) == (404, "path_unknown")
    assert code_of(open_api.http.get("/leases/")) == (404, "path_unknown")
    answer = open_api.http.delete("/peers")
    assert code_of(answer) == (405, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))


def test_an_own_fault_is_logged_and_not_shown(open_api: Running, caplog: pytest.LogCaptureFixture) -> None:
    open_api.node.faults["add_peer"] = KeyError("inner detail")
    headers = {"Authorization": "Bearer my-secret"}
    answer = open_api.http.post("/peers", json={"address": "/private/address"}, headers=headers)
    open_api.node.faults.clear()
    assert code_of(answer) == (500, "internal")
    assert "inner detail" not in answer.text
    assert "KeyError" in caplog.text
    assert "my-secret" not in caplog.text
    assert "/private/address" not in caplog.text


def test_every_answer_has_the_edges_headers(open_api: Running) -> None:
    for path in ("/leases", "/nothing", "/openapi.json"):
        headers = open_api.http.get(path).headers
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


@pytest.mark.slow
def test_the_rate_limit_over_http(tmp_path: Path) -> None:
    with running_api(tmp_path, ApiSettings(port=0, rate=0.5, burst=30)) as running:
        answers = [running.http.get("/health") for _ in range(31)]
        assert [answer.status_code for answer in answers] == [200] * 30 + [429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
        assert code_of(answers[-1]) == (429, "too_many")


@pytest.mark.slow
def test_dear_calls_cost_more(tmp_path: Path) -> None:
    with running_api(tmp_path, ApiSettings(port=0, rate=0.1, burst=45)) as running:
        codes = [running.http.post("/lease/quote", json={}).status_code for _ in range(3)]
        assert codes == [400, 400, 429]


def test_a_bucket_fills_again() -> None:
    buckets = Buckets(rate=10, burst=20)
    assert [buckets.take("a", 10, now=0.0) for _ in range(3)] == [0, 0, 1.0]
    assert buckets.take("b", 10, now=0.0) == 0
    assert buckets.take("a", 10, now=1.0) == 0
    assert buckets.take("a", 21, now=100.0) == pytest.approx(0.1)


def test_the_table_of_addresses_is_bounded() -> None:
    buckets = Buckets(rate=1, burst=1, addresses_max=3)
    for number in range(10):
        buckets.take(str(number), 1, now=0.0)
    assert len(buckets) == 3
    assert buckets.take("9", 1, now=0.0) > 0


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from([1, 5, 20])), max_size=50))
def test_no_client_gets_more_than_burst_and_rate(asks: list[tuple[float, int]]) -> None:
    buckets, now, passed = Buckets(rate=10, burst=50), 0.0, 0
    for pause, price in asks:
        now += pause
        if buckets.take("a", price, now) == 0:
            passed += price
    assert passed <= 50 + 10 * now + 1e-6


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::/64"),
        (("::ffff:10.0.0.1", 5), "10.0.0.1"),
        (None, ""),
    ],
)
def test_the_clients_address(client: tuple[str, int] | None, address: str) -> None:
    assert client_of({"client": client}) == address
