"""A provider that accepts and disappears: its consumer gets the money back by itself, also after a restart."""

import pytest
import trio

from tests.support.ledger import TIMEKEEPER_NAMES
from tests.support.role_node import FORM, RICH, ROOMY, RoleNode, Village, until
from xnode.core.genesis import DEFAULT_TIMING
from xnode.core.lease import LeaseState
from xnode.core.ledger import Bucket
from xnode.core.values import Asset, Hash

pytestmark = pytest.mark.slow

SHORT = DEFAULT_TIMING._replace(settle_grace=60, force_settle_gap=25, attestation_skew=10)
DUE = FORM.duration + SHORT.settle_grace + SHORT.force_settle_gap  # seconds after the start
PATIENCE = DUE + 60.0


async def lost(village: Village, *others: str) -> tuple[RoleNode, Hash]:
    """Alice's lease, whose provider is gone for good."""
    village.genesis = village.genesis._replace(timing=SHORT)
    await village.start_market("alice", *others, bob=ROOMY)
    alice = village.nodes["alice"]
    lease_hash = await alice.roles.consumer.request(FORM)
    await village.agreed()
    await village.crash("bob")
    return alice, lease_hash


def state(node: RoleNode, lease_hash: Hash) -> LeaseState:
    lease = node.lease(lease_hash)
    assert lease is not None
    return lease.state


def check_money(node: RoleNode, lease_hash: Hash) -> None:
    """All is back, and the stake is forfeited."""
    lease, account = node.lease(lease_hash), node.account(node.address)
    assert lease is not None
    assert account is not None
    assert account.xusd == RICH
    with node.store.snapshot() as view:
        supply = view.supply()
    assert supply[Asset.XUSD, Bucket.FORFEITED] == lease.stake > 0
    assert supply[Asset.XUSD, Bucket.ESCROW] == 0


async def test_the_money_comes_back_and_the_consumer_is_told(village: Village, autojump_clock: object) -> None:
    alice, lease_hash = await lost(village)
    await trio.sleep(DUE - 15)
    assert state(alice, lease_hash) is LeaseState.ACCEPTED
    await until(lambda: "money_back" in alice.steps(lease_hash), PATIENCE, "the money")
    assert state(alice, lease_hash) is LeaseState.UNFULFILLED
    check_money(alice, lease_hash)
    assert alice.steps(lease_hash)[-2:] == ["unfulfilled", "money_back"]
    assert "lost its stake" in alice.roles.log.steps(lease_hash)[-1][2]
    await village.agreed()


async def test_a_restart_of_the_consumer_forgets_nothing(village: Village, autojump_clock: object) -> None:
    _, lease_hash = await lost(village)
    alice = await village.again("alice", down_seconds=DUE + 10.0)
    await until(lambda: "money_back" in alice.steps(lease_hash), 90, "the money")
    check_money(alice, lease_hash)
    await village.agreed()


async def test_without_timekeepers_it_tries_ever_more_rarely(village: Village, autojump_clock: object) -> None:
    alice, lease_hash = await lost(village)
    for name in TIMEKEEPER_NAMES:
        await village.crash(name)
    await trio.sleep(DUE + 300)
    failures = [step for step in alice.roles.log.steps(lease_hash) if step[1] == "reclaim_failed"]
    assert failures, "the consumer is told why it waits"
    assert "timekeepers attested" in failures[-1][2]
    tries = alice.roles.reclaiming._claims[lease_hash]
    assert 3 <= tries.failures <= 5
    assert state(alice, lease_hash) is LeaseState.ACCEPTED
    for name in TIMEKEEPER_NAMES:
        await village.start(name, timekeeper=True)
    await until(lambda: "money_back" in alice.steps(lease_hash), 600, "the money")
    check_money(alice, lease_hash)


async def test_a_provider_that_comes_back_in_its_grace_is_left_alone(village: Village, autojump_clock: object) -> None:
    alice, lease_hash = await lost(village)
    await trio.sleep(FORM.duration + 10)
    await village.start("bob", capacity=ROOMY)
    await until(lambda: state(alice, lease_hash) is LeaseState.SETTLED, 60, "the settlement")
    await trio.sleep(DUE)
    assert alice.steps(lease_hash)[-1] == "settled"
    assert not alice.roles.reclaiming._claims
    await village.agreed()
