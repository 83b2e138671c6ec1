"""The user's document as a table: each object's fields with their types, each call, and how an error looks."""

from collections.abc import Mapping
from typing import Any, Final

import httpx

LEASE: Final = {
    "lease_hash": str,
    "consumer": str,
    "provider": str,
    "vcpus": int,
    "memory_mb": int,
    "disk_gb": int,
    "duration": int,
    "access_pub_key": str,
    "cost": int,
    "stake": int,
    "start_time": int,
    "certificate_hash": str,
    "settled": bool,
}
PROVIDER: Final = {
    "address": str,
    "vcpus": int,
    "memory_mb": int,
    "disk_gb": int,
    "active_leases": int,
    "available_vcpus": int,
    "available_memory_mb": int,
    "available_disk_gb": int,
}
ATTESTATION: Final = {"public_key": str, "timestamp": int, "signature": str}
VM: Final = {"lease_hash": str, "status": str, "resources": dict, "created_at": int}
RESOURCES: Final = {"vcpus": int, "memory_mb": int, "disk_gb": int}
RESULT: Final = {"exit_code": int, "stdout": str, "stderr": str}
CALLS: Final = (
    ("get", "/leases"),
    ("get", "/leases/{hash}"),
    ("get", "/providers"),
    ("post", "/lease/request"),
    ("post", "/attestation/request"),
    ("get", "/vms"),
    ("get", "/vms/{hash}"),
    ("post", "/vms/{hash}/exec"),
    ("post", "/tunnel/{hash}/tcp"),
)
UNKNOWN: Final = "ab" * 32
SENTENCE_LENGTH_MIN: Final = 15


def lacks(value: Mapping[str, Any], fields: Mapping[str, type]) -> str:
    """What `value` lacks of the document's fields: "" where each is there and of just its type."""
    wrong = [name for name, kind in fields.items() if type(value.get(name)) is not kind]
    return f"{wrong} in {value}" if wrong else ""


def refusal(answer: httpx.Response, status: int) -> str:
    """The error's sentence; fails the test unless it is of the one error shape and has this status."""
    assert answer.status_code == status, f"{answer.status_code} instead of {status}: {answer.text}"
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert {"error", "code"} <= set(body) <= {"error", "code", "retryable"}, body
    assert isinstance(body["error"], str)
    assert len(body["error"]) >= SENTENCE_LENGTH_MIN
    assert body["code"].replace("_", "").isalnum()
    assert body["code"] == body["code"].lower()
    return str(body["error"])
