"""A local network's files, without running any of it; its processes with something else than a node in them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import invoke
from tests.support.ledger import MemoryLedger
from xnode.config import DataDir
from xnode.core.blocks import Claim
from xnode.core.faults import OperatorFault
from xnode.core.ledger import Effects, new_account
from xnode.core.values import ZERO_HASH, Address, Asset
from xnode.core.work import expected_tries
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.devnet_plan import DIFFICULTY, WORK_TRIES, Plan, free_ports, load_plan
from xnode_cmd.devnet_process import NodeProcess, tail
from xnode_cmd.signing import Position, sign_block

SMALL = Plan(timekeepers=2, providers=1, consumers=1, min_duration=5)


@pytest.fixture
def network(tmp_path: Path) -> Devnet:
    """Four nodes on paper."""
    return Devnet.create(tmp_path / "net", SMALL)


def test_names() -> None:
    assert Plan().names() == ("tk1", "tk2", "tk3", "provider1", "consumer1")


def test_everybody_shares_one_genesis(network: Devnet) -> None:
    documents = {DataDir(network.root / member.name).genesis.read_text() for member in network.members}
    assert len(documents) == 1
    genesis = network.access("tk1").data_dir.load_genesis()
    assert genesis.timekeepers.threshold == 2
    assert {key.hex() for key in genesis.timekeepers.keys} == {item.account for item in network.of_kind("tk")}
    assert genesis.faucet.enabled
    assert genesis.timing.lease_duration_min == 5
    assert {item.account.hex(): item.amount for item in genesis.allocations} == {
        member.account: {"tk": 1_000_000, "provider": 100_000, "consumer": 1_000_000}[member.kind]
        for member in network.members
    }


def test_work_is_cheap() -> None:
    assert expected_tries(DIFFICULTY) == WORK_TRIES


def test_settings(network: Devnet) -> None:
    configs = {member.name: network.access(member.name).data_dir.load_config() for member in network.members}
    assert configs["tk1"].timekeeper
    assert configs["provider1"].provide
    assert not configs["consumer1"].provide
    assert not configs["consumer1"].timekeeper
    assert configs["tk1"].peers == ()
    assert configs["consumer1"].peers == tuple(member.address for member in network.members[:3])
    assert not any(config.mdns for config in configs.values())
    assert len({config.api_port for config in configs.values()}) == 4


def test_keys_are_those_of_the_genesis(network: Devnet) -> None:
    for member in network.members:
        assert network.access(member.name).data_dir.load_account_key().public_key.hex() == member.account


def test_a_network_is_found_again(network: Devnet) -> None:
    assert load_plan(network.root) == (network.plan, network.members)
    assert Devnet.load(network.root).members == network.members


def test_a_network_replaces_none(network: Devnet) -> None:
    with pytest.raises(OperatorFault, match="already holds a network"):
        Devnet.create(network.root, SMALL)


@pytest.mark.parametrize("plan", [Plan(timekeepers=0), Plan(providers=-1), Plan(consumers=100)])
def test_impossible_networks(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(OperatorFault, match="timekeeper"):
        Devnet.create(tmp_path / "net", plan)


def test_the_first_claim_makes_a_timekeeper_its_own_representative(network: Devnet) -> None:
    data_dir = network.access("tk2").data_dir
    genesis, key = data_dir.load_genesis(), data_dir.load_account_key()
    account = Address(key.public_key)
    before = new_account(account, genesis)
    assert before.representative == genesis.representative != account
    position = Position(ZERO_HASH, {Asset.XUSD: before.xusd, Asset.XE: 0}, before.representative.hex())
    block = sign_block(genesis, key, position, Asset.XUSD, genesis.faucet.amount, Claim(), account)

    effects = MemoryLedger(genesis).judge(block, block.timestamp)
    assert isinstance(effects, Effects)
    assert effects.account.representative == account


def test_status_of_a_network_that_does_not_run(network: Devnet) -> None:
    ended = invoke("devnet", "status", "--dir", network.root)
    assert ended.status == 1
    assert ended.out.count("not running") == 4


def test_down_and_purge_of_a_network_that_does_not_run(network: Devnet) -> None:
    assert invoke("devnet", "down", "--dir", network.root).status == 0
    assert invoke("devnet", "down", "--purge", "--dir", network.root).status == 0
    assert not network.root.exists()


@pytest.mark.parametrize("words", [("status",), ("down",), ("restart", "tk1"), ("kill", "tk1"), ("log", "tk1")])
def test_no_network(tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = invoke("devnet", *words, "--dir", tmp_path)
    assert ended.status == 1
    assert "xnode devnet up" in ended.err


def test_an_unknown_name_is_answered_with_the_names(network: Devnet) -> None:
    ended = invoke("devnet", "kill", "tk9", "--dir", network.root)
    assert ended.status == 1
    assert "tk1, tk2, provider1, consumer1" in ended.err


def test_up_with_another_plan_is_refused(network: Devnet) -> None:
    ended = invoke("devnet", "up", "--providers", "3", "--dir", network.root)
    assert ended.status == 1
    assert "another --providers" in ended.err


@pytest.mark.slow
def test_a_node_that_dies_at_its_start_is_explained_by_its_log(network: Devnet) -> None:
    data_dir = network.access("tk1").data_dir
    data_dir.account_key.write_text("damaged")
    data_dir.account_key.chmod(0o600)
    network.start(["tk1"])
    with pytest.raises(OperatorFault, match="tk1 died") as caught:
        network.wait_ready(["tk1"])
    assert "is damaged" in str(caught.value)


def test_free_ports_are_distinct_and_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports[:3]:
        with socket.create_server(("127.0.0.1", port)):
            assert port not in free_ports(20)


def test_a_process_is_not_mistaken_for_another_of_its_number(tmp_path: Path) -> None:
    process = NodeProcess(DataDir(tmp_path))
    assert process.pid() is None
    (tmp_path / "process.json").write_text(f'{{"pid": {os.getpid()}, "born": 1.0}}')
    assert process.pid() is None


@pytest.mark.slow
def test_a_process_is_found_and_killed_by_another_owner(tmp_path: Path) -> None:
    import psutil

    words = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(words) as child:
        born = psutil.Process(child.pid).create_time()
        (tmp_path / "process.json").write_text(f'{{"pid": {child.pid}, "born": {born!r}}}')
        process = NodeProcess(DataDir(tmp_path))
        assert process.pid() == child.pid
        process.kill()
        assert process.pid() is None


def test_tail(tmp_path: Path) -> None:
    assert "No such file" in tail(tmp_path / "none")
    (tmp_path / "log").write_text("".join(f"{number}\n" for number in range(100_000)))
    assert tail(tmp_path / "log").splitlines() == [str(number) for number in range(99_980, 100_000)]
