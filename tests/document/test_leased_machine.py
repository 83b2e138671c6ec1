"""The rows of the user's document about a lease and its machine: one lease by the page's own request serves them all.

The tests run in the order of this file, which is that of the lease's life.
"""

import itertools
import json
import secrets
import time
from typing import Any, NamedTuple

import httpx
import pytest

from tests.support.devnet import http, lease_body, machines, wait_until
from tests.support.document import ATTESTATION, LEASE, RESOURCES, RESULT, UNKNOWN, VM, lacks, refusal
from tests.support.raw_tunnel import UPGRADE, access_headers, raw_tunnel
from tests.support.shapes import mismatch
from tests.support.steering import answers_on_ssh, machine_headers, metrics, status_at
from xnode.core import price
from xnode.core.attestations import attestation_message
from xnode.core.hashing import NetworkKey
from xnode.core.keys import SigningKey, verify
from xnode.core.lease import Resources
from xnode.core.values import NS, ZERO_HASH, PublicKey, Signature
from xnode.vm.images import MARKER
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.devnet_plan import Plan

pytestmark = [pytest.mark.vm, pytest.mark.slow]

DEVNET = Plan()  # with the network's own least duration, as the document has it
NODES = ("tk1", "tk2", "tk3", "provider1", "consumer1")
HOSTS = ("provider1", "consumer1")
SETTLE_SECONDS = 180.0
GONE_SECONDS = 60.0
BANNER = b"SSH-2.0-"
NO_SSH_PACKET = b"SSH-2.0-test\r\n" + b"\xff" * 64  # a version, and a packet of a length that no server takes


class Leased(NamedTuple):
    """The one lease, as its consumer knows it."""

    lease_hash: str
    key: SigningKey
    asked_at: int
    network_key: NetworkKey


@pytest.fixture(scope="module")
def leased(devnet):
    key, asked_at = SigningKey(secrets.token_bytes(32)), time.time_ns()
    with http(devnet, "consumer1") as client:
        answer = client.post("/lease/request", json=lease_body(key))
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"lease_hash"}
    network_key = devnet.process("consumer1").data_dir.load_genesis().network_key
    return Leased(answer.json()["lease_hash"], key, asked_at, network_key)


@pytest.fixture(scope="module")
def provider(devnet):
    with http(devnet, "provider1") as client:
        yield client


@pytest.fixture(scope="module")
def consumer(devnet):
    with http(devnet, "consumer1") as client:
        yield client


def execute(client: httpx.Client, leased: Leased, command: str) -> dict[str, Any]:
    answer = client.post(f"/vms/{leased.lease_hash}/exec", json={"command": command})
    assert answer.status_code == 200, answer.text
    assert not lacks(answer.json(), RESULT)
    return dict(answer.json())


def test_the_lease(devnet: Devnet, leased: Leased, consumer: httpx.Client) -> None:
    lease = consumer.get(f"/leases/{leased.lease_hash}").json()
    genesis = devnet.process("consumer1").data_dir.load_genesis()
    cost = price.cost(Resources(1, 1024, 1), 120, genesis.rates)
    assert not lacks(lease, LEASE)
    assert lease["lease_hash"] == leased.lease_hash
    assert lease["consumer"] == devnet.member("consumer1").account
    assert lease["provider"] == devnet.member("provider1").account
    assert {name: lease[name] for name in lease_body(leased.key)} == lease_body(leased.key)
    assert (lease["cost"], lease["stake"], lease["settled"]) == (cost, price.stake(cost), False)
    assert lease["certificate_hash"] == ZERO_HASH.hex()
    assert leased.asked_at - NS < lease["start_time"] < time.time_ns() + NS


def test_every_node_lists_the_lease(devnet: Devnet, leased: Leased, consumer: httpx.Client) -> None:
    lease = consumer.get(f"/leases/{leased.lease_hash}").json()
    for name in NODES:
        with http(devnet, name) as client:
            wait_until(lambda client=client: client.get("/leases").json() == [lease], 20, f"{name} lists the lease")
            assert client.get(f"/leases/{leased.lease_hash}").json() == lease


