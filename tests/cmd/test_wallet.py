"""`xnode wallet` against a served node."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Ended, invoke
from tests.support.node_port import running_api
from xnode.core.genesis import render_genesis


class Wallet:
    """A new account without money, at a node that knows nothing of it."""

    def __init__(self, home: Path, port: int) -> None:
        self._words = ("-d", home, "--api", f"http://127.0.0.1:{port}")

    def run(self, *words: str) -> Ended:
        return invoke("wallet", *words, *self._words)


@pytest.fixture
def wallet(tmp_path: Path) -> Iterator[Wallet]:
    with running_api(tmp_path / "served") as running:
        (tmp_path / "genesis.toml").write_text(render_genesis(running.node.genesis))
        assert invoke("init", "--genesis", tmp_path / "genesis.toml", "-d", tmp_path / "node").status == 0
        yield Wallet(tmp_path / "node", running.port)


def test_receiving_where_nothing_is_pending_is_no_failure(wallet: Wallet) -> None:
    """The node was quicker: it receives by itself."""
    ended = wallet.run("receive")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("nothing is pending: ")


def test_receiving_from_a_block_that_sent_nothing_says_where_to_look(wallet: Wallet) -> None:
    ended = wallet.run("receive", "00" * 32)
    assert ended.status == 1
    assert "`xnode wallet pending` lists what is" in ended.err
