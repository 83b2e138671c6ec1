"""The documentation is true: every route is in it, and every answer has the shape that it says."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import Route

from tests.support.group import TRIO
from tests.support.ledger import MemoryLedger, address_of
from tests.support.node_port import Running, running_api
from tests.support.shapes import mismatch
from xnode.api.app import CALLS, create_app
from xnode.api.blocks import GOOD, RULES
from xnode.api.settings import ApiSettings
from xnode.core.blocks import block_to_json
from xnode.core.lease import LeaseState
from xnode.core.ledger import Outcome
from xnode.core.values import Hash

READS = [call for call in CALLS if call.method == "GET" and "events" not in call.path]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_api(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture(scope="module")
def document(running: Running) -> dict[str, Any]:
    return running.http.get("/openapi.json").json()  # type: ignore[no-any-return]


def test_every_route_is_described(running: Running, document: dict[str, Any]) -> None:
    app = create_app(running.node, None, ApiSettings())  # type: ignore[arg-type]
    routes = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or ()) - {"HEAD"}
    }
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert routes == described


def test_every_described_call_has_what_a_client_needs(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert operation["summary"]
            assert "200" in operation["responses"]
            assert all(
                "content" in answer for status, answer in operation["responses"].items() if int(status) >= 400
            ), (path, method)


def url_of(running: Running, path: str) -> str:
    lease_hash = running.node.leases[LeaseState.ACCEPTED].hex()
    path = path.replace("{hash}", lease_hash).replace("{address}", running.node.address.hex())
    return path.replace("{index}", "0").replace("{key}", "sys.rates")


@pytest.mark.parametrize("call", READS, ids=lambda call: call.path)
def test_answers_have_the_described_shape(running: Running, document: dict[str, Any], call: Any) -> None:
    answer = running.http.get(url_of(running, call.path))
    assert answer.status_code == 200
    (media_type, content), *_ = document["paths"][call.path]["get"]["responses"]["200"]["content"].items()
    assert answer.headers["content-type"].startswith(media_type)
    if media_type == "application/json":
        assert mismatch(answer.json(), content["schema"]) is None


@pytest.mark.parametrize("call", READS, ids=lambda call: call.path)
def test_head_answers_like_get(running: Running, call: Any) -> None:
    assert running.http.head(url_of(running, call.path)).status_code == 200


def test_an_unready_node(running: Running, document: dict[str, Any]) -> None:
    running.node.is_ready = False
    answer = running.http.get("/ready")
    running.node.is_ready = True
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert answer.json()["checks"]["peers"] == {"ok": False, "detail": "1 of 1"}
    schema = document["paths"]["/ready"]["get"]["responses"]["503"]["content"]["application/json"]["schema"]
    assert mismatch(answer.json(), {"anyOf": [schema["anyOf"][0]]}) is None


def test_the_page_for_people_fetches_nothing(running: Running) -> None:
    answer = running.http.get("/docs")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"src=|@import|<link|https?://", answer.text)
    assert all(call.path in answer.text for call in CALLS)


def test_metrics(running: Running) -> None:
    lines = running.http.get("/metrics").text.splitlines()
    assert all(re.fullmatch(r"xnode_[a-z0-9_]+ \d+", line) for line in lines)
    assert "xnode_blocks_dropped 7" in lines
    assert "xnode_odd_name_ 1" in lines


def walk(running: Running, path: str, limit: int) -> list[Any]:
    """All pages of a list."""
    found: list[Any] = []
    url = f"{path}{'&' if '?' in path else '?'}limit={limit}"
    cursor = ""
    for _ in range(100):
        answer = running.http.get(url + cursor)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()) <= limit
        found += answer.json()
        if "x-next-cursor" not in answer.headers:
            return found
        cursor = "&cursor=" + answer.headers["x-next-cursor"]
    raise AssertionError("the pages never end")


LISTS = ["/leases", "/leases?state=created", "/providers", "/accounts", "/frontiers", "/pending", "/pending/{carol}"]
VOTING = ["/elections", "/conflicts", "/representatives"]
CHAINS = ["/accounts/{alice}/chain", "/accounts/{alice}/chain?order=oldest", "/statechain/blocks", "/statechain/kv"]


@pytest.mark.slow
@pytest.mark.parametrize("path", LISTS + CHAINS + VOTING)
def test_pages_add_up_to_the_whole(running: Running, path: str) -> None:
    for name in ("alice", "carol"):
        path = path.replace(f"{{{name}}}", address_of(name).hex())
    whole = running.http.get(path).json()
    assert whole
    assert walk(running, path, 1) == whole == walk(running, path, 2) == walk(running, path, 1000)


def test_lease_filters(running: Running) -> None:
    alice, bob = running.node.address.hex(), running.node.bob.address.hex()
    for state, lease_hash in running.node.leases.items():
        found = running.http.get(f"/leases?state={state}&consumer={alice}&provider={bob}").json()
        assert [item["lease_hash"] for item in found] == [lease_hash.hex()]
    assert running.http.get(f"/leases?consumer={bob}").json() == []


@pytest.mark.slow
def test_more_leases_than_a_page(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_api(tmp_path_factory.mktemp("many")) as running:
        for number in range(203):
            running.node.open_lease(1000 + number)
        assert len(running.http.get("/leases").json()) == 208
        assert len(running.http.get("/leases?state=created").json()) == 204
        assert len(running.http.get("/leases?limit=150").json()) == 150


@pytest.mark.parametrize(
    "url",
    [
        "/leases?limit=0",
        "/leases?limit=1001",
        "/leases?limit=x",
        "/leases?limit=1&limit=2",
        "/leases?state=lost",
        "/leases?consumer=bob",
        "/leases?colour=red",
        "/leases?cursor=" + "ab" * 32,
        "/leases?cursor=zz",
        "/providers?cursor=zz",
        "/accounts?cursor=1",
        "/accounts/{alice}/chain?cursor=-1",
        "/accounts/{alice}/chain?order=up",
        "/pending?cursor=abc",
        "/elections?cursor=abc",
        "/conflicts?cursor=" + "ab" * 32,
        "/representatives?cursor=abc",
        "/pending/{alice}?cursor=" + "ab" * 64,
        "/blocks/recent?limit=1.5",
        "/statechain/blocks?cursor=x",
        "/statechain/blocks?cursor=" + "9" * 30,
        "/statechain/kv?limit=0",
    ],
)
def test_bad_queries(running: Running, url: str) -> None:
    answer = running.http.get(url.replace("{alice}", running.node.address.hex()))
    assert answer.status_code == 400
    assert len(answer.json()["error"]) > 10


@pytest.mark.parametrize("path", ["/accounts/{}", "/accounts/{}/balance", "/accounts/{}/chain", "/blocks/{}"])
def test_unknown_things(running: Running, path: str) -> None:
    for name in ("ab" * 32, "short"):
        assert running.http.get(path.format(name)).status_code == 404


def test_a_balance(running: Running) -> None:
    bob = running.http.get(f"/accounts/{running.node.bob.address.hex()}/balance").json()
    assert (bob["staked"], bob["balances"]["XE"]) == (1, 7)
    assert bob["spendable"]["XE"] == 0, "nothing is confirmed yet"


def test_submitting_blocks(running: Running) -> None:
    node = running.node
    with node.store.snapshot() as view:
        good = node.alice.send(view, address_of("dave"), 5)
        rival = node.alice.send(view, address_of("dave"), 6)
        forged = good._replace(balance=good.balance + 1)
        far = node.alice.send(view, address_of("dave"), 5, previous=bytes(31) + b"x")
        wrong = node.alice.send(view, address_of("dave"), 5, balance=good.balance + 1)

    said = running.http.post("/blocks", json=block_to_json(wrong)).json()
    assert said["code"] == "bad_balance"
    assert f"must be {good.balance}" in said["error"], "which bound it breaks"
    assert running.http.post("/blocks", json=block_to_json(forged)).json()["code"] == "bad_signature"
    gap = running.http.post("/blocks", json=block_to_json(far))
    assert (gap.status_code, gap.json()["code"], gap.json()["retryable"]) == (503, "gap_previous", True)
    first = running.http.post("/blocks", json=block_to_json(good)).json()
    again = running.http.post("/blocks", json=block_to_json(good)).json()
    assert (first["outcome"], again["outcome"]) == ("progress", "old")
    stored = running.http.get(f"/blocks/{first['hash']}").json()
    assert (stored["block"], stored["status"]) == (block_to_json(good), "pending")
    with node.store.transaction() as transaction:
        transaction.confirm_with_ancestors(Hash(bytes.fromhex(first["hash"])))
        transaction.commit()
    assert running.http.get(f"/blocks/{first['hash']}").json()["status"] == "confirmed"
    fork = running.http.post("/blocks", json=block_to_json(rival))
    assert (fork.status_code, fork.json()["code"]) == (400, "fork")
    assert "the network votes" in fork.json()["error"]
    broken = running.http.post("/blocks", json={"type": "send"})
    assert (broken.status_code, broken.json()["code"]) == (400, "bad_block")


def test_a_multisig_account_shows_its_keyset(running: Running) -> None:
    ledger = MemoryLedger(running.node.genesis)
    trio = ledger.group(TRIO)
    opening = trio.open(ledger)
    unsigned = running.http.post("/blocks", json=block_to_json(opening._replace(signatures=())))
    assert (unsigned.status_code, unsigned.json()["code"]) == (400, "bad_signature")
    assert running.http.post("/blocks", json=block_to_json(opening)).json()["outcome"] == "progress"
    account = running.http.get(f"/accounts/{trio.address.hex()}").json()
    assert account["keyset"] == {"keys": [key.hex() for key in trio.keyset.keys], "threshold": 2}
    assert running.http.get(f"/accounts/{address_of('alice').hex()}").json()["keyset"] is None
    (stored,) = running.http.get(f"/accounts/{trio.address.hex()}/chain").json()
    assert stored["block"] == block_to_json(opening)


def test_every_refusal_has_its_sentence() -> None:
    """All but bad_format: what is no block at all is bad_block, in the parser's own words."""
    assert set(Outcome) == {*RULES, *GOOD, Outcome.BAD_FORMAT}


def test_who_votes_and_on_what(running: Running) -> None:
    (heaviest, *_) = running.http.get("/representatives").json()
    assert heaviest["address"] == address_of("representative").hex()
    assert heaviest["reachable"]
    assert heaviest["weight"] == heaviest["total_weight"] > 0
    elections = running.http.get("/elections").json()
    assert [len(item["candidates"]) for item in elections if item["account"] == address_of("bob").hex()] == [2]
    assert {(item["total_weight"], item["needed_weight"]) for item in elections} == {(101, 68)}
    (conflict,) = running.http.get("/conflicts").json()
    assert conflict["account"] == address_of("bob").hex()
    assert [item["votes"] for item in conflict["candidates"]] == [50, 49]
