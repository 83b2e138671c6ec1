"""Two blocks of two chains that want one step of a lease: one is confirmed, everywhere the same, and the other is gone.

Nobody here keeps to the courtesy by which a consumer asks its provider first: the blocks are signed by hand.
"""

from pathlib import Path

import pytest
import trio

from tests.support.ledger import TIMEKEEPER_NAMES, address_of
from tests.support.memory_network import Weather
from tests.support.role_node import PEOPLE, REPRESENTATIVE, RICH, ROOMY, Village, until
from tests.support.voters import (
    balance,
    chosen,
    final_notes,
    give,
    has,
    hash_of,
    is_confirmed,
    lease_to,
    peer_ids,
    settled,
    spread,
    step_block,
)
from xnode.core.blocks import Block, BlockType, Send
from xnode.core.genesis import DEFAULT_TIMING
from xnode.core.lease import LeaseState
from xnode.core.ledger import Outcome
from xnode.core.values import Asset, Hash
from xnode.roles.author import Draft

pytestmark = pytest.mark.slow

QUICK = DEFAULT_TIMING._replace(settle_grace=60, force_settle_gap=30, attestation_skew=10)


@pytest.fixture
def quick(village: Village, nursery: trio.Nursery, tmp_path: Path) -> Village:
    """A network where a lease may be force-settled 90 s after its expiry."""
    return Village(nursery, tmp_path, timing=QUICK)


async def accept_and_cancel(village: Village) -> tuple[Hash, Block, Block]:
    """A lease of alice's at bob, its acceptance and its cancellation, not published yet."""
    await spread(village, *PEOPLE)
    alice, bob = village.nodes["alice"], village.nodes["bob"]
    lease_hash = await lease_to(village, "alice", "bob")
    accept = step_block(village, bob, "bob", "accept", lease_hash)
    cancel = step_block(village, alice, "alice", "cancel", lease_hash)
    return lease_hash, accept, cancel


def check_ends(village: Village, lease_hash: Hash, winner: Block) -> None:
    """Every node says of lease and money what follows from the winner."""
    for node in village.nodes.values():
        lease = node.lease(lease_hash)
        assert lease is not None
        if winner.type is BlockType.LEASE_CANCEL:
            assert lease.state is LeaseState.CANCELLED
            assert balance(node, address_of("alice")) == balance(node, address_of("bob")) == RICH + 100
        else:
            assert lease.state is LeaseState.ACCEPTED
            assert balance(node, address_of("alice")) == RICH + 100 - lease.cost
            assert balance(node, address_of("bob")) == RICH + 100 - lease.stake


async def test_an_acceptance_and_a_cancellation_at_once(village: Village, autojump_clock: object) -> None:
    lease_hash, accept, cancel = await accept_and_cancel(village)
    await give(village.nodes["bob"], accept)
    await give(village.nodes["alice"], cancel)
    winner = await chosen(village, [accept, cancel])
    check_ends(village, lease_hash, winner)
    await settled(village)
    assert [final_notes(node) for node in village.nodes.values()] == [{}] * 5


@pytest.mark.parametrize("island", [("alice", "anna"), ("bob", "bert")], ids=["cancel loses", "acceptance loses"])
async def test_they_meet_after_a_partition(village: Village, autojump_clock: object, island: tuple[str, ...]) -> None:
    """Three of five can decide nothing; the two come to the larger side."""
    lease_hash, accept, cancel = await accept_and_cancel(village)
    await village.internet.part(peer_ids(*island))
    await give(village.nodes["bob"], accept)
    await give(village.nodes["alice"], cancel)
    await trio.sleep(20)
    nodes = village.nodes.values()
    assert not any(is_confirmed(node, hash_of(village, block)) for node in nodes for block in (accept, cancel))
    await village.internet.part(())
    winner = await chosen(village, [accept, cancel], 120)
    assert winner == (accept if "alice" in island else cancel)
    check_ends(village, lease_hash, winner)
    await settled(village)
    loser, told = ("alice", "cancel_lost") if winner == accept else ("bob", "accept_lost")
    assert told in village.nodes[loser].steps(lease_hash)
    fate = village.nodes[loser].roles.voting.fate(hash_of(village, cancel if winner == accept else accept))
    assert fate is not None
    assert fate.describe().endswith(hash_of(village, winner).hex())
    assert fate.reason == "rival_lost"


