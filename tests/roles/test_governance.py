"""The state chain on whole nodes: what the DAO decides holds everywhere from the same time on, whoever was away."""

from typing import Any

import pytest
import trio

from tests.support.ledger import DAY, SMALL, TIMEKEEPER_NAMES, address_of
from tests.support.role_node import FORM, ROOMY, RoleNode, Village, until, virtual_clock
from tests.support.state import OTHER_RATES, keys_json, next_block, set_op
from tests.support.voters import chain_of, give, hash_of, is_confirmed, peer_ids, settled
from xnode.core import price
from xnode.core.blocks import Block
from xnode.core.faults import Unavailable
from xnode.core.lease import LeaseState, Resources
from xnode.core.ledger import Outcome
from xnode.core.price import Rates
from xnode.core.state_blocks import Op, StateBlock, encode_state_block
from xnode.core.state_chain import LATE_MAX, StateOutcome
from xnode.core.values import NS
from xnode.roles.governance import StateSubmission

pytestmark = pytest.mark.slow

DOUBLE = Rates(**OTHER_RATES)
HUGE = Resources(vcpus=64, memory_mb=131_072, disk_gb=1000)  # a quote holds its room for 15 s
LONG = FORM._replace(duration=DAY)


def proposed(village: Village, node: RoleNode, *ops: Op, ahead: float = 60.0, names: tuple[str, ...] = ("dao",),
             **changes: Any) -> StateBlock:  # fmt: skip
    """The next state block on this node, dated so many seconds ahead."""
    with node.store.snapshot() as view:
        timestamp = virtual_clock()() + int(ahead * NS)
        return next_block(view, village.genesis, *ops, names=names, **({"timestamp": timestamp} | changes))


async def enact(village: Village, name: str, *ops: Op, **more: Any) -> StateBlock:
    """Submits a change at somebody's node; it must be good."""
    node = village.nodes[name]
    block = proposed(village, node, *ops, **more)
    submission = await node.roles.governance.submit(block)
    assert submission.outcome is StateOutcome.PROGRESS, submission
    return block


def tip(node: RoleNode) -> int:
    return node.roles.governance.tip_number()


def rates(node: RoleNode) -> Rates:
    return node.roles.charter().rates


def cost_of(node: RoleNode, name: str) -> list[int]:
    with node.store.snapshot() as view:
        return [lease.cost for lease in view.leases(consumer=address_of(name))]


