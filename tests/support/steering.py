"""A machine's consumer over HTTP, by its lease's key: what it signs, and what it sees of the machine."""

import time
from typing import Any

import httpx

from tests.support.raw_tunnel import UPGRADE, raw_tunnel
from xnode.core.access import machine_message
from xnode.core.hashing import NetworkKey
from xnode.core.keys import SigningKey
from xnode.core.values import Address, Hash


def machine_headers(network_key: NetworkKey, key: SigningKey, lease_hash: str, node: str, what: str) -> dict[str, str]:
    """A proof for a node, by its account, dated now."""
    at, name = time.time_ns(), Hash(bytes.fromhex(lease_hash))
    signature = key.sign(machine_message(network_key, name, Address(bytes.fromhex(node)), at, what))
    return {"X-Access-Signature": signature.hex(), "X-Access-Timestamp": str(at)}


def metrics(client: httpx.Client, lease_hash: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """GET /vms/{hash}/metrics, which must succeed."""
    answer = client.get(f"/vms/{lease_hash}/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def status_at(client: httpx.Client, lease_hash: str) -> str:
    """What GET /vms/{hash} says."""
    return str(client.get(f"/vms/{lease_hash}").json()["status"])


def answers_on_ssh(url: str, lease_hash: str) -> bool:
    """Whether a tunnel leads to an SSH server that speaks."""
    with raw_tunnel(url) as tunnel:
        return tunnel.ask(lease_hash, UPGRADE) == 101 and tunnel.until(b"\r\n").startswith(b"SSH-2.0-")
