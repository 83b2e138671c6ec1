"""What becomes of the fresh key of a request that was refused, and what a quote says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Ended, invoke
from tests.support.ledger import NOW
from tests.support.node_port import Running, running_api
from tests.support.store import GENESIS
from xnode.config import Config, DataDir
from xnode.core.blocks import Block, Lease
from xnode.core.faults import CallerFault
from xnode.core.market import LeaseForm
from xnode.core.values import Asset, Hash
from xnode.store.snapshot import Snapshot

REFUSED = CallerFault("lease_failed", "nobody gave a machine")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    DataDir(tmp_path / "node").create(GENESIS, Config())
    with running_api(tmp_path / "api") as running:
        yield running


def ask(running: Running, tmp_path: Path, *words: str) -> Ended:
    return invoke("lease", *words, "--data-dir", tmp_path / "node", "--api", f"http://127.0.0.1:{running.port}")


def keys(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "node" / "lease-keys").glob("request-*"))


def test_a_key_that_opens_nothing_goes(running: Running, tmp_path: Path) -> None:
    running.node.faults["request_lease"] = REFUSED
    ended = ask(running, tmp_path, "request")
    assert (ended.status, "nobody gave a machine" in ended.err) == (1, True)
    assert keys(tmp_path) == []


def test_the_key_of_a_lease_that_may_still_be_accepted_stays(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, left = running.node, list[Hash]()

    async def leave_one(form: LeaseForm) -> Hash:
        """As where its provider was silent when the lease was taken back."""

        def make(view: Snapshot) -> Block:
            body = node.alice.lease(view, node.bob.address).body
            assert isinstance(body, Lease)
            fresh = body._replace(access_pub_key=form.access_pub_key)
            return node.alice.next(view, fresh, Asset.XUSD, -body.amount, timestamp=NOW + 7_000)

        left.append(node.play(make))
        raise REFUSED

    monkeypatch.setattr(node, "request_lease", leave_one)
    ended = ask(running, tmp_path, "request")
    assert ended.status == 1
    assert f"lease {left[0].hex()} may still be accepted" in ended.err
    assert len(keys(tmp_path)) == 2  # the private one, and its .pub


def test_a_quote_says_whose_stake_it_is(running: Running, tmp_path: Path) -> None:
    assert "7 XUSD; the provider stakes 1 XUSD of its own" in ask(running, tmp_path, "quote").out


def test_nobody_at_the_url_that_was_named_is_not_for_want_of_a_data_directory(tmp_path: Path) -> None:
    ended = invoke("lease", "list", "--data-dir", tmp_path / "none", "--api", "http://127.0.0.1:9")
    assert "nobody answers at http://127.0.0.1:9" in ended.err
    assert "xnode init" not in ended.err