async def test_a_rival_that_comes_while_voting_is_paused_is_voted_on_afterwards(
    village: Village, autojump_clock: object
) -> None:
    """Seed 6322: it was kept and never offered, so that this node had a block for ever that all others had given up."""
    _, accept, cancel = await accept_and_cancel(village)
    carol = village.nodes["carol"]
    await village.internet.part(peer_ids("carol"))
    await give(carol, accept)
    await give(village.nodes["alice"], cancel)
    await trio.sleep(20)
    was_paused, carol.roles.voting.is_paused = carol.roles.voting.is_paused, lambda: True
    await village.internet.part(())
    await trio.sleep(30)
    assert not is_confirmed(carol, hash_of(village, cancel))
    carol.roles.voting.is_paused = was_paused
    assert await chosen(village, [accept, cancel], 120) == cancel
    await settled(village)


async def test_what_rests_on_the_loser_is_taken_back(village: Village, autojump_clock: object) -> None:
    """The consumer spends what its cancellation gave back, and loses it all to the acceptance."""
    _, accept, cancel = await accept_and_cancel(village)
    alice = village.nodes["alice"]
    await village.internet.part(peer_ids("alice", "anna"))
    await give(village.nodes["bob"], accept)
    await give(alice, cancel)
    spent = [await alice.roles.author.append(Draft(Asset.XUSD, -5, Send(address_of("anna"), 5))) for _ in range(3)]
    await trio.sleep(10)
    await village.internet.part(())
    assert await chosen(village, [accept, cancel], 120) == accept
    await settled(village)
    assert not any(has(node, one) for node in village.nodes.values() for one in spent)


async def test_a_provider_whose_acceptance_lost_destroys_the_machine_with_the_proof(
    village: Village, autojump_clock: object
) -> None:
    """A Byzantine consumer cancels without asking; the provider, cut off with two timekeepers, has just accepted."""
    await spread(village, "alice", "anna", "carol")
    for name in TIMEKEEPER_NAMES:
        await village.start(name, timekeeper=True)
    bob = await village.start("bob", capacity=ROOMY)
    await village.start(REPRESENTATIVE)
    await village.ready()
    alice = village.nodes["alice"]
    lease_hash = await lease_to(village, "alice", "bob")
    await village.internet.part(peer_ids("bob", *TIMEKEEPER_NAMES[:2]))
    cancel = step_block(village, alice, "alice", "cancel", lease_hash)
    await give(alice, cancel)
    await until(lambda: "accepted" in bob.steps(lease_hash), 60, "the acceptance")
    assert is_confirmed(alice, hash_of(village, cancel))
    await trio.sleep(10)
    assert lease_hash in village.disk("bob").machines, "nothing that may still lose ends a machine"
    await village.internet.part(())
    await until(lambda: lease_hash in village.disk("bob").destroyed, 60, "the machine's end")
    assert village.disk("bob").destroyed[lease_hash].evidence == hash_of(village, cancel)
    assert village.disk("bob").destroyed[lease_hash].reason == "cancelled"
    steps = bob.steps(lease_hash)
    assert steps.index("accepted") < steps.index("accept_lost") < steps.index("destroyed")
    await settled(village)
    assert balance(bob, address_of("bob")) == RICH, "its stake is back"


async def test_all_nodes_restart_in_between(village: Village, autojump_clock: object) -> None:
    """Each comes back with its final votes for positions and steps, and stands by them."""
    lease_hash, accept, cancel = await accept_and_cancel(village)
    await give(village.nodes["bob"], accept)
    await give(village.nodes["alice"], cancel)
    for _ in range(4):
        await trio.sleep(3.1)
        for name in PEOPLE:
            await village.again(name, 0.1)
    winner = await chosen(village, [accept, cancel], 120)
    check_ends(village, lease_hash, winner)
    await settled(village, 120)


