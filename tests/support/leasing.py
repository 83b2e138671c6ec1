"""Leases on a running network: a tenant with a key of its own, and what all nodes say of a lease and of the books."""

import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.devnet import http, wait_until
from xnode.config import DataDir
from xnode.store.store import Store
from xnode.store.verify import verify_store
from xnode_cmd.demo_login import Visitor, run_program, ssh_words
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.lease_keys import LeaseKeys

SIZES: Final = {"vcpus": 1, "memory_mb": 256, "disk_gb": 1}
AGREE_SECONDS: Final = 20.0  # until the last block is on all nodes
BOOKS: Final = ("/frontiers", "/accounts", "/pending", "/supply", "/leases")
Heights = dict[str, int]


class Tenant:
    """Who asks for one lease and logs into its machine; the key lies in consumer1's directory before anything else."""

    def __init__(self, network: Devnet, duration: int) -> None:
        self._network = network
        _, key = LeaseKeys(network.access("consumer1").data_dir).make()
        self.key = key.hex()
        self.body: dict[str, Any] = {**SIZES, "duration": duration, "access_pub_key": self.key}

    def ask(self, idempotency_key: str) -> httpx.Response:
        """POST /lease/request: comes back once the machine is there, or with the reason."""
        with http(self._network, "consumer1") as client:
            return client.post("/lease/request", json=self.body, headers={"Idempotency-Key": idempotency_key})

    def lease(self) -> str:
        """Asks, and expects to get it; its hash."""
        answer = self.ask(f"once-{self.key}")
        assert answer.status_code == httpx.codes.OK, answer.text
        return str(answer.json()["lease_hash"])

    def seen_by(self, name: str) -> list[dict[str, Any]]:
        """The leases with this key, as a node has them."""
        with http(self._network, name) as client:
            return [item for item in client.get("/leases").json() if item["access_pub_key"] == self.key]

    def visitor(self, lease_hash: str) -> Visitor:
        """OpenSSH with this key, and the host key of the accept block."""
        return Visitor(self._network.access("consumer1"), lease_hash)


def can_log_in(visitor: Visitor) -> bool:
    """Whether OpenSSH gets in now."""
    return run_program([*ssh_words(visitor.login), "true"]).returncode == 0


def lease_at(network: Devnet, name: str, lease_hash: str) -> dict[str, Any]:
    """A lease as one node has it."""
    with http(network, name) as client:
        return dict(client.get(f"/leases/{lease_hash}").json())


def wait_for_state(network: Devnet, lease_hash: str, state: str, seconds: float) -> None:
    """Waits until every node shows the lease in this state."""
    for member in network.members:
        wait_until(
            lambda name=member.name: lease_at(network, name, lease_hash).get("state") == state,
            seconds,
            f"{member.name}: lease {lease_hash[:12]} {state}",
        )


def machine_status(network: Devnet, lease_hash: str) -> str:
    """What GET /vms of the provider says of a lease's machine; "" where it has none."""
    with http(network, "provider1") as client:
        found = {item["lease_hash"]: str(item["status"]) for item in client.get("/vms").json()}
    return found.get(lease_hash, "")


def heights(network: Devnet, name: str) -> Heights:
    """How long each account's chain is, as one node's API tells."""
    with http(network, name) as client:
        return {item["account"]: item["height"] for item in client.get("/frontiers").json()}


def books(network: Devnet, name: str) -> dict[str, Any]:
    """All that must be the same everywhere: every chain's end, every balance, the supply, what is pending."""
    with http(network, name) as client:
        found = {
            path: client.get(path).json() for path in ("/frontiers", "/accounts", "/pending", "/supply", "/leases")
        }
        return found | {"blocks": client.get("/node").json()["block_count"]}


def check_books(network: Devnet) -> None:
    """All nodes have the same books, and nothing in them was made or lost."""

    def differing() -> list[str]:
        return [member.name for member in network.members if books(network, member.name) != books(network, "tk1")]

    wait_until(lambda: not differing(), AGREE_SECONDS, "all nodes with the same books")
    assert books(network, "tk1")["/supply"]["balanced"] is True


def stored_heights(network: Devnet, name: str) -> Heights:
    """The same of a node that does not run, from a copy of its store, which must be sound."""
    data_dir = DataDir(network.root / name)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "store"
        shutil.copytree(data_dir.store, copy)
        with Store.open(copy, data_dir.load_genesis()) as store:
            assert verify_store(store) == []
            with store.snapshot() as snapshot:
                return {frontier.address.hex(): frontier.height for frontier in snapshot.frontiers()}


def lost(before: Heights, after: Heights) -> Heights:
    """The chains that have become shorter."""
    return {account: height for account, height in before.items() if after.get(account, 0) < height}