async def test_new_rates_hold_everywhere_from_their_time_on(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", "anna", bob=HUGE)
    await enact(village, "alice", set_op("sys.rates", OTHER_RATES), ahead=60)
    await until(lambda: all(tip(node) == 1 for node in village.nodes.values()), 1, "the state block")
    consumer = village.nodes["alice"].roles.consumer
    assert (await consumer.quote(LONG)).cost == 7
    await consumer.request(LONG)
    assert {rates(node) for node in village.nodes.values()} == {village.genesis.rates}
    await trio.sleep(60)
    assert {rates(node) for node in village.nodes.values()} == {DOUBLE}
    assert (await consumer.quote(LONG)).cost == 13
    await consumer.request(LONG)
    await settled(village)
    assert cost_of(village.nodes["bob"], "alice") == [7, 13]


async def test_leases_are_judged_by_their_own_time_by_a_node_that_comes_later(
    village: Village, autojump_clock: object
) -> None:
    timing = village.genesis.timing._replace(live_window=60)
    village.genesis = village.genesis._replace(timing=timing)
    await village.start_market("alice", bob=ROOMY)
    consumer = village.nodes["alice"].roles.consumer
    await consumer.request(LONG)
    await enact(village, "bob", set_op("sys.rates", OTHER_RATES), ahead=30)
    await trio.sleep(31)
    await consumer.request(LONG)
    await trio.sleep(timing.live_window + 30)  # what is synced then is no live block any more
    carol = await village.start("carol")
    await village.agreed(60)
    assert cost_of(carol, "alice") == [7, 13]
    assert carol.roles.replica.outcomes[Outcome.BAD_AMOUNT] == 0, "the state chain came first"
    assert carol.roles.governance.outcomes == {StateOutcome.PROGRESS: 1}


async def test_a_node_that_was_away_syncs_the_chain(village: Village, autojump_clock: object) -> None:
    for name in ("alice", "anna", "bob"):
        await village.start(name)
    await village.ready()
    await village.crash("anna")
    for count in range(5):
        await enact(village, "alice", set_op("motd", count), ahead=1)
    late = proposed(village, village.nodes["alice"])
    await trio.sleep(LATE_MAX / NS + 120)
    refused = await village.nodes["alice"].roles.governance.submit(late)
    assert refused.outcome is StateOutcome.BAD_TIMESTAMP
    anna = await village.start("anna")
    await until(lambda: tip(anna) == 5, 5, "the state chain")
    with anna.store.snapshot() as view:
        assert view.state_value("motd") == "4"
    assert anna.roles.state_sync.counters["blocks_applied"] == 5


async def test_a_node_that_missed_one_asks_for_it(village: Village, autojump_clock: object) -> None:
    for name in ("alice", "anna", "bob"):
        await village.start(name)
    await village.ready()
    await village.internet.part(peer_ids("anna"))
    await enact(village, "alice", set_op("motd", 1))
    await village.internet.part(())
    await trio.sleep(5)
    anna = village.nodes["anna"]
    await until(lambda: tip(anna) == 1, 15, "the state chain")


async def test_timekeepers_change_in_the_middle_of_a_lease(village: Village, autojump_clock: object) -> None:
    """The provider settles by the new ones; the old ones' word counts no more."""
    await village.start_market("alice", bob=ROOMY)
    for name in ("anna", "carol"):
        await village.start(name, timekeeper=True)
    await village.ready()
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM)
    await enact(village, "alice", set_op("sys.timekeepers", keys_json("anna", "carol")), ahead=20)
    await trio.sleep(25)
    for name in TIMEKEEPER_NAMES:
        await village.crash(name)
    bob = village.nodes["bob"]
    assert bob.roles.attesting.reachable() == 2
    await until(lambda: bob.lease(lease_hash).state is LeaseState.SETTLED, 90, "the settlement")  # type: ignore[union-attr]
    await settled(village)


async def test_without_the_new_timekeepers_nothing_is_attested(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM)
    await enact(village, "alice", set_op("sys.timekeepers", keys_json("anna", "carol")), ahead=1)
    await trio.sleep(2)
    with pytest.raises(Unavailable, match="0 of 2"):
        await village.nodes["bob"].roles.attesting.quorum(lease_hash)


async def test_the_daos_keys_change(village: Village, autojump_clock: object) -> None:
    for name in ("alice", "anna"):
        await village.start(name)
    await village.ready()
    alice, new = village.nodes["alice"], ("new-1", "new-2")
    await enact(village, "alice", set_op("sys.dao_keyset", keys_json(*new)), ahead=5)
    old = await alice.roles.governance.submit(proposed(village, alice, set_op("motd", 1)))
    assert old.outcome is StateOutcome.FEW_SIGNATURES
    await until(lambda: tip(village.nodes["anna"]) == 1, 2, "the block of the old keys")
    await enact(village, "anna", set_op("motd", 1), names=new)
    await until(lambda: tip(village.nodes["alice"]) == 2, 2, "the block of the new keys")


async def test_a_dao_that_contradicts_itself_is_reported(village: Village, autojump_clock: object) -> None:
    for name in ("alice", "anna", "bob"):
        await village.start(name)
    await village.ready()
    await village.internet.part(peer_ids("anna"))
    await enact(village, "alice", set_op("motd", "one"))
    await enact(village, "anna", set_op("motd", "two"))
    await enact(village, "anna", set_op("more", 1))
    assert village.nodes["alice"].roles.governance.check() == (True, "state block 1")
    await village.internet.part(())
    nodes = village.nodes
    await until(lambda: not any(node.roles.governance.check()[0] for node in nodes.values()), 40, "the report")
    for name, motd in (("alice", '"one"'), ("anna", '"two"')):
        with nodes[name].store.snapshot() as view:
            assert view.state_value("motd") == motd, "the first one stays"
        is_good, text = nodes[name].roles.governance.check()
        assert not is_good
        assert "two blocks at index 1" in text
    again = await village.again("alice")
    assert not again.roles.governance.check()[0], "a restart does not forget it"
    assert all(node.network.crashes == [] for node in village.nodes.values())


