"""`xnode dao` against a node's API over HTTP: from a proposal to a change, and every way in which it can't be."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.command import Ended, invoke
from tests.support.ledger import key_of
from tests.support.node_port import MemoryNode, running_api
from tests.support.state import OTHER_RATES, dao_genesis, keys_json
from tests.support.store import GENESIS
from xnode.config import Config, DataDir, write_private
from xnode.core.genesis import render_genesis
from xnode.core.price import Rates

NEW_RATES = f"sys.rates={json.dumps(OTHER_RATES)}"
NEW_DAO = f"sys.dao_keyset={json.dumps(keys_json('dao', 'dao-2', 'dao-3'))}"


class Desk(NamedTuple):
    """A folder with proposals and the keys of some people, beside a running node."""

    folder: Path
    url: str
    node: MemoryNode

    @property
    def data_dir(self) -> Path:
        return self.folder / "node"

    def key(self, name: str) -> Path:
        """Somebody's key file."""
        path = self.folder / f"{name}.key"
        write_private(path, hashlib.sha256(name.encode()).digest().hex() + "\n")
        return path

    def dao(self, command: str, *words: str | Path, said: str = "") -> Ended:
        """Runs `xnode dao COMMAND`; before it signs it asks only where it is `said` something."""
        more = ("--yes",) * (not said) if command == "sign" else ("--api", self.url)
        return invoke("dao", command, *words, "--data-dir", self.data_dir, *more, said=said)

    def propose(self, name: str, *words: str) -> Path:
        """A good proposal."""
        ended = self.dao("propose", self.folder / name, *words)
        assert ended.status == 0, ended.err
        return self.folder / name

    def sign(self, file: Path, *names: str) -> None:
        """Signs it by these people."""
        for name in names:
            ended = self.dao("sign", file, "--key", self.key(name))
            assert ended.status == 0, ended.err

    def enact(self, name: str, signers: tuple[str, ...], *words: str) -> None:
        """From proposal to change."""
        file = self.propose(name, *words)
        self.sign(file, *signers)
        ended = self.dao("submit", file)
        assert ended.status == 0, ended.err


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    DataDir(tmp_path / "node").create(GENESIS, Config())
    with running_api(tmp_path / "api") as running:
        yield Desk(tmp_path, str(running.http.base_url).rstrip("/"), running.node)


def test_from_a_proposal_to_a_change(desk: Desk) -> None:
    file = desk.propose("rates.json", "--set", NEW_RATES)
    shown = desk.dao("show", file)
    assert "vcpu: 20 -> 40" in shown.out
    assert "missing: 1" in shown.out
    signed = desk.dao("sign", file, "--key", desk.key("dao"))
    assert "complete" in signed.out
    ended = desk.dao("submit", file)
    assert ended.status == 0
    assert "it holds from" in ended.out
    with desk.node.snapshot() as view:
        assert view.charters().latest.rates == Rates(**OTHER_RATES)
    shown = desk.dao("show")
    assert 'sys.rates = {"disk_gb":2,"memory_gb":20,"vcpu":40}' in shown.out
    assert "the DAO: 1 of 1 keys sign" in shown.out
    assert json.loads(desk.dao("show", "--json").out)["kv"]["sys.rates"] == OTHER_RATES


def test_a_proposal_is_shown_before_it_is_signed(desk: Desk) -> None:
    file = desk.propose("rates.json", "--set", NEW_RATES)
    before = file.read_bytes()
    declined = desk.dao("sign", file, "--key", desk.key("dao"), said="n\n")
    assert (declined.status, file.read_bytes()) == (1, before)
    signed = desk.dao("sign", file, "--key", desk.key("dao"), said="y\n")
    assert signed.status == 0
    assert signed.out.index("vcpu: 20 -> 40") < signed.out.index("Sign this?") < signed.out.index("signed as")


def test_a_dao_of_three_signs_one_after_the_other(desk: Desk) -> None:
    desk.enact("dao.json", ("dao",), "--set", NEW_DAO)
    file = desk.propose("motd.json", "--set", 'motd="hello"', "--effective-in", "2h")
    unsigned = desk.dao("submit", file)
    assert (unsigned.status, "2 more" in unsigned.err) == (1, True)
    desk.sign(file, "dao-3")
    assert "1 more" in desk.dao("submit", file).err
    again = desk.dao("sign", file, "--key", desk.key("dao-3"))
    assert (again.status, "already signed" in again.err) == (1, True)
    stranger = desk.dao("sign", file, "--key", desk.key("stranger"))
    assert (stranger.status, "no key of the DAO" in stranger.err) == (1, True)
    desk.sign(file, "dao")
    surplus = desk.dao("sign", file, "--key", desk.key("dao-2"))
    assert (surplus.status, "all its signatures" in surplus.err) == (1, True)
    assert desk.dao("submit", file).status == 0


