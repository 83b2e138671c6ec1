"""The governance chain over real HTTP: what is read, what is submitted, why it is refused."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.ledger import key_of
from tests.support.node_port import Running, running_api
from tests.support.state import OTHER_RATES, SOON, next_block, set_op
from tests.support.store import GENESIS
from xnode.core.state_blocks import Op, StateBlock, genesis_state_block, state_block_to_json, state_hash


@pytest.fixture
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_api(tmp_path_factory.mktemp("node")) as running:
        yield running


def signed(running: Running, *ops: Op, **changes: Any) -> StateBlock:
    with running.node.snapshot() as view:
        return next_block(view, GENESIS, *ops, **({"names": ("dao",)} | changes))


def post(running: Running, block: StateBlock) -> Any:
    return running.http.post("/statechain/blocks", json=state_block_to_json(block))


def test_a_new_networks_chain(running: Running) -> None:
    block = genesis_state_block(GENESIS)
    identity = state_hash(GENESIS.network_key, block).hex()
    tip = running.http.get("/statechain/tip").json()
    assert tip == {"index": 0, "hash": identity, "timestamp": GENESIS.created_at}
    shown = {"index": 0, "hash": identity, "block": state_block_to_json(block)}
    assert running.http.get("/statechain/blocks").json() == [shown]
    assert running.http.get("/statechain/blocks/0").json() == shown
    assert running.http.get("/statechain/keyset").json() == {"keys": [key_of("dao").public_key.hex()], "threshold": 1}
    assert running.http.get("/statechain/kv/sys.rates").json() == {
        "key": "sys.rates",
        "value": {"vcpu": 20, "memory_gb": 10, "disk_gb": 1},
    }


def test_a_change(running: Running) -> None:
    block = signed(running, set_op("sys.rates", OTHER_RATES), set_op("motd", {"text": "é", "n": 2**64 - 1}))
    first, again = post(running, block), post(running, block)
    assert (first.status_code, first.json()["outcome"], again.json()["outcome"]) == (200, "progress", "old")
    tip = running.http.get("/statechain/tip").json()
    assert tip == {"index": 1, "hash": first.json()["hash"], "timestamp": SOON}
    assert running.http.get("/statechain/blocks/1").json()["block"] == state_block_to_json(block)
    assert running.http.get("/statechain/kv/motd").json()["value"] == {"text": "é", "n": 2**64 - 1}
    keys = [item["key"] for item in running.http.get("/statechain/kv").json()]
    assert keys == ["motd", "sys.dao_keyset", "sys.rates", "sys.timekeepers"]
    assert running.http.get("/statechain/kv?cursor=motd&limit=1").json()[0]["key"] == "sys.dao_keyset"


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"names": ()}, 400, "few_signatures"), ({"names": ("stranger",)}, 400, "bad_signature"),
        ({"number": 5}, 503, "gap_previous"), ({"timestamp": 1}, 400, "bad_timestamp"),
        ({"ops": (Op("set", "A", "1"),)}, 400, "bad_key"),  # type: ignore[arg-type]
        ({"ops": (Op("set", "sys.x", "1"),)}, 400, "unknown_system_key"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_refusals(running: Running, changes: dict[str, Any], status: int, code: str) -> None:
    answer = post(running, signed(running, **changes))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json().get("retryable", False) is (status == 503)


def test_a_fork(running: Running) -> None:
    block, rival = signed(running, set_op("a", 1)), signed(running, set_op("a", 2))
    assert post(running, block).status_code == 200
    assert (post(running, rival).status_code, post(running, rival).json()["code"]) == (400, "fork")


@pytest.mark.parametrize("path", ["blocks/1", "blocks/x", "blocks/-1", "blocks/" + "9" * 40, "kv/nothing", "kv/%00"])
def test_unknown_things(running: Running, path: str) -> None:
    answer = running.http.get(f"/statechain/{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] in ("state_block_unknown", "key_unknown")


@pytest.mark.parametrize("body", [{}, {"index": 1}, {"block": {}}])
def test_what_is_no_block(running: Running, body: dict[str, Any]) -> None:
    answer = running.http.post("/statechain/blocks", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_state_block")