def test_the_provider_has_less_to_offer(devnet: Devnet, leased: Leased, consumer: httpx.Client) -> None:
    def is_told() -> bool:
        (provider,) = consumer.get("/providers").json()
        used = {name: provider[name] - provider[f"available_{name}"] for name in RESOURCES}
        return (provider["active_leases"], used) == (1, {"vcpus": 1, "memory_mb": 1024, "disk_gb": 1})

    wait_until(is_told, 60, "the provider's next ad")


@pytest.mark.parametrize("name", HOSTS)
def test_the_machine(devnet: Devnet, leased: Leased, name: str) -> None:
    with http(devnet, name) as client:
        (machine,) = client.get("/vms").json()
        assert client.get(f"/vms/{leased.lease_hash}").json() == machine
        refusal(client.get(f"/vms/{UNKNOWN}"), 404)
    assert not lacks(machine, VM)
    assert not lacks(machine["resources"], RESOURCES)
    assert machine["lease_hash"] == leased.lease_hash
    assert machine["status"] == "running"
    assert machine["resources"] == {"vcpus": 1, "memory_mb": 1024, "disk_gb": 1}
    assert leased.asked_at < machine["created_at"] < time.time_ns() + NS


def test_no_other_node_has_the_machine(devnet: Devnet, leased: Leased) -> None:
    with http(devnet, "tk1") as client:
        assert client.get("/vms").json() == []
        refusal(client.get(f"/vms/{leased.lease_hash}"), 404)


def test_exec(leased: Leased, provider: httpx.Client) -> None:
    done = execute(provider, leased, "uname -a")
    assert (done["exit_code"], done["stderr"]) == (0, "")
    assert done["stdout"].startswith("Linux ")
    assert done["stdout"].endswith("\n")


def test_exec_that_fails(leased: Leased, provider: httpx.Client) -> None:
    done = execute(provider, leased, "echo out; echo wrong >&2; exit 3")
    assert (done["exit_code"], done["stdout"], done["stderr"]) == (3, "out\n", "wrong\n")


def test_exec_of_what_is_no_program(leased: Leased, provider: httpx.Client) -> None:
    done = execute(provider, leased, "no-such-program")
    assert done["exit_code"] == 127
    assert "no-such-program" in done["stderr"]


@pytest.mark.parametrize("body", [{}, {"command": ""}, {"command": 5}, {"command": None}, {"cmd": "true"}], ids=repr)
def test_exec_without_a_command(leased: Leased, provider: httpx.Client, body: dict[str, object]) -> None:
    assert "command" in refusal(provider.post(f"/vms/{leased.lease_hash}/exec", json=body), 400)


def test_exec_is_the_providers(leased: Leased, provider: httpx.Client, consumer: httpx.Client) -> None:
    body = {"command": "uname -a"}
    assert "provider" in refusal(consumer.post(f"/vms/{leased.lease_hash}/exec", json=body), 404)
    refusal(provider.post(f"/vms/{UNKNOWN}/exec", json=body), 404)


@pytest.mark.parametrize("name", ["tk1", "tk2", "provider1", "consumer1"])
def test_an_attestation(devnet: Devnet, leased: Leased, name: str) -> None:
    """A timekeeper's own, and that of another one at a node that is none."""
    with http(devnet, name) as client:
        answer = client.post("/attestation/request", json={"lease_hash": leased.lease_hash})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert set(found) == set(ATTESTATION)
    assert not lacks(found, ATTESTATION)
    keys = [devnet.member(node).account for node in ("tk1", "tk2", "tk3")]
    assert found["public_key"] in (keys if name in HOSTS else [devnet.member(name).account])
    assert abs(found["timestamp"] - time.time_ns()) < 40 * NS  # the same again within 30 s
    message = bytes.fromhex(leased.lease_hash) + found["timestamp"].to_bytes(8, "big")
    assert len(message) == 40
    assert message == attestation_message(bytes.fromhex(leased.lease_hash), found["timestamp"])
    key, signature = PublicKey(bytes.fromhex(found["public_key"])), Signature(bytes.fromhex(found["signature"]))
    assert verify(key, message, signature)


