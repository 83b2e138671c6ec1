"""The rows of the user's document that need no machine: asked of a running network by plain HTTP."""

import json
import secrets
from typing import Any

import httpx
import pytest

from tests.support.devnet import http, lease_body
from tests.support.document import CALLS, PROVIDER, UNKNOWN, lacks, refusal
from tests.support.shapes import mismatch
from xnode.core.keys import SigningKey
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.devnet_plan import Plan

pytestmark = pytest.mark.slow

DEVNET = Plan()  # with the network's own least duration, as the document has it
KEY = SigningKey(bytes(31) + b"\x07")
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def consumer(devnet):
    with http(devnet, "consumer1") as client:
        yield client


def ask(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post("/lease/request", json=lease_body(KEY, **changes))


def test_no_lease_yet(consumer: httpx.Client) -> None:
    assert consumer.get("/leases").json() == []
    assert consumer.get("/vms").json() == []


@pytest.mark.parametrize("name", ["consumer1", "provider1", "tk1"])
def test_providers(devnet: Devnet, name: str) -> None:
    with http(devnet, name) as client:
        (provider,) = client.get("/providers").json()
    assert not lacks(provider, PROVIDER)
    assert provider["address"] == devnet.member("provider1").account
    assert provider["active_leases"] == 0
    for resource in ("vcpus", "memory_mb", "disk_gb"):
        assert provider[f"available_{resource}"] == provider[resource] > 0


@pytest.mark.parametrize("path", [f"/leases/{UNKNOWN}", "/leases/a5b6c7d8...", f"/vms/{UNKNOWN}", "/vms/6226fb52501a"])
def test_what_is_not_found(devnet: Devnet, path: str) -> None:
    for name in ("consumer1", "provider1"):
        with http(devnet, name) as client:
            assert "not found" in refusal(client.get(path), 404)


@pytest.mark.parametrize("name", ["vcpus", "memory_mb", "disk_gb", "duration", "access_pub_key"])
def test_a_request_without_a_field(consumer: httpx.Client, name: str) -> None:
    assert name in refusal(ask(consumer, **{name: None}), 400)


@pytest.mark.parametrize("name", ["vcpus", "memory_mb", "disk_gb", "duration", "access_pub_key"])
@pytest.mark.parametrize("value", ["one", 1.5, True, [1], -1, 2**70], ids=repr)
def test_a_request_with_a_field_of_a_wrong_type(consumer: httpx.Client, name: str, value: object) -> None:
    assert name in refusal(ask(consumer, **{name: value}), 400)


def test_a_request_with_null(consumer: httpx.Client) -> None:
    body = lease_body(KEY) | {"vcpus": None}
    assert "vcpus" in refusal(consumer.post("/lease/request", json=body), 400)


@pytest.mark.parametrize(
    "key", ["", "ab", "a1b2c3d4e5f6...", "zz" * 32, "ab" * 31, "ab" * 33, "00" * 32, "01" + "00" * 31, "ff" * 32]
)
def test_a_request_with_a_key_that_is_none(consumer: httpx.Client, key: str) -> None:
    assert "access_pub_key" in refusal(ask(consumer, access_pub_key=key), 400)


def test_a_request_for_nothing(consumer: httpx.Client) -> None:
    assert "at least one" in refusal(ask(consumer, vcpus=0, memory_mb=0, disk_gb=0), 400)


@pytest.mark.parametrize("seconds", [0, 59, 31_536_001])
def test_a_duration_out_of_range(consumer: httpx.Client, seconds: int) -> None:
    sentence = refusal(ask(consumer, duration=seconds), 400)
    assert "60" in sentence
    assert "31536000" in sentence


def test_more_money_than_the_account_has(consumer: httpx.Client) -> None:
    sentence = refusal(ask(consumer, vcpus=4096, memory_mb=2**26, disk_gb=2**20, duration=31_536_000), 400)
    assert "XUSD" in sentence
    assert "holds 1000000" in sentence


def test_no_provider_but_the_node_itself(devnet: Devnet) -> None:
    with http(devnet, "provider1") as client:
        assert "provider" in refusal(ask(client, timeout=2), 400)


def test_no_provider_with_so_much(devnet: Devnet, consumer: httpx.Client) -> None:
    sentence = refusal(ask(consumer, vcpus=512, duration=60), 400)
    assert devnet.member("provider1").account[:12] in sentence  # who was asked
    assert "vcpus" in sentence  # and why it declined


@pytest.mark.parametrize(
    "body", [b"", b"no JSON", b"[]", b"null", b"1", b'"vcpus"', b'{"vcpus": 1', b'{"vcpus": NaN}', b"\xff\xfe"]
)
@pytest.mark.parametrize("path", ["/lease/request", "/attestation/request", f"/vms/{UNKNOWN}/exec"])
def test_a_body_that_is_no_object(consumer: httpx.Client, path: str, body: bytes) -> None:
    assert "JSON" in refusal(consumer.post(path, content=body, headers=JSON), 400)


def test_a_field_that_nobody_knows(consumer: httpx.Client) -> None:
    refusal(ask(consumer, colour="red"), 400)


@pytest.mark.parametrize("name", ["", "a5b6c7d8...", "zz" * 32, "ab" * 31, 5, None, ["ab" * 32]])
def test_an_attestation_for_what_is_no_hash(devnet: Devnet, name: object) -> None:
    for node in ("tk1", "consumer1"):
        with http(devnet, node) as client:
            assert "lease_hash" in refusal(client.post("/attestation/request", json={"lease_hash": name}), 400)


def test_an_attestation_without_a_hash(consumer: httpx.Client) -> None:
    assert "lease_hash" in refusal(consumer.post("/attestation/request", json={}), 400)


@pytest.mark.parametrize("node", ["tk1", "consumer1"])
def test_an_attestation_for_an_unknown_lease(devnet: Devnet, node: str) -> None:
    with http(devnet, node) as client:
        assert "not found" in refusal(client.post("/attestation/request", json={"lease_hash": UNKNOWN}), 404)


@pytest.mark.parametrize("node", ["provider1", "consumer1"])
def test_exec_in_an_unknown_machine(devnet: Devnet, node: str) -> None:
    with http(devnet, node) as client:
        refusal(client.post(f"/vms/{UNKNOWN}/exec", json={"command": "uname -a"}), 404)


@pytest.mark.parametrize("node", ["provider1", "consumer1", "tk1"])
@pytest.mark.parametrize("headers", [{}, {"Connection": "Upgrade", "Upgrade": "tcp"}], ids=["plain", "upgrade"])
def test_a_tunnel_to_an_unknown_lease(devnet: Devnet, node: str, headers: dict[str, str]) -> None:
    with http(devnet, node) as client:
        refusal(client.post(f"/tunnel/{UNKNOWN}/tcp", headers=headers), 404)


def test_one_name_for_what_is_unknown(devnet: Devnet) -> None:
    """Programs read the code, so it is the same at every call and every node."""
    calls = [("GET", f"/leases/{UNKNOWN}", None), ("POST", f"/tunnel/{UNKNOWN}/tcp", None)]
    calls += [("POST", "/attestation/request", {"lease_hash": UNKNOWN}), ("POST", f"/leases/{UNKNOWN}/cancel", {})]
    machine = [("GET", f"/vms/{UNKNOWN}", None), ("POST", f"/vms/{UNKNOWN}/exec", {"command": "true"})]
    for name in ("consumer1", "provider1", "tk1"):
        with http(devnet, name) as client:
            for wanted, asked in (("lease_unknown", calls), ("vm_unknown", machine)):
                codes = {client.request(method, path, json=body).json()["code"] for method, path, body in asked}
                assert codes == {wanted}


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("PUT", "/leases"), ("GET", "/lease/request")])
def test_what_is_no_call(consumer: httpx.Client, method: str, path: str) -> None:
    refusal(consumer.request(method, path), 404 if path == "/nothing" else 405)


def test_a_request_that_is_not_json(consumer: httpx.Client) -> None:
    answer = consumer.post(
        "/lease/request", content=json.dumps(lease_body(KEY)), headers={"Content-Type": "text/plain"}
    )
    refusal(answer, 415)


def test_a_body_that_is_too_large(consumer: httpx.Client) -> None:
    refusal(consumer.post("/attestation/request", content=secrets.token_bytes(2**20 + 1), headers=JSON), 413)


def test_the_documentation_lists_every_call(consumer: httpx.Client) -> None:
    paths = consumer.get("/openapi.json").json()["paths"]
    for method, path in CALLS:
        assert method in paths[path], f"{method} {path}"


@pytest.mark.parametrize("path", ["/leases", "/providers", "/vms", "/node", "/supply", "/ready"])
def test_answers_fit_the_documentation(devnet: Devnet, path: str) -> None:
    for name in ("consumer1", "provider1", "tk1"):
        with http(devnet, name) as client:
            answer = client.get("/openapi.json").json()["paths"][path]["get"]["responses"]["200"]
            schema = answer["content"]["application/json"]["schema"]
            assert mismatch(client.get(path).json(), schema) is None
