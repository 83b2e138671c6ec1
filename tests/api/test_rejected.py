"""Blocks that are not in the ledger: voted on, or rejected with the reason, and when a block was confirmed here."""

import json
from collections.abc import Iterator

import pytest

from tests.support.ledger import NOW, address_of
from tests.support.node_port import Running, running_api
from xnode.core.blocks import Block, block_to_json
from xnode.core.lease import LeaseState
from xnode.core.values import Hash
from xnode.roles.block_times import Stage
from xnode.roles.fates import REASONS, Fate

GONE, WINNER = Hash(b"g" * 32), Hash(b"w" * 32)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_api(tmp_path_factory.mktemp("node")) as running:
        yield running


def block(running: Running) -> Block:
    with running.node.store.snapshot() as view:
        return running.node.alice.lease(view, address_of("bob"))


@pytest.mark.parametrize("reason", REASONS)
def test_a_rejected_block_names_its_reason_and_the_winner(running: Running, reason: str) -> None:
    lease = block(running)
    running.node.fates[GONE] = Fate(lease, reason, WINNER)
    answer = running.http.get(f"/blocks/{GONE.hex()}").json()
    assert (answer["status"], answer["height"], answer["block"]) == ("rejected", 0, block_to_json(lease))
    assert answer["reason"] == f"{reason}: {REASONS[reason]}, {WINNER.hex()}"


def test_a_staged_block_is_pending(running: Running) -> None:
    running.node.fates[GONE] = Fate(block(running))
    answer = running.http.get(f"/blocks/{GONE.hex()}").json()
    assert (answer["status"], answer["height"], answer["reason"]) == ("pending", 0, "")


def test_a_lease_whose_block_was_rejected_says_so(running: Running) -> None:
    running.node.fates[GONE] = Fate(block(running), "fork_lost", WINNER)
    refused = running.http.get(f"/leases/{GONE.hex()}")
    assert (refused.status_code, refused.json()["code"]) == (404, "lease_unknown")
    assert WINNER.hex() in refused.json()["error"]
    text = running.http.get(f"/leases/{GONE.hex()}/events").text
    (end,) = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert end["state"] == "rejected"
    assert end["detail"].startswith("fork_lost: ")


def test_when_a_block_was_where(running: Running) -> None:
    lease_hash = running.node.leases[LeaseState.CREATED]
    times = running.http.get(f"/blocks/{lease_hash.hex()}/times").json()
    assert times == {str(stage): NOW if stage is Stage.APPLIED else 0 for stage in Stage}
    unknown = running.http.get(f"/blocks/{bytes(32).hex()}/times")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "block_unknown")