async def test_under_loss_and_delay(village: Village, autojump_clock: object) -> None:
    lease_hash, accept, cancel = await accept_and_cancel(village)
    village.internet.weather = Weather(loss=0.3, delay_min=0.02, delay_max=0.5)
    await give(village.nodes["bob"], accept)
    await give(village.nodes["alice"], cancel)
    winner = await chosen(village, [accept, cancel], 200)
    village.internet.weather = Weather()
    check_ends(village, lease_hash, winner)
    await settled(village)


async def test_a_settlement_that_comes_late_against_a_forced_one(quick: Village, autojump_clock: object) -> None:
    """Bob settles in time but is cut off with one other; alice forces the settlement when it may be forced."""
    await spread(quick, *PEOPLE)
    alice, bob = quick.nodes["alice"], quick.nodes["bob"]
    lease_hash = await lease_to(quick, "alice", "bob", duration=60)
    await give(bob, step_block(quick, bob, "bob", "accept", lease_hash))
    await settled(quick)
    await trio.sleep(60)
    await quick.internet.part(peer_ids("bob", "bert"))
    settle = step_block(quick, bob, "bob", "settle", lease_hash)
    await give(bob, settle)
    await trio.sleep(120)
    force = step_block(quick, alice, "alice", "force_settle", lease_hash)
    await give(alice, force)
    await trio.sleep(5)
    await quick.internet.part(())
    assert await chosen(quick, [settle, force], 120) == force, "three of five had it first"
    await settled(quick)
    assert {node.lease(lease_hash).state for node in quick.nodes.values()} == {  # type: ignore[union-attr]
        LeaseState.UNFULFILLED
    }


async def test_a_rival_of_a_confirmed_block_is_nothing(village: Village, autojump_clock: object) -> None:
    _, accept, cancel = await accept_and_cancel(village)
    await give(village.nodes["bob"], accept)
    await settled(village)
    alice = village.nodes["alice"]
    assert (await alice.roles.replica.submit(cancel)).outcome is Outcome.WRONG_STATE
    assert alice.roles.voting.staged(hash_of(village, cancel)) is None
    await settled(village)


async def test_a_rival_of_an_unconfirmed_block_is_staged(village: Village, autojump_clock: object) -> None:
    _, accept, cancel = await accept_and_cancel(village)
    for name in ("anna", "bert"):
        await village.crash(name)
    alice = village.nodes["alice"]
    await give(alice, accept)
    refused = await alice.roles.replica.submit(cancel)
    assert refused.outcome is Outcome.RIVAL
    assert hash_of(village, accept).hex() in refused.detail
    assert alice.roles.voting.staged(hash_of(village, cancel)) == cancel


async def test_the_loser_s_position_is_free_for_another_block(village: Village, autojump_clock: object) -> None:
    """Final votes for an acceptance that has lost bind nobody: bob's chain goes on, though a third had given theirs."""
    _, accept, cancel = await accept_and_cancel(village)
    bob = village.nodes["bob"]
    await village.internet.part(peer_ids("bob", "bert"))
    await give(bob, accept)
    await give(village.nodes["alice"], cancel)
    await trio.sleep(5)
    await village.internet.part(())
    assert await chosen(village, [accept, cancel], 120) == cancel
    sent = await bob.roles.author.append(Draft(Asset.XUSD, -5, Send(address_of("dora"), 5)))
    await until(lambda: all(is_confirmed(node, sent) for node in village.nodes.values()), 10, "bob's next block")
    await settled(village)


async def test_a_node_that_has_only_one_of_them_learns_the_other(village: Village, autojump_clock: object) -> None:
    """Carol was off when the cancellation was confirmed; she comes back with the acceptance."""
    _, accept, cancel = await accept_and_cancel(village)
    carol = village.nodes["carol"]
    await village.internet.part(peer_ids("carol"))
    await give(carol, accept)
    await give(village.nodes["alice"], cancel)
    alice = village.nodes["alice"]
    await until(lambda: is_confirmed(alice, hash_of(village, cancel)), 10, "the cancellation")
    await village.internet.part(())
    assert await chosen(village, [accept, cancel]) == cancel
    await settled(village)