@pytest.mark.parametrize("path", ["/leases", "/leases/{hash}", "/vms", "/vms/{hash}", "/node", "/supply", "/providers"])
def test_answers_fit_the_documentation(devnet: Devnet, leased: Leased, path: str) -> None:
    for name in HOSTS:
        with http(devnet, name) as client:
            answer = client.get("/openapi.json").json()["paths"][path]["get"]["responses"]["200"]
            found = client.get(path.replace("{hash}", leased.lease_hash)).json()
        assert mismatch(found, answer["content"]["application/json"]["schema"]) is None


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize(("headers", "status"), [(UPGRADE, 101), ({}, 200)], ids=["upgrade", "plain"])
def test_a_tunnel(devnet: Devnet, leased: Leased, name: str, headers: dict[str, str], status: int) -> None:
    with raw_tunnel(devnet.member(name).api_url) as tunnel:
        assert tunnel.ask(leased.lease_hash, headers) == status
        assert tunnel.until(b"\r\n").startswith(BANNER)


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("headers", [UPGRADE, {}], ids=["upgrade", "plain"])
def test_bytes_right_behind_the_head_reach_the_machine(
    devnet: Devnet, leased: Leased, name: str, headers: dict[str, str]
) -> None:
    """The machine hangs up at once on nonsense; had it been lost, it would wait for a login."""
    with raw_tunnel(devnet.member(name).api_url) as tunnel:
        started = time.monotonic()
        assert tunnel.ask(leased.lease_hash, headers, NO_SSH_PACKET) in (101, 200)
        assert tunnel.rest().startswith(BANNER)
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("name", HOSTS)
def test_half_close(devnet: Devnet, leased: Leased, name: str) -> None:
    """The machine learns that nothing more comes, and what it says still arrives."""
    with raw_tunnel(devnet.member(name).api_url) as tunnel:
        assert tunnel.ask(leased.lease_hash, UPGRADE) == 101
        tunnel.end_writing()
        assert tunnel.rest().startswith(BANNER)


@pytest.mark.parametrize("name", HOSTS)
def test_a_tunnel_by_the_access_keys_signature(devnet: Devnet, leased: Leased, name: str) -> None:
    headers = UPGRADE | access_headers(leased.network_key, leased.key, leased.lease_hash)
    with raw_tunnel(devnet.member(name).api_url) as tunnel:
        assert tunnel.ask(leased.lease_hash, headers) == 101
        assert tunnel.until(b"\r\n").startswith(BANNER)
    with http(devnet, name) as client:
        assert "used" in refusal(client.post(f"/tunnel/{leased.lease_hash}/tcp", headers=headers), 401)


@pytest.mark.parametrize("name", HOSTS)
def test_a_tunnel_by_a_bad_proof(devnet: Devnet, leased: Leased, name: str) -> None:
    path, good = f"/tunnel/{leased.lease_hash}/tcp", access_headers(leased.network_key, leased.key, leased.lease_hash)
    stranger = SigningKey(bytes(31) + b"\x09")
    proofs = (
        access_headers(leased.network_key, stranger, leased.lease_hash),
        access_headers(leased.network_key, leased.key, UNKNOWN),
        access_headers(leased.network_key, leased.key, leased.lease_hash, time.time_ns() - 61 * NS),
        access_headers(leased.network_key, leased.key, leased.lease_hash, time.time_ns() + 70 * NS),
        good | {"X-Access-Timestamp": str(int(good["X-Access-Timestamp"]) + 1)},
        good | {"X-Access-Timestamp": "soon"},
        good | {"X-Access-Signature": "ab"},
        {"X-Access-Signature": good["X-Access-Signature"]},
        {"X-Access-Timestamp": good["X-Access-Timestamp"]},
    )
    with http(devnet, name) as client:
        for proof in proofs:
            refusal(client.post(path, headers=proof), 401)


