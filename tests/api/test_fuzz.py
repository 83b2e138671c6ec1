"""Whatever comes at the HTTP port, the server lives and tells what is wrong."""

import json
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.ledger import public_key_of
from tests.support.node_port import Running, running_api
from xnode.api.app import CALLS
from xnode.api.settings import ApiSettings

LIVELY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FORM = {"vcpus": 1, "memory_mb": 1, "disk_gb": 1, "duration": 60, "access_pub_key": public_key_of("x").hex()}
PIECES = [
    b"GET ",
    b"POST ",
    b"/leases",
    b"/tunnel/ab/tcp",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\n",
    b"Host: localhost\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: Upgrade\r\n",
    b"Upgrade: tcp\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"5\r\nabcde\r\n0\r\n\r\n",
    b"\x00\xff",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_api(tmp_path_factory.mktemp("node"), ApiSettings(port=0, rate=1e6, burst=1e6, grace=1)) as running:
        yield running


def throw(port: int, data: bytes) -> bytes:
    """Sends, half-closes, reads what comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))
        except ConnectionError:
            return b""


@pytest.mark.slow
@LIVELY
@given(st.binary(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_random_bytes(running: Running, data: bytes) -> None:
    answer = throw(running.port, data)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert not answer.startswith(b"HTTP/1.1 500")
    assert running.http.get("/health").status_code == 200


@pytest.mark.slow
@LIVELY
@given(st.sampled_from([call for call in CALLS if call.method == "POST" and call.body is not None]), JSON)
def test_random_json(running: Running, call: Any, value: object) -> None:
    path = call.path.replace("{hash}", "ab" * 32)
    answer = running.http.post(path, content=json.dumps(value), headers={"Content-Type": "application/json"})
    is_good = call.body == () and value == {}
    assert answer.status_code in ((200, 404) if is_good else (400, 404))
    assert answer.status_code == 200 or set(answer.json()) <= {"error", "code", "retryable"}


@pytest.mark.slow
@LIVELY
@given(st.sampled_from([*FORM, "timeout", "provider", "policy", "max_cost", "image"]), JSON)
def test_a_form_with_one_random_field(running: Running, name: str, value: object) -> None:
    content = json.dumps(FORM | {name: value})
    answer = running.http.post("/lease/quote", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400)


@pytest.mark.slow
@LIVELY
@given(st.sampled_from([call for call in CALLS if call.method == "GET"]), st.text(max_size=20), st.text(max_size=20))
def test_random_paths_and_queries(running: Running, call: Any, name: str, value: str) -> None:
    path = re.sub(r"{\w+}", lambda _: quote(name, safe=""), call.path)
    answer = running.http.get(path, params={"limit": value, name: value} if "limit" in str(call.query) else {})
    assert answer.status_code in (200, 400, 403, 404, 405)
