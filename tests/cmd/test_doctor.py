"""`xnode doctor` without machines: sound files, ports, peers, clock, and a node that runs."""

import json
import socket
from pathlib import Path

import pytest

from tests.support.command import invoke
from tests.support.ledger import make_genesis
from tests.support.node_port import running_api
from xnode.config import Config, DataDir
from xnode_cmd.doctor_checks import tcp_of


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def node(tmp_path: Path) -> DataDir:
    data_dir = DataDir(tmp_path / "node")
    listen = (f"/ip4/127.0.0.1/tcp/{free_port()}",)
    data_dir.create(make_genesis(), Config(api_port=free_port(), listen=listen))
    return data_dir


def doctor(data_dir: DataDir, *words: str) -> tuple[int, dict[str, str]]:
    """The exit status, and each check's worst status."""
    ended = invoke("doctor", "--json", "--data-dir", data_dir.root, *words)
    found = json.loads(ended.out)
    assert (ended.status == 0) == found["ok"] == all(item["status"] != "fail" for item in found["checks"])
    assert all(item["hint"] for item in found["checks"] if item["status"] != "ok")
    return ended.status, {item["name"]: item["status"] for item in found["checks"]}


def test_a_node_that_could_run(node: DataDir) -> None:
    status, checks = doctor(node)
    assert status == 0
    assert {name: checks[name] for name in ("files", "node", "port")} == {"files": "ok", "node": "warn", "port": "ok"}
    assert "boot" not in checks


def test_a_port_that_is_taken(node: DataDir) -> None:
    with socket.create_server(("127.0.0.1", node.load_config().api_port)):
        ended = invoke("doctor", "--data-dir", node.root)
    assert ended.status == 1
    (line,) = (line for line in ended.out.splitlines() if line.startswith("FAIL"))
    assert str(node.load_config().api_port) in line
    assert "change `api_port`" in ended.out


def test_a_key_that_others_can_read(node: DataDir) -> None:
    node.account_key.chmod(0o644)
    status, checks = doctor(node)
    assert (status, checks) == (1, {"files": "fail"})


def test_peers_are_dialled(node: DataDir) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"/ip4/127.0.0.1/tcp/{server.getsockname()[1]}/p2p/12D3KooWpeer"
        node.config.write_text(f'api_port = 0\npeers = ["{here}"]\n')
        assert doctor(node)[1]["peer"] == "ok"
    node.config.write_text(f'api_port = 0\npeers = ["{here}"]\n')
    assert doctor(node)[1]["peer"] == "warn"


def test_a_node_that_runs_is_asked(node: DataDir, tmp_path: Path) -> None:
    with running_api(tmp_path / "api") as running:
        node.run.write_text(json.dumps({"api": str(running.http.base_url)}))
        status, checks = doctor(node)
        assert (checks["node"], checks["peers"], checks["store"]) == ("ok", "ok", "ok")
        running.node.is_ready = False
        status, checks = doctor(node)
        assert (status, checks["peers"]) == (1, "fail")


def test_a_provider_without_an_image_fails(node: DataDir) -> None:
    status, checks = doctor(node, "--provide", "--no-boot")
    assert (status, checks["image"]) == (1, "fail")
    assert "boot" not in checks


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("/ip4/1.2.3.4/tcp/7447/p2p/12D3", ("1.2.3.4", 7447)),
        ("/dns4/a.example/tcp/1", ("a.example", 1)),
        ("/ip4/1.2.3.4/udp/1/quic-v1", None),
        ("/ip4/1.2.3.4/tcp/x", None),
        ("nonsense", None),
    ],
)
def test_multiaddresses(address: str, place: tuple[str, int] | None) -> None:
    assert tcp_of(address) == place
