"""The tunnel over real HTTP: hand-over to the node, refusals, and a server that stops meanwhile."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.ledger import NOW, address_of
from tests.support.node_port import MemoryNode, Running, access_headers, running_api, serving
from tests.support.raw_http import RawClient, connect
from xnode.api import clients
from xnode.api.bridge import Bridge, open_bridge
from xnode.api.clients import Seats
from xnode.api.hijack import Detached
from xnode.api.port import TunnelEnd
from xnode.api.settings import ApiSettings
from xnode.api.tunnel import Handover
from xnode.core.faults import MachineFault, NotAllowed, NotFound, PeerFault, Unavailable
from xnode.core.lease import LeaseState
from xnode.core.values import NS, Hash

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_api(
        tmp_path_factory.mktemp("node"), ApiSettings(port=0, token="secret", rate=1e6, burst=1e6)
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _without_faults(running: Running) -> Iterator[None]:
    yield
    running.node.faults.clear()


def head(lease_hash: Hash, headers: dict[str, str], extra: str = UPGRADE) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /tunnel/{lease_hash.hex()}/tcp HTTP/1.1\r\nHost: localhost\r\n{lines}{extra}\r\n".encode()


def converse(port: int, request: bytes) -> bytes:
    """Sends all, half-closes, reads to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def post(running: Running, lease_hash: Hash, headers: dict[str, str]) -> tuple[int, str]:
    answer = running.http.post(f"/tunnel/{lease_hash.hex()}/tcp", headers=headers)
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize(("extra", "status"), [(UPGRADE, b"101"), ("", b"200"), ("Content-Length: 0\r\n", b"200")])
def test_bytes_both_ways_and_both_ends(running: Running, extra: str, status: bytes) -> None:
    headers = {"Authorization": "Bearer secret"}
    request = head(running.node.leases[LeaseState.ACCEPTED], headers, extra)
    answer = converse(running.port, request + b"SSH-2.0-early")
    answer_head, _, body = answer.partition(b"\r\n\r\n")
    assert answer_head.startswith(b"HTTP/1.1 " + status)
    assert body == b"SSH-2.0-earlybye"


def test_a_proof_by_the_access_key_opens_once(running: Running) -> None:
    lease_hash = running.node.leases[LeaseState.ACCEPTED]
    headers = access_headers(running.node, lease_hash, NOW + 1)
    assert converse(running.port, head(lease_hash, headers)).startswith(b"HTTP/1.1 101")
    assert post(running, lease_hash, headers) == (401, "access_used")


def test_bad_proofs(running: Running) -> None:
    lease_hash = running.node.leases[LeaseState.ACCEPTED]
    good = access_headers(running.node, lease_hash, NOW + 2)
    other = running.node.leases[LeaseState.CREATED]
    assert post(running, lease_hash, access_headers(running.node, lease_hash, NOW + 61 * NS))[0] == 401
    assert post(running, lease_hash, access_headers(running.node, lease_hash, NOW, "mallory"))[0] == 401
    assert post(running, lease_hash, access_headers(running.node, other, NOW + 2))[0] == 401
    assert post(running, lease_hash, good | {"X-Access-Timestamp": "soon"}) == (401, "access_timestamp")
    assert post(running, lease_hash, good | {"X-Access-Timestamp": str(2**64)}) == (401, "access_timestamp")
    assert post(running, lease_hash, good | {"X-Access-Signature": "abc"}) == (401, "bad_hex")
    assert post(running, lease_hash, {"X-Access-Timestamp": str(NOW)}) == (401, "bad_hex")


def test_without_token_or_proof(running: Running) -> None:
    assert post(running, running.node.leases[LeaseState.ACCEPTED], {}) == (401, "bad_token")


def test_unknown_and_ended(running: Running) -> None:
    bearer = {"Authorization": "Bearer secret"}
    assert post(running, Hash(bytes(32)), bearer) == (404, "lease_unknown")
    assert post(running, running.node.leases[LeaseState.SETTLED], bearer) == (410, "lease_ended")
    assert running.http.post("/tunnel/abc/tcp", headers=bearer).status_code == 404


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (PeerFault("unreachable", "the provider does not answer"), 502),
        (MachineFault("ssh_closed", "the machine does not answer"), 502),
        (Unavailable("tunnel_busy", "too many tunnels", retryable=True), 503),
        (NotAllowed("tunnel_not_allowed", "sign with the access key"), 401),
    ],
)
def test_refusals_of_the_node(running: Running, fault: Exception, status: int) -> None:
    running.node.faults["open_tunnel"] = fault
    assert post(running, running.node.leases[LeaseState.ACCEPTED], {"Authorization": "Bearer secret"})[0] == status


