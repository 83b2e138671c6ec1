"""Every endpoint and every listed error of the user's document, over real HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.support.document import LEASE, PROVIDER, UNKNOWN, lacks
from tests.support.ledger import NOW, address_of, public_key_of
from tests.support.node_port import MemoryNode, Running, running_api
from xnode.api import leases
from xnode.api.calls import Api
from xnode.core.attestations import Attestation, attestation_message
from xnode.core.faults import CallerFault, NotFound, Unavailable
from xnode.core.keys import verify
from xnode.core.lease import LeaseState
from xnode.core.values import NS, Hash, Signature

FORM = {
    "vcpus": 1,
    "memory_mb": 1024,
    "disk_gb": 1,
    "duration": 120,
    "access_pub_key": public_key_of("alice-access").hex(),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_api(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture(autouse=True)
def _without_faults(running: Running) -> Iterator[None]:
    yield
    running.node.faults.clear()


def has_error(answer: object, status: int, code: str) -> bool:
    """The one error shape, with this status and code."""
    body = answer.json()  # type: ignore[attr-defined]
    shape = set(body) <= {"error", "code", "retryable"} and len(body["error"]) > 10
    return shape and (answer.status_code, body["code"]) == (status, code)  # type: ignore[attr-defined]


def test_all_leases(running: Running) -> None:
    leases = running.http.get("/leases").json()
    assert {item["lease_hash"] for item in leases} >= {item.hex() for item in running.node.leases.values()}
    for lease in leases:
        assert not lacks(lease, LEASE)
        assert set(lease) == {*LEASE, "state"}
        assert lease["settled"] is (lease["state"] == "settled")


async def test_the_list_goes_on_where_a_vote_takes_back_its_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LIST_DEFAULT", 3)
    node = MemoryNode(tmp_path)
    for number in range(4):
        node.open_lease(10 + number)
    api = cast(Api, SimpleNamespace(port=node))
    filters: dict[str, object] = {"state": LeaseState.CREATED, "consumer": None, "provider": None}
    with node.snapshot() as view:
        created = [lease.lease_hash for lease in view.leases(state=LeaseState.CREATED)]
    pieces = leases._all(api, filters, leases._read(api, filters, None, 3))
    told = await anext(pieces)
    with node.store.transaction() as transaction:
        transaction.rollback_with_descendants(created[2])
        transaction.commit()
    told += b"".join([piece async for piece in pieces])
    assert [item["lease_hash"] for item in json.loads(told)] == [item.hex() for item in created[:3]]
    node.store.close()


def test_a_lease(running: Running) -> None:
    lease_hash = running.node.leases[LeaseState.SETTLED].hex()
    lease = running.http.get(f"/leases/{lease_hash}").json()
    assert lease["lease_hash"] == lease_hash
    assert (lease["vcpus"], lease["memory_mb"], lease["disk_gb"]) == (4, 8192, 100)
    assert (lease["cost"], lease["stake"], lease["duration"]) == (7, 1, 86400)
    assert (lease["start_time"], lease["settled"]) == (NOW, True)


def test_a_lease_that_is_not_accepted_has_not_started(running: Running) -> None:
    lease = running.http.get(f"/leases/{running.node.leases[LeaseState.CREATED].hex()}").json()
    assert (lease["start_time"], lease["settled"], lease["state"]) == (0, False, "created")


@pytest.mark.parametrize("name", [UNKNOWN, "a5b6c7d8...", "zz", "AB" * 32])
def test_a_lease_not_found(running: Running, name: str) -> None:
    assert has_error(running.http.get(f"/leases/{name}"), 404, "lease_unknown")


def test_a_hash_in_upper_case_is_the_same_hash(running: Running) -> None:
    name = running.node.leases[LeaseState.SETTLED].hex()
    assert running.http.get(f"/leases/{name.upper()}").json()["lease_hash"] == name


def test_providers(running: Running) -> None:
    providers = running.http.get("/providers").json()
    assert len(providers) == 3
    for provider in providers:
        assert not lacks(provider, PROVIDER)
    bob = next(item for item in providers if item["address"] == running.node.bob.address.hex())
    assert (bob["vcpus"], bob["available_vcpus"], bob["active_leases"]) == (32, 20, 3)
    assert (bob["settled_leases"], bob["unfulfilled_leases"]) == (1, 1)
    assert (bob["driver"], bob["internet"]) == ("qemu", "open")


def test_request_a_lease(running: Running) -> None:
    answer = running.http.post("/lease/request", json=FORM)
    assert answer.status_code == 200
    assert set(answer.json()) == {"lease_hash"}
    lease = running.http.get(f"/leases/{answer.json()['lease_hash']}").json()
    assert {name: lease[name] for name in FORM} == FORM
    assert lease["state"] == "accepted"


@pytest.mark.parametrize("name", FORM)
def test_request_with_a_missing_field(running: Running, name: str) -> None:
    body = {key: value for key, value in FORM.items() if key != name}
    answer = running.http.post("/lease/request", json=body)
    assert has_error(answer, 400, "missing_field")
    assert name in answer.json()["error"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"vcpus": 0, "memory_mb": 0, "disk_gb": 0}, "bad_resources"),
        ({"vcpus": -1}, "bad_field"),
        ({"vcpus": 4097}, "bad_field"),
        ({"vcpus": True}, "bad_field"),
        ({"vcpus": 1.0}, "bad_field"),
        ({"vcpus": "1"}, "bad_field"),
        ({"vcpus": None}, "bad_field"),
        ({"duration": 59}, "bad_duration"),
        ({"duration": 31_536_001}, "bad_duration"),
        ({"access_pub_key": "a1b2c3d4e5f6..."}, "bad_hex"),
        ({"access_pub_key": "00" * 32}, "bad_key"),
        ({"access_pub_key": 5}, "bad_hex"),
        ({"timeout": 601}, "bad_field"),
        ({"provider": "bob"}, "bad_hex"),
        ({"colour": "red"}, "unknown_field"),
    ],
)
def test_a_bad_request(running: Running, changes: dict[str, object], code: str) -> None:
    assert has_error(running.http.post("/lease/request", json=FORM | changes), 400, code)


@pytest.mark.parametrize("code", ["insufficient_balance", "no_providers"])
def test_short_of_money_or_of_providers(running: Running, code: str) -> None:
    running.node.faults["request_lease"] = CallerFault(code, "this says what is short and what to do")
    assert has_error(running.http.post("/lease/request", json=FORM), 400, code)


def test_a_request_whose_block_lost_its_vote_was_refused(running: Running) -> None:
    running.node.faults["request_lease"] = NotFound("lease_unknown", "this node's account has no such lease")
    assert has_error(running.http.post("/lease/request", json=FORM), 400, "lease_failed")


def test_a_fault_in_a_nursery_is_still_that_fault(running: Running) -> None:
    fault = CallerFault("no_providers", "nobody offers; this says why")
    running.node.faults["request_lease"] = ExceptionGroup("nursery", [ExceptionGroup("nursery", [fault])])
    assert has_error(running.http.post("/lease/request", json=FORM), 400, "no_providers")


def test_the_same_idempotency_key_gives_the_same_lease(running: Running) -> None:
    headers = {"Idempotency-Key": "once"}
    first, second = (running.http.post("/lease/request", json=FORM, headers=headers).json() for _ in range(2))
    other = running.http.post("/lease/request", json=FORM).json()
    assert first == second != other


def test_the_form_reaches_the_node(running: Running) -> None:
    body = FORM | {"timeout": 5, "provider": "cd" * 32, "policy": "cheapest", "max_cost": 9, "image": "tiny"}
    assert running.http.post("/lease/quote", json=body).json() == {
        "cost": 7,
        "stake": 1,
        "offers": [{"provider": running.node.bob.address.hex(), "cost": 7}],
    }
    name, (form,) = running.node.heard[-1]
    assert name == "quote"
    assert (form.timeout, form.provider, form.max_cost, form.image) == (5.0, bytes.fromhex("cd" * 32), 9, "tiny")


def test_attestation(running: Running) -> None:
    lease_hash = running.node.leases[LeaseState.ACCEPTED]
    answer = running.http.post("/attestation/request", json={"lease_hash": lease_hash.hex()}).json()
    assert set(answer) == {"public_key", "timestamp", "signature"}
    assert type(answer["timestamp"]) is int
    message = attestation_message(lease_hash, answer["timestamp"])
    assert verify(bytes.fromhex(answer["public_key"]), message, bytes.fromhex(answer["signature"]))


@pytest.mark.parametrize("value", ["a5b6c7d8...", "", 7, None, "zz" * 32])
def test_attestation_of_an_invalid_hash(running: Running, value: object) -> None:
    assert has_error(running.http.post("/attestation/request", json={"lease_hash": value}), 400, "bad_hex")


def test_attestation_without_a_hash(running: Running) -> None:
    assert has_error(running.http.post("/attestation/request", json={}), 400, "missing_field")


def test_attestation_of_an_unknown_lease(running: Running) -> None:
    assert has_error(running.http.post("/attestation/request", json={"lease_hash": UNKNOWN}), 404, "lease_unknown")


def test_attestation_without_a_timekeeper(running: Running) -> None:
    running.node.faults["attest"] = Unavailable("no_timekeeper", "no timekeeper answers; ask again", retryable=True)
    body = {"lease_hash": running.node.leases[LeaseState.ACCEPTED].hex()}
    answer = running.http.post("/attestation/request", json=body)
    assert has_error(answer, 503, "no_timekeeper")
    assert answer.json()["retryable"] is True


def test_vms(running: Running) -> None:
    machines = running.http.get("/vms").json()
    running_one = next(item for item in machines if item["status"] == "running")
    assert running_one["lease_hash"] == running.node.leases[LeaseState.ACCEPTED].hex()
    assert running_one["resources"] == {"vcpus": 1, "memory_mb": 1024, "disk_gb": 5}
    assert running_one["created_at"] == NOW
    additions = {"ssh_port", "host_key", "driver", "image", "state_since"}
    assert set(running_one) == {"lease_hash", "status", "resources", "created_at"} | additions


def test_a_vm(running: Running) -> None:
    name = running.node.leases[LeaseState.ACCEPTED].hex()
    assert running.http.get(f"/vms/{name}").json()["lease_hash"] == name


@pytest.mark.parametrize("name", [UNKNOWN, "6226fb52501a"])
def test_a_vm_not_found(running: Running, name: str) -> None:
    assert has_error(running.http.get(f"/vms/{name}"), 404, "vm_unknown")
    assert has_error(running.http.post(f"/vms/{name}/exec", json={"command": "true"}), 404, "vm_unknown")


def test_exec(running: Running) -> None:
    url = f"/vms/{running.node.leases[LeaseState.ACCEPTED].hex()}/exec"
    answer = running.http.post(url, json={"command": "uname -a"})
    expected = {"exit_code": 3, "stdout": "uname -a", "stderr": "\N{REPLACEMENT CHARACTER}"}
    assert answer.json() == expected | {"duration_ms": 12, "truncated": False}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "missing_field"),
        ({"command": ""}, "bad_field"),
        ({"command": 5}, "bad_field"),
        ({"command": "true", "timeout": 601}, "bad_field"),
        ({"command": "half \ud800"}, "bad_field"),
    ],
)
def test_exec_with_a_bad_command(running: Running, body: dict[str, object], code: str) -> None:
    url = f"/vms/{running.node.leases[LeaseState.ACCEPTED].hex()}/exec"
    answer = running.http.post(url, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert has_error(answer, 400, code)


def test_exec_in_a_stopped_machine(running: Running) -> None:
    url = f"/vms/{running.node.leases[LeaseState.SETTLED].hex()}/exec"
    assert has_error(running.http.post(url, json={"command": "true"}), 409, "vm_not_running")


def test_cancel(running: Running) -> None:
    lease_hash = running.node.open_lease(NS)
    url = f"/leases/{lease_hash.hex()}/cancel"
    headers = {"Content-Type": "application/json"}
    assert running.http.post(url, headers=headers).json() == {"lease_hash": lease_hash.hex(), "state": "cancelled"}
    assert has_error(running.http.post(url, headers=headers), 409, "lease_accepted")
    assert has_error(running.http.post(f"/leases/{UNKNOWN}/cancel", json={}), 404, "lease_unknown")


def test_somebody_else_s_lease_is_not_cancelled(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    lease_hash = running.node.open_lease(2 * NS)
    monkeypatch.setattr(running.node, "address", address_of("carol"))
    refused = running.http.post(f"/leases/{lease_hash.hex()}/cancel", json={})
    assert has_error(refused, 403, "not_your_lease")
    assert address_of("alice").hex() in refused.json()["error"]


def test_the_list_of_vms_asks_the_providers_of_those_that_are_elsewhere(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = running.node.machines()
    monkeypatch.setattr(running.node, "machines", lambda: (here, there._replace(driver="")))
    running.node.heard.clear()
    assert len(running.http.get("/vms").json()) == 2
    assert running.node.heard == [("refresh_lease", (there.lease_hash,))]
    running.node.faults["refresh_lease"] = Unavailable("deadline", "the node did not finish within 2 s")
    assert len(running.http.get("/vms").json()) == 2


def test_a_vm_is_told_of_also_where_its_provider_can_not_be_asked(running: Running) -> None:
    running.node.faults["refresh_lease"] = Unavailable("busy", "the node has too many calls under way", retryable=True)
    lease_hash = running.node.leases[LeaseState.ACCEPTED].hex()
    assert running.http.get(f"/vms/{lease_hash}").json()["status"] == "running"


def test_an_attestation_that_no_block_could_carry_is_not_given(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Attestation(public_key_of("stranger"), NOW, Signature(bytes(64)))

    async def by_a_stranger(lease_hash: Hash) -> Attestation:
        return stranger

    monkeypatch.setattr(running.node, "attest", by_a_stranger)
    body = {"lease_hash": running.node.leases[LeaseState.ACCEPTED].hex()}
    assert has_error(running.http.post("/attestation/request", json=body), 503, "no_timekeeper")