def test_only_its_consumer_steers_the_machine_and_only_both_sides_look(devnet: Devnet, leased: Leased) -> None:
    stranger = SigningKey(bytes(31) + b"\x09")
    account = devnet.member("provider1").account
    forged = machine_headers(leased.network_key, stranger, leased.lease_hash, account, "stop")
    with http(devnet, "provider1") as client:
        assert "consumer" in refusal(client.post(f"/vms/{leased.lease_hash}/stop", json={}), 403)
        refusal(client.post(f"/vms/{leased.lease_hash}/stop", json={}, headers=forged), 401)
        refusal(client.get(f"/vms/{leased.lease_hash}/console", headers=forged), 401)
        refusal(client.get(f"/vms/{leased.lease_hash}/metrics", headers=forged), 401)
    with http(devnet, "tk1") as client:
        refusal(client.post(f"/vms/{leased.lease_hash}/stop", json={}), 403)
        refusal(client.get(f"/vms/{leased.lease_hash}/console"), 403)
        refusal(client.get(f"/vms/{leased.lease_hash}/metrics"), 403)
        refusal(client.post(f"/vms/{UNKNOWN}/stop", json={}), 404)


def test_console_and_metrics_are_the_same_from_both_sides(
    leased: Leased, provider: httpx.Client, consumer: httpx.Client
) -> None:
    texts = [client.get(f"/vms/{leased.lease_hash}/console").content for client in (provider, consumer)]
    assert texts[0] == texts[1]
    assert MARKER in texts[0]
    before = metrics(consumer, leased.lease_hash)
    execute(provider, leased, "head -c 2000000 /dev/urandom >/data/noise; echo kept >/data/file; sync")
    after = metrics(consumer, leased.lease_hash)
    for name in ("cpu_ns", "disk_bytes", "disk_written_bytes", "network_received_bytes", "network_sent_bytes"):
        assert after[name] > before[name], name
    assert after["guest_memory_bytes"] < 1 << 30


def test_a_pause_holds_the_machine_still(
    devnet: Devnet, leased: Leased, provider: httpx.Client, consumer: httpx.Client
) -> None:
    url = f"/vms/{leased.lease_hash}"
    answer = consumer.post(f"{url}/pause", json={})
    assert (answer.status_code, answer.json()["status"]) == (200, "paused"), answer.text
    assert [status_at(client, leased.lease_hash) for client in (provider, consumer)] == ["paused"] * 2
    assert "resume" in refusal(consumer.post(f"{url}/pause", json={}), 409)
    assert "resume it first" in refusal(consumer.post(f"/tunnel/{leased.lease_hash}/tcp", headers=UPGRADE), 409)
    assert metrics(consumer, leased.lease_hash)["guest_memory_bytes"] is None
    assert consumer.post(f"{url}/resume", json={}).json()["status"] == "running"
    assert execute(provider, leased, "cat /data/file")["stdout"] == "kept\n"


