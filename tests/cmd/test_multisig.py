"""`xnode multisig`: three people, one account, a file that goes from hand to hand; against a served node."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.command import Ended, invoke
from tests.support.ledger import address_of, public_key_of
from tests.support.node_port import Running, running_api
from xnode.core.blocks import block_to_json
from xnode.core.genesis import render_genesis
from xnode.core.values import Asset

PEOPLE = ("ann", "ben", "cay")


class Town(NamedTuple):
    """A node, and three people with a key file each; all of them use its API."""

    running: Running
    path: Path
    keys: list[str]

    def run(self, *words: str | Path, status: int = 0) -> Ended:
        ended = invoke("multisig", *words)
        assert ended.status == status, ended
        return ended

    def node(self) -> tuple[str, ...]:
        return ("-d", str(self.path / "node"), "--api", f"http://127.0.0.1:{self.running.port}")

    def home(self) -> tuple[str, ...]:
        return ("-d", str(self.path / "node"))

    def sign(self, file: Path, name: str, status: int = 0) -> Ended:
        return self.run("sign", file, "--yes", "--key-file", self.path / f"{name}.key", *self.home(), status=status)

    def pass_around(self, file: Path, *names: str) -> None:
        for name in names:
            self.sign(file, name)
        self.run("submit", file, *self.node())

    def account(self) -> str:
        return self.run("address", *self.keys, "--threshold", "2", *self.home()).out.strip()

    def balance(self) -> int:
        return int(self.running.http.get(f"/accounts/{self.account()}").json()["balances"]["XUSD"])

    def give(self, amount: int) -> None:
        """Alice sends it."""
        with self.running.node.store.snapshot() as view:
            block = self.running.node.alice.send(view, bytes.fromhex(self.account()), amount, Asset.XUSD)  # type: ignore[arg-type]
        assert self.running.http.post("/blocks", json=block_to_json(block)).status_code == 200


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with running_api(tmp_path / "served") as running:
        (tmp_path / "genesis.toml").write_text(render_genesis(running.node.genesis))
        made = invoke("init", "--genesis", tmp_path / "genesis.toml", "-d", tmp_path / "node")
        assert made.status == 0, made
        keys = [invoke("wallet", "new-key", tmp_path / f"{name}.key").out.strip() for name in (*PEOPLE, "eve")]
        yield Town(running, tmp_path, keys[:3])


def opened(town: Town) -> str:
    town.run("open", *town.keys, "--threshold", "2", "--out", town.path / "open.json", *town.node())
    town.pass_around(town.path / "open.json", "ann", "cay")
    return town.account()


@pytest.mark.slow
def test_open_receive_send_and_rotate(town: Town) -> None:
    account = opened(town)
    town.give(50)
    assert "received 50 XUSD" in town.run("receive", account, "--key-file", town.path / "ben.key", *town.node()).out
    assert town.balance() == 50
    send = town.path / "send.json"
    shown = town.run("send", account, address_of("bob").hex(), "20", "--out", send, *town.node()).out
    assert "amount: 20" in shown
    assert "0 of 2 have signed" in shown
    assert "1 more must sign" in town.sign(send, "cay").out
    assert "1 more must sign it" in town.run("submit", send, *town.node(), status=1).err
    assert "enough have signed" in town.sign(send, "ben").out
    assert "published in block" in town.run("submit", send, *town.node()).out
    assert town.balance() == 30
    rotate = town.path / "rotate.json"
    eve = public_key_of("eve").hex()
    town.run("update", account, eve, "--threshold", "1", "--out", rotate, *town.node())
    town.pass_around(rotate, "ann", "ben")
    shown = json.loads(town.run("show", account, "--json", *town.node()).out)
    assert (shown["keyset"], shown["balances"]["XUSD"]) == ({"keys": [eve], "threshold": 1}, 30)
    assert eve in town.run("show", account, *town.node()).out
    assert "2 of 2 have signed" in town.run("show", rotate, *town.node()).out


@pytest.mark.slow
def test_what_can_not_be_signed_or_submitted(town: Town) -> None:
    account = opened(town)
    assert (
        "is open already"
        in town.run(
            "open", *town.keys, "--threshold", "2", "--out", town.path / "again.json", *town.node(), status=1
        ).err
    )
    town.give(50)
    town.run("receive", account, "--key-file", town.path / "ann.key", *town.node())
    assert (
        "nothing is pending"
        in town.run("receive", account, "--key-file", town.path / "ann.key", *town.node(), status=1).err
    )
    one, two = town.path / "one.json", town.path / "two.json"
    for file, amount in ((one, "1"), (two, "2")):
        town.run("send", account, address_of("bob").hex(), amount, "--out", file, *town.node())
    assert (
        "exists already"
        in town.run("send", account, address_of("bob").hex(), "1", "--out", one, *town.node(), status=1).err
    )
    assert (
        "not enough"
        in town.run(
            "send", account, address_of("bob").hex(), "51", "--out", town.path / "x", *town.node(), status=1
        ).err
    )
    assert "not in the account's keyset" in town.sign(one, "eve", status=1).err
    town.sign(one, "ann")
    assert "has signed it already" in town.sign(one, "ann", status=1).err
    town.sign(one, "ben")
    assert "which is enough" in town.sign(one, "cay", status=1).err
    for name in ("ann", "cay"):
        town.sign(two, name)
    town.run("submit", one, *town.node())
    assert "propose it anew" in town.run("submit", two, *town.node(), status=1).err


@pytest.mark.slow
def test_a_file_that_was_changed_is_not_signed(town: Town) -> None:
    account = opened(town)
    town.give(50)
    town.run("receive", account, "--key-file", town.path / "ann.key", *town.node())
    file = town.path / "send.json"
    town.run("send", account, address_of("bob").hex(), "1", "--out", file, *town.node())
    town.sign(file, "ann")
    good = json.loads(file.read_text())
    for change, reason in (
        ({"block": good["block"] | {"amount": 2}}, "was changed after it was signed"),
        ({"block": good["block"] | {"amount": "2"}}, "is damaged"),
        ({"keyset": good["keyset"] | {"keys": [public_key_of("eve").hex()], "threshold": 1}}, "was changed after"),
        ({"genesis_hash": "00" * 32}, "another network"),
        ({"extra": 1}, "is no proposal"),
    ):
        file.write_text(json.dumps(good | change))
        assert reason in town.sign(file, "ben", status=1).err
    file.write_text("{")
    assert "not JSON" in town.sign(file, "ben", status=1).err


@pytest.mark.slow
def test_an_account_that_is_not_open_is_told(town: Town) -> None:
    account = town.account()
    assert (
        json.loads(town.run("address", *town.keys, "--threshold", "2", "--json", *town.home()).out)["address"]
        == account
    )
    words = ("send", account, address_of("bob").hex(), "1", "--out", town.path / "x", *town.node())
    assert "`xnode multisig open` proposes its first block" in town.run(*words, status=1).err
    assert "threshold from 1 to 3" in town.run("address", *town.keys, "--threshold", "4", *town.home(), status=1).err