def test_a_machine_that_the_provider_does_not_have_is_not_an_unknown_lease(running: Running) -> None:
    running.node.faults["open_tunnel"] = NotFound("lease_unknown", "this provider hosts no such lease")
    bearer = {"Authorization": "Bearer secret"}
    assert post(running, running.node.leases[LeaseState.ACCEPTED], bearer) == (502, "machine_lost")
    assert post(running, running.node.leases[LeaseState.CREATED], bearer) == (409, "lease_created")
    assert post(running, running.node.leases[LeaseState.SETTLED], bearer) == (410, "lease_ended")
    assert post(running, Hash(bytes(32)), bearer) == (404, "lease_unknown")


def test_a_node_that_is_neither_side_names_those_that_are(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.node.faults["open_tunnel"] = NotAllowed("not_your_lease", "sign with the lease's access key")
    lease_hash = running.node.leases[LeaseState.ACCEPTED]
    url, bearer = f"/tunnel/{lease_hash.hex()}/tcp", {"Authorization": "Bearer secret"}
    assert "access key" in running.http.post(url, headers=bearer).json()["error"]
    monkeypatch.setattr(running.node, "address", address_of("carol"))
    said = running.http.post(url, headers=bearer).json()["error"]
    assert running.node.bob.address.hex() in said
    assert "access key" not in said


def test_a_body_is_refused(running: Running) -> None:
    url = f"/tunnel/{running.node.leases[LeaseState.ACCEPTED].hex()}/tcp"
    answer = running.http.post(url, content=b"body", headers={"Authorization": "Bearer secret"})
    assert (answer.status_code, answer.json()["code"]) == (400, "tunnel_body")


async def open_raw(stack: AsyncExitStack, node: MemoryNode, port: int) -> RawClient:
    client = await stack.enter_async_context(connect(port))
    await client.send(head(node.leases[LeaseState.ACCEPTED], {}))
    return client


async def test_a_client_that_left_while_the_tunnel_opened(tmp_path: Path) -> None:
    node = MemoryNode(tmp_path)
    release = node.waits["open_tunnel"] = trio.Event()
    async with AsyncExitStack() as stack, serving(node, ApiSettings(port=0)) as bound:
        client = await open_raw(stack, node, bound.port)
        await node.entered.wait()
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing resets
        await client.stream.aclose()
        await trio.sleep(0.02)
        release.set()
        with trio.fail_after(2):
            await node.abandoned.wait()
    node.store.close()


async def test_a_server_that_stops_leaves_an_open_tunnel_to_the_node(tmp_path: Path) -> None:
    node = MemoryNode(tmp_path)
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        async with serving(node, ApiSettings(port=0)) as bound:
            node.nursery = nursery  # the tunnel outlives the server
            client = await open_raw(stack, node, bound.port)
            assert (await client.head()).startswith(b"HTTP/1.1 101")
        await client.send(b"still there")
        assert await client.exactly(11) == b"still there"
        await client.stream.send_eof()
        assert await client.rest() == b"bye"
    node.store.close()


@pytest.mark.slow
async def test_a_server_that_stops_ends_what_is_under_way(tmp_path: Path) -> None:
    node = MemoryNode(tmp_path)
    node.waits["open_tunnel"] = trio.Event()
    async with AsyncExitStack() as stack:
        async with serving(node, ApiSettings(port=0, grace=1)) as bound:
            client = await open_raw(stack, node, bound.port)
            await node.entered.wait()
        assert (await client.head()).startswith(b"HTTP/1.1 503")
        assert b"node_stopping" in await client.rest()
    assert node.cancelled == ["open_tunnel"]
    node.store.close()


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.lists(st.integers(1, 60), max_size=12), st.sampled_from([UPGRADE, ""]))
def test_no_byte_is_lost_however_the_request_is_cut(running: Running, data: bytes, cuts: list[int], extra: str) -> None:
    request = head(running.node.leases[LeaseState.ACCEPTED], {"Authorization": "Bearer secret"}, extra) + data
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for size in cuts:
            client.sendall(request[:size])
            request = request[size:]
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.partition(b"\r\n\r\n")[2] == data + b"bye"