def test_a_stop_keeps_the_disk_and_holds_until_the_start(
    devnet: Devnet, leased: Leased, provider: httpx.Client, consumer: httpx.Client
) -> None:
    """The stop is signed by the access key at the provider's own API; the consumer's node carries the start there."""
    url, account = f"/vms/{leased.lease_hash}", devnet.member("provider1").account
    headers = machine_headers(leased.network_key, leased.key, leased.lease_hash, account, "stop")
    answer = provider.post(f"{url}/stop", json={}, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "stopped"), answer.text
    assert "used" in refusal(provider.post(f"{url}/stop", json={}, headers=headers), 401)
    assert machines(devnet) == []
    assert "start it first" in refusal(consumer.post(f"/tunnel/{leased.lease_hash}/tcp", headers=UPGRADE), 409)
    assert "start it" in refusal(consumer.post(f"{url}/stop", json={}), 409)
    assert "start it first" in refusal(consumer.get(f"{url}/metrics"), 409)
    time.sleep(2.5)  # longer than from one look of the provider to the next
    assert [status_at(client, leased.lease_hash) for client in (provider, consumer)] == ["stopped"] * 2
    answer = consumer.post(f"{url}/start", json={})
    assert (answer.status_code, answer.json()["status"]) == (200, "running"), answer.text
    assert answers_on_ssh(devnet.member("consumer1").api_url, leased.lease_hash)
    assert execute(provider, leased, "cat /data/file")["stdout"] == "kept\n"


def test_a_reboot_is_told_in_the_leases_events(leased: Leased, provider: httpx.Client, consumer: httpx.Client) -> None:
    boot = "cat /proc/sys/kernel/random/boot_id"
    before = execute(provider, leased, boot)["stdout"].strip()
    answer = consumer.post(f"/vms/{leased.lease_hash}/reboot", json={})
    assert (answer.status_code, answer.json()["status"]) == (200, "running"), answer.text
    after, text = execute(provider, leased, f"{boot}; cat /data/file")["stdout"].split()
    assert after != before
    assert text == "kept"
    time.sleep(2.1)  # what is younger is not asked of the provider again
    with consumer.stream("GET", f"/leases/{leased.lease_hash}/events") as events:
        lines = itertools.takewhile(lambda line: not line.startswith(":"), events.iter_lines())
        steps = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    told = {step["step"]: step["duration_ms"] for step in steps}
    for word in ("disk_made", "booted", "ssh_answered", "attested", "accepted", "consumer_stop", "consumer_reboot"):
        assert told[f"provider_{word}"] is not None, word
    first = {step["step"]: step["duration_ms"] for step in reversed(steps)}  # it has booted again since
    assert first["accepted"] >= first["provider_machine_ready"] > first["provider_ssh_answered"]
    assert told["provider_consumer_reboot"] == answer.json()["duration_ms"]


def test_the_lease_is_settled(devnet: Devnet, leased: Leased, consumer: httpx.Client) -> None:
    def is_settled() -> bool:
        return bool(consumer.get(f"/leases/{leased.lease_hash}").json()["settled"])

    wait_until(is_settled, SETTLE_SECONDS, "the lease is settled")
    lease = consumer.get(f"/leases/{leased.lease_hash}").json()
    assert not lacks(lease, LEASE)
    assert time.time_ns() >= lease["start_time"] + 120 * NS
    wait_until(lambda: not machines(devnet), GONE_SECONDS, "no machine runs")


@pytest.mark.parametrize("name", HOSTS)
def test_after_the_lease(devnet: Devnet, leased: Leased, name: str) -> None:
    proof = access_headers(leased.network_key, leased.key, leased.lease_hash)
    with http(devnet, name) as client:
        wait_until(lambda: not alive(client, leased), GONE_SECONDS, "the machine is gone")
        for headers in ({}, UPGRADE, proof):
            refusal(client.post(f"/tunnel/{leased.lease_hash}/tcp", headers=headers), 410)
        assert client.post(f"/vms/{leased.lease_hash}/exec", json={"command": "true"}).status_code in (404, 409)


def alive(client: httpx.Client, leased: Leased) -> bool:
    answer = client.get(f"/vms/{leased.lease_hash}")
    return answer.status_code == 200 and answer.json()["status"] != "destroyed"


def test_no_timekeeper_there(devnet: Devnet, leased: Leased, consumer: httpx.Client) -> None:
    """The last, since it ends the timekeepers."""
    devnet.stop(("tk1", "tk2", "tk3"))
    answer = consumer.post("/attestation/request", json={"lease_hash": leased.lease_hash})
    assert "timekeepers" in refusal(answer, 503)