def lease_at(village: Village, node: RoleNode, at: Rates, ahead: float = 0.0) -> Block:
    """Alice's lease from bob at these rates."""
    with node.store.snapshot() as view:
        chain = chain_of(village, "alice")
        block = chain.lease(view, address_of("bob"), timestamp=virtual_clock()() + int(ahead * NS))
        amount = price.cost(SMALL, DAY, at)
        balance = chain.record(view).xusd - amount
    return chain.sign(block._replace(body=block.body._replace(amount=amount), balance=balance))  # type: ignore[call-arg]


async def test_a_lease_that_comes_before_the_rates_is_taken_when_they_do(
    village: Village, autojump_clock: object
) -> None:
    for name in ("alice", "bob", "anna"):
        await village.start(name, peers=())
    alice, bob = village.nodes["alice"], village.nodes["bob"]
    change = await enact(village, "alice", set_op("sys.rates", OTHER_RATES), ahead=5)
    await trio.sleep(6)
    lease = lease_at(village, alice, DOUBLE)
    assert alice.roles.replica.take(lease).outcome is Outcome.PROGRESS
    assert bob.roles.replica.take(lease).outcome is Outcome.BAD_AMOUNT
    bob.roles.governance.take(change)
    assert bob.lease(hash_of(village, lease)) is not None


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies before it has looked"])
async def test_a_lease_that_was_judged_by_old_rates_is_taken_back(
    village: Village, autojump_clock: object, dies: bool
) -> None:
    """The smaller side of a partition has not heard of the change; nobody can confirm what it wrote meanwhile."""
    for name in ("alice", "anna", "bob", "bert", "carol", "representative"):
        await village.start(name)
    await village.ready()
    await village.internet.part(peer_ids("alice"))
    await enact(village, "bob", set_op("sys.rates", OTHER_RATES), ahead=30)
    await trio.sleep(60)
    alice = village.nodes["alice"]
    stale = lease_at(village, alice, village.genesis.rates)
    await give(alice, stale)
    assert alice.lease(hash_of(village, stale)) is not None
    await village.internet.part(())
    await until(lambda: tip(alice) == 1, 15, "the state chain")
    if dies:
        assert alice.lease(hash_of(village, stale)) is not None
        alice = await village.again("alice")
    await until(lambda: alice.lease(hash_of(village, stale)) is None, 10, "its end")
    assert alice.account(address_of("alice")).xusd == 1000  # type: ignore[union-attr]
    good = lease_at(village, alice, DOUBLE)
    await give(alice, good)
    await until(lambda: is_confirmed(village.nodes["bob"], hash_of(village, good)), 30, "the new lease")
    await settled(village)


async def test_gossip_passes_on_what_is_good_and_blames_for_what_is_not(
    village: Village, autojump_clock: object
) -> None:
    for name in ("alice", "anna"):
        await village.start(name)
    await village.ready()
    alice, anna = village.nodes["alice"], village.nodes["anna"]
    far = proposed(village, alice, ahead=86_400 * 31)
    gap = proposed(village, alice, number=7)
    for block in (far, gap):
        submission: StateSubmission = alice.roles.governance.take(block)
        assert submission.outcome in (StateOutcome.BAD_TIMESTAMP, StateOutcome.GAP_PREVIOUS)
        await alice.network.publish("xnode/state", encode_state_block(block))
    await trio.sleep(1)
    assert anna.network.counters["gossip_reject"] == 0
    await alice.network.publish("xnode/state", encode_state_block(proposed(village, alice, names=("stranger",))))
    await trio.sleep(1)
    assert anna.network.counters["gossip_reject"] == 1