class Joined(TunnelEnd):
    """A far end that fails, or keeps what it is given."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.given: list[bytes] = []

    async def join(self, sock: socket.socket, early: bytes, eof: bool, leave: Callable[[], None]) -> None:
        if self.fault is not None:
            raise self.fault
        self.given.append(early)
        sock.close()
        leave()

    async def abandon(self) -> None:
        raise AssertionError("joined, not abandoned")


class Abandoned(Joined):
    """A far end that is told that nobody wants it."""

    is_abandoned = False

    async def abandon(self) -> None:
        self.is_abandoned = True


async def cross(bridge: Bridge, end: TunnelEnd, sock: socket.socket) -> Handover:
    """The hand-over as the HTTP thread does it."""
    seats = Seats("tunnel_busy", "")
    handover = Handover(Detached(sock, b"early", False), seats.take(1, {}))

    async def main() -> None:
        await handover.cross(bridge, end)

    await trio.to_thread.run_sync(lambda: asyncio.run(main()))
    assert len(seats) == 0
    return handover


@pytest.mark.parametrize("fault", [None, PeerFault("gone", "the provider went away")])
async def test_the_hand_over_leaves_the_socket_with_one_owner(fault: Exception | None) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        async with open_bridge() as bridge:
            end = Joined(fault)
            handover = await cross(bridge, end, theirs)
        assert end.given == ([] if fault else [b"early"])
        assert not handover.take()
        assert ours.recv(1) == b""


async def test_a_hand_over_to_a_node_that_is_gone_closes_the_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        async with open_bridge() as bridge:
            pass
        end = Joined()
        await cross(bridge, end, theirs)
        assert end.given == []
        assert ours.recv(1) == b""


async def test_a_hand_over_that_is_cut_off_abandons_the_far_end() -> None:
    ours, theirs = socket.socketpair()
    go, release, end = threading.Event(), threading.Event(), Abandoned()
    seats = Seats("tunnel_busy", "")

    async def main(bridge: Bridge) -> None:
        go.wait(5)
        crossing = asyncio.create_task(
            Handover(Detached(theirs, b"early", False), seats.take(1, {})).cross(bridge, end)
        )
        await asyncio.sleep(0)
        crossing.cancel()
        await asyncio.sleep(0)
        release.set()
        with suppress(asyncio.CancelledError):
            await crossing

    with ours, theirs:
        async with open_bridge() as bridge, trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, lambda: asyncio.run(main(bridge)))
            await trio.testing.wait_all_tasks_blocked()
            go.set()
            assert release.wait(5)  # the node is busy meanwhile, so the far end can't be joined first
        assert end.is_abandoned
        assert len(seats) == 0
        assert end.given == []
        assert ours.recv(1) == b""


async def test_a_hand_over_that_finds_the_node_busy_abandons_the_far_end() -> None:
    ours, theirs = socket.socketpair()
    end = Abandoned()
    with ours, theirs:
        async with open_bridge(calls_max=0) as bridge:
            await cross(bridge, end, theirs)
            await trio.testing.wait_all_tasks_blocked()
        assert end.is_abandoned
        assert ours.recv(1) == b""


def test_a_tunnel_does_not_stop_other_requests(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as client:
        client.sendall(head(running.node.leases[LeaseState.ACCEPTED], {"Authorization": "Bearer secret"}))
        client.recv(65536)
        assert running.http.get("/health").status_code == httpx.codes.OK


def test_a_client_s_tunnels_are_bounded_and_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_api(tmp_path, ApiSettings(port=0, tunnels_max=2, tunnels_per_client_max=1)) as running:
        request = head(running.node.leases[LeaseState.ACCEPTED], {})
        address = ("127.0.0.1", running.port)
        with (
            socket.create_connection(address, timeout=5) as first,
            socket.create_connection(address, timeout=5) as second,
        ):
            first.sendall(request)
            assert b" 101 " in first.recv(65536)
            with monkeypatch.context() as elsewhere:
                elsewhere.setattr(clients, "is_loopback", lambda _: False)
                with socket.create_connection(address, timeout=5) as refused:
                    refused.sendall(request)
                    answer = b"".join(iter(lambda: refused.recv(65536), b""))
            assert b" 503 " in answer
            assert b"tunnel_busy" in answer
            second.sendall(request)
            assert b" 101 " in second.recv(65536)
        for _ in range(500):
            if "xnode_api_tunnels 0\n" in running.http.get("/metrics").text:
                return
            time.sleep(0.01)
        raise AssertionError("a tunnel that has ended is still counted")
