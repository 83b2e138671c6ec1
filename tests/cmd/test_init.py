"""`xnode init`, `xnode genesis`, `xnode token`, `xnode wallet new-key`: files in, files out."""

import json
from pathlib import Path

import pytest

from tests.support.command import invoke
from xnode.config import DataDir
from xnode.core.genesis import parse_genesis
from xnode.core.values import Asset


def new_key(path: Path) -> str:
    ended = invoke("wallet", "new-key", path)
    assert ended.status == 0
    return ended.out.strip()


@pytest.fixture
def account(tmp_path: Path) -> str:
    """The account of tmp_path/account.key."""
    return new_key(tmp_path / "account.key")


@pytest.fixture
def genesis(tmp_path: Path, account: str) -> Path:
    """A genesis whose only timekeeper and holder is `account`."""
    path = tmp_path / "genesis.toml"
    words = ("--network-id", "mine", "--timekeeper", account, "--allocate", f"{account}=1000", "--out", path)
    assert invoke("genesis", "new", *words).status == 0
    return path


def test_a_network_from_nothing(tmp_path: Path, genesis: Path, account: str) -> None:
    key, node = tmp_path / "account.key", tmp_path / "node"
    ended = invoke("init", "--genesis", genesis, "--account-key", key, "--timekeeper", "-d", node)
    assert ended.status == 0
    assert account in ended.out
    assert DataDir(node).load_config().timekeeper
    assert DataDir(node).load_genesis() == parse_genesis(genesis.read_text())
    assert invoke("wallet", "address", "-d", node).out.strip() == account


def test_init_makes_a_fresh_account_of_private_files(tmp_path: Path, genesis: Path, account: str) -> None:
    assert invoke("init", "--genesis", genesis, "-d", tmp_path / "node").status == 0
    data_dir = DataDir(tmp_path / "node")
    assert data_dir.load_account_key().public_key.hex() != account
    assert data_dir.account_key.stat().st_mode & 0o777 == 0o600
    assert data_dir.root.stat().st_mode & 0o777 == 0o700


def test_init_replaces_nothing(tmp_path: Path, genesis: Path) -> None:
    assert invoke("init", "--genesis", genesis, "-d", tmp_path / "node").status == 0
    before = (tmp_path / "node" / "account.key").read_text()
    ended = invoke("init", "--genesis", genesis, "-d", tmp_path / "node")
    assert ended.status == 1
    assert "already holds a node" in ended.err
    assert (tmp_path / "node" / "account.key").read_text() == before


def test_init_without_a_genesis_says_where_networks_come_from(tmp_path: Path) -> None:
    ended = invoke("init", "-d", tmp_path / "node")
    assert ended.status == 2
    assert "xnode devnet up" in ended.err
    assert "xnode genesis new" in ended.err


@pytest.mark.parametrize(("text", "why"), [("network_id = 3", "must be"), ("]", "not TOML"), (None, "can't be read")])
def test_init_with_a_bad_genesis(tmp_path: Path, text: str | None, why: str) -> None:
    if text is not None:
        (tmp_path / "bad.toml").write_text(text)
    ended = invoke("init", "--genesis", tmp_path / "bad.toml", "-d", tmp_path / "node")
    assert ended.status == 1
    assert why in ended.err
    assert not (tmp_path / "node").exists()


def test_init_with_a_bad_key_file_shows_none_of_it(tmp_path: Path, genesis: Path) -> None:
    (tmp_path / "bad.key").write_text("secret-words")
    ended = invoke("init", "--genesis", genesis, "--account-key", tmp_path / "bad.key", "-d", tmp_path / "node")
    assert ended.status == 1
    assert "secret-words" not in ended.out + ended.err
    assert not (tmp_path / "node").exists()


def test_genesis_new_takes_every_word(account: str) -> None:
    words = ("--network-id", "all", "--timekeeper", account, "--allocate", f"{account}=5:XE", "--faucet")
    more = ("--allocate", f"{account}=7", "--difficulty", "ffc0000000000000", "--min-duration", "5")
    made = parse_genesis(invoke("genesis", "new", *words, *more).out)
    assert [(item.asset, item.amount) for item in made.allocations] == [(Asset.XE, 5), (Asset.XUSD, 7)]
    assert made.faucet.enabled
    assert made.work_difficulty == 0xFFC0000000000000
    assert made.timing.lease_duration_min == 5
    assert made.representative.hex() == account


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("--allocate", "me=5"), 2, "ACCOUNT=AMOUNT"),
        (("--difficulty", "zz", "--allocate", "0" * 64 + "=1"), 2, "hexadecimal"),
        (("--allocate", "0" * 64 + "=1:XE"), 1, "allocate some XUSD"),
    ],
)
def test_genesis_new_refuses(account: str, words: tuple[str, ...], status: int, why: str) -> None:
    ended = invoke("genesis", "new", "--network-id", "mine", "--timekeeper", account, *words)
    assert ended.status == status
    assert why in ended.err


def test_genesis_new_replaces_no_file(genesis: Path, account: str) -> None:
    words = ("--network-id", "b", "--timekeeper", account, "--allocate", f"{account}=1", "--out", genesis)
    assert invoke("genesis", "new", *words).status == 1


def test_genesis_show(genesis: Path) -> None:
    made = parse_genesis(genesis.read_text())
    assert made.genesis_hash.hex() in invoke("genesis", "show", genesis).out
    shown = json.loads(invoke("genesis", "show", genesis, "--json").out)
    assert shown == {"network_id": "mine", "genesis_hash": made.genesis_hash.hex()}


def test_new_key_replaces_nothing(tmp_path: Path, account: str) -> None:
    assert invoke("wallet", "new-key", tmp_path / "account.key").status == 1
    assert (tmp_path / "account.key").stat().st_mode & 0o777 == 0o600
    assert account not in (tmp_path / "account.key").read_text()


def test_a_token_is_made_found_and_never_shown(tmp_path: Path, genesis: Path) -> None:
    node = tmp_path / "node"
    assert invoke("init", "--genesis", genesis, "-d", node).status == 0
    assert invoke("token", "show-path", "-d", node).status == 1
    made = invoke("token", "new", "-d", node)
    token = DataDir(node).load_token()
    assert token is not None
    assert token not in made.out + made.err
    assert DataDir(node).token.stat().st_mode & 0o777 == 0o600
    assert invoke("token", "show-path", "-d", node).out.strip() == str(DataDir(node).token)


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, genesis: Path) -> None:
    node = tmp_path / "node"
    assert invoke("init", "--genesis", genesis, "-d", node).status == 0
    (node / "account.key").chmod(0o644)
    ended = invoke("wallet", "address", "-d", node)
    assert ended.status == 1
    assert "chmod 600" in ended.err


def test_run_refuses_bad_settings_before_it_starts(tmp_path: Path, genesis: Path) -> None:
    assert invoke("init", "--genesis", genesis, "-d", tmp_path / "node").status == 0
    ended = invoke("run", "--api-port", "70000", "-d", tmp_path / "node")
    assert ended.status == 1
    assert "api_port must be from 0 to 65535" in ended.err
