"""The command line as a whole: its names, its errors, what it loads."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import Ended, invoke
from xnode_cmd.main import COMMANDS, cli

SUBCOMMANDS = {
    "wallet": {"address", "balance", "pending", "send", "receive", "claim", "delegate", "new-key"},
    "multisig": {"address", "open", "send", "update", "receive", "sign", "submit", "show"},
    "lease": {"request", "quote", "list", "show", "events", "cancel"},
    "vm": {"stop", "start", "reboot", "pause", "resume", "reset", "console", "metrics"},
    "image": {"add", "list", "remove", "verify"},
    "genesis": {"new", "show"},
    "token": {"new", "show-path"},
    "provider": {"status", "drain", "undrain"},
    "dao": {"propose", "sign", "submit", "show"},
    "devnet": {"up", "status", "down", "restart", "kill", "log"},
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    ended = invoke(name, "--help")
    assert ended.status == 0
    assert len(ended.out.splitlines()) > 4


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_subcommands(name: str) -> None:
    group = cli.get_command(None, name)  # type: ignore[arg-type]
    assert set(group.commands) == SUBCOMMANDS[name]  # type: ignore[union-attr]


def test_an_unknown_command_is_a_usage_error() -> None:
    ended = invoke("frobnicate")
    assert ended.status == 2
    assert "No such command" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ("status",), ("providers",), ("provider", "drain"),
        ("lease", "list"), ("lease", "request"), ("lease", "quote"), ("wallet", "balance"),
        ("wallet", "claim"), ("wallet", "pending"), ("ssh", "ab"), ("ssh-config", "ab"),
        ("tunnel", "ab", "--stdio"), ("lease", "show", "ab"), ("lease", "cancel", "ab"), ("run",), ("genesis", "show"),
        ("lease", "events", "ab"), ("vm", "stop", "ab"), ("vm", "console", "ab"), ("vm", "metrics", "ab"),
        ("multisig", "address", "ab", "--threshold", "1"), ("multisig", "show", "ab" * 32),
        ("wallet", "address"), ("token", "new"), ("token", "show-path"), ("dao", "show"),
    ],
)  # fmt: skip
def test_without_a_node_one_sentence_says_what_to_do(words: tuple[str, ...], tmp_path: Path) -> None:
    assert_one_sentence(invoke(*words, "--data-dir", tmp_path / "none"))


def assert_one_sentence(ended: Ended) -> None:
    assert ended.status == 1
    assert ended.err.startswith("Error: ")
    assert len(ended.err.splitlines()) == 1
    assert "`xnode " in ended.err


def test_what_stands_behind_the_lease_is_the_commands(tmp_path: Path) -> None:
    assert_one_sentence(invoke("exec", "--data-dir", tmp_path / "none", "ab", "ls", "-d", "/tmp", "--timeout", "x"))


def test_nobody_answers(tmp_path: Path) -> None:
    ended = invoke("status", "--data-dir", tmp_path, "--api", "http://127.0.0.1:1")
    assert ended.status == 1
    assert "nobody answers at http://127.0.0.1:1" in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("module", ["xnode_cmd.main", "xnode_cmd.tunnel", "xnode_cmd.ssh", "xnode_cmd.lease"])
def test_client_commands_load_no_heavy_library(module: str) -> None:
    heavy = ("libp2p", "trio", "uvicorn", "plyvel", *(["httpx"] if module.endswith(("main", "tunnel")) else []))
    program = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