def test_a_proposal_that_was_overtaken(desk: Desk) -> None:
    stale = desk.propose("stale.json", "--set", "a=1")
    desk.sign(stale, "dao")
    desk.enact("first.json", ("dao",), "--set", "a=2")
    ended = desk.dao("submit", stale)
    assert ended.status == 1
    assert "the chain has gone on" in ended.err
    assert "propose anew" in ended.err


def test_words_for_changes(desk: Desk) -> None:
    desk.enact("first.json", ("dao",), "--set", "old=1", "--set", 'text="a"')
    file = desk.propose("second.json", "--set", 'text="b"', "--delete", "old", "--set", NEW_DAO, "--set", "new=[1]")
    lines = desk.dao("show", file).out.splitlines()
    assert '  set text: "a" -> "b"' in lines
    assert "  delete old: 1 -> (nothing)" in lines
    assert "  set new: (nothing) -> [1]" in lines
    assert "    threshold: 1 -> 2" in lines
    assert f"    + key {key_of('dao-2').public_key.hex()}" in lines
    assert json.loads(desk.dao("show", file, "--json").out)["missing"] == 1


def test_signing_needs_no_node(desk: Desk, tmp_path: Path) -> None:
    file = desk.propose("rates.json", "--set", NEW_RATES)
    genesis = tmp_path / "genesis.toml"
    genesis.write_text(render_genesis(GENESIS))
    words = ("--yes", "--key", desk.key("dao"), "--genesis", genesis, "--data-dir", tmp_path / "none")
    assert invoke("dao", "sign", file, *words).status == 0
    assert "seed" not in file.read_text()
    assert desk.key("dao").read_text().strip() not in file.read_text()


def test_a_key_that_others_can_read_is_not_used(desk: Desk) -> None:
    file, key = desk.propose("rates.json", "--set", NEW_RATES), desk.key("dao")
    key.chmod(0o644)
    ended = desk.dao("sign", file, "--key", key)
    assert (ended.status, "chmod 600" in ended.err) == (1, True)
    missing = desk.dao("sign", file, "--key", desk.folder / "nobody.key")
    assert (missing.status, "does not exist" in missing.err) == (1, True)


def test_a_proposal_of_another_network(desk: Desk, tmp_path: Path) -> None:
    file = desk.propose("rates.json", "--set", NEW_RATES)
    other = tmp_path / "other.toml"
    other.write_text(render_genesis(dao_genesis(network_id="other")))
    ended = desk.dao("sign", file, "--key", desk.key("dao"), "--genesis", other)
    assert (ended.status, "another" in ended.err or "is for test" in ended.err) == (1, True)


def test_a_proposal_that_was_changed_after_the_first_signature(desk: Desk) -> None:
    desk.enact("dao.json", ("dao",), "--set", NEW_DAO)
    file = desk.propose("motd.json", "--set", 'motd="hello"')
    desk.sign(file, "dao")
    file.write_text(file.read_text().replace('"hello"', '"bye"'))
    ended = desk.dao("sign", file, "--key", desk.key("dao-2"))
    assert (ended.status, "was changed" in ended.err) == (1, True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"network_id": 1}', "\x00"])
def test_what_is_no_proposal(desk: Desk, text: str) -> None:
    (desk.folder / "bad.json").write_text(text)
    for command in ("sign", "submit", "show"):
        ended = desk.dao(command, desk.folder / "bad.json")
        assert ended.status == 1
        assert "proposal" in ended.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "at least one change"),
        (("--set", "a"), "not KEY=JSON"),
        (("--set", "A=1"), "is no key"),
        (("--delete", "A"), "is no key"),
        (("--set", "a=1.5"), "no integer"),
        (("--set", "a={"), "no JSON"),
        (("--set", "sys.speed=1"), "is none of"),
        (("--set", 'sys.rates={"vcpu":1}'), "must be an object of vcpu"),
        (("--set", f"sys.dao_keyset={json.dumps(keys_json('a', 'b', threshold=1))}"), "at least 2"),
        (("--set", "a=1", "--effective-in", "soon"), "such as 90m"),
        (("--set", "a=1", "--effective-in", "31d"), "30d at most"),
    ],
)
def test_proposals_that_are_refused_at_once(desk: Desk, words: tuple[str, ...], why: str) -> None:
    ended = desk.dao("propose", desk.folder / "bad.json", *words)
    assert ended.status == 2
    assert why in " ".join(ended.err.split())
    assert not (desk.folder / "bad.json").exists()


def test_nothing_to_delete_and_a_file_that_is_there(desk: Desk) -> None:
    nothing = desk.dao("propose", desk.folder / "bad.json", "--delete", "nothing")
    assert (nothing.status, "nothing to delete" in nothing.err) == (1, True)
    file = desk.propose("good.json", "--set", "a=1")
    again = desk.dao("propose", file, "--set", "a=1")
    assert (again.status, "exists already" in again.err) == (1, True)
