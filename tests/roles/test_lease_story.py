"""A lease from request to settlement on real nodes, and every way in which it does not come about."""

import pytest
import trio

from tests.support.ledger import DAY, SMALL, address_of
from tests.support.role_node import FORM, RICH, ROOMY, RoleNode, Village, until
from xnode.core.blocks import Lease
from xnode.core.faults import CallerFault, Fault
from xnode.core.lease import LeaseState
from xnode.core.machine import MachineStatus
from xnode.core.market import LeaseForm
from xnode.core.values import ZERO_HASH, Asset, Hash
from xnode.roles.author import Draft

pytestmark = pytest.mark.slow

LONG = FORM._replace(duration=DAY)  # 7 XUSD, at half price 4


async def outcome(node: RoleNode, form: LeaseForm, results: list[Hash | Fault]) -> None:
    try:
        results.append(await node.roles.consumer.request(form))
    except Fault as fault:
        results.append(fault)


def xusd(node: RoleNode, name: str) -> int:
    account = node.account(address_of(name))
    return account.xusd if account is not None else 0


async def test_from_request_to_settlement(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    alice, bob = village.nodes["alice"], village.nodes["bob"]
    lease_hash = await alice.roles.consumer.request(FORM)
    lease = alice.lease(lease_hash)
    assert lease is not None
    assert lease.state is LeaseState.ACCEPTED
    assert village.disk("bob").status(lease_hash) is MachineStatus.RUNNING
    assert lease.host_key == village.disk("bob").machines[lease_hash].host_key
    assert (xusd(bob, "alice"), xusd(bob, "bob")) == (RICH - lease.cost, RICH - lease.stake)
    await village.agreed(20)
    await until(lambda: village.disk("bob").destroyed, 75, "the machine's end")
    await village.agreed(20)
    made = ["admitted", "booting", "disk_made", "booted", "ssh_answered", "machine_ready", "attested", "accepted"]
    assert bob.steps(lease_hash) == [*made, "settled", "destroyed"]
    assert alice.steps(lease_hash)[-2:] == ["accepted", "settled"]
    for node in village.nodes.values():
        ended = node.lease(lease_hash)
        assert ended is not None
        assert ended.state is LeaseState.SETTLED
        assert (xusd(node, "alice"), xusd(node, "bob")) == (RICH - lease.cost, RICH)
        account = node.account(address_of("bob"))
        assert account is not None
        assert account.xe == lease.cost
    assert village.disk("bob").destroyed[lease_hash].reason == "settled"


async def test_a_provider_whose_boot_fails_is_left_for_the_next_offer(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", carol=ROOMY)
    await village.start("bob", capacity=ROOMY, multiplier_milli=500)
    await village.ready()
    village.disk("bob").boots_to_fail = 9
    alice = village.nodes["alice"]
    lease_hash = await alice.roles.consumer.request(LONG)
    lease = alice.lease(lease_hash)
    assert lease is not None
    assert (lease.provider, lease.cost) == (address_of("carol"), 7)
    tried = [item for item in alice.leases() if item.provider == address_of("bob")]
    assert [(item.cost, item.state) for item in tried] == [(4, LeaseState.CANCELLED)]
    assert xusd(alice, "alice") == RICH - 7
    await until(lambda: tried[0].lease_hash in village.disk("bob").destroyed, 10, "the failed machine's end")
    await village.agreed()
    offering = village.nodes["bob"].roles.offering
    assert offering is not None
    assert offering.ad().available == ROOMY


async def test_all_boots_fail_and_the_reasons_are_told(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    village.disk("bob").boots_to_fail = 9
    with pytest.raises(CallerFault, match="did not answer on SSH") as caught:
        await village.nodes["alice"].roles.consumer.request(FORM)
    assert caught.value.code == "lease_failed"
    assert xusd(village.nodes["alice"], "alice") == RICH
    await village.agreed()


async def test_nobody_answers(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice")
    alice, started = village.nodes["alice"], trio.current_time()
    with pytest.raises(CallerFault, match="no provider answered") as caught:
        await alice.roles.consumer.request(FORM._replace(timeout=10))
    assert caught.value.code == "no_providers"
    assert trio.current_time() - started == pytest.approx(10, abs=1)
    assert alice.leases() == []


async def test_a_full_provider_says_how_much_is_free(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", "anna", bob=SMALL)
    await village.nodes["alice"].roles.consumer.request(FORM)
    started = trio.current_time()
    with pytest.raises(CallerFault, match="vcpus 4 asked, 0 free; memory_mb 8192 asked, 0 free") as caught:
        await village.nodes["anna"].roles.consumer.request(FORM)
    assert caught.value.code == "no_providers"
    assert trio.current_time() - started < 5, "all known providers have declined, so there is nothing to wait for"


async def test_two_consumers_and_room_for_one(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", "anna", bob=SMALL)
    results: list[Hash | Fault] = []
    async with trio.open_nursery() as nursery:
        for name in ("alice", "anna"):
            nursery.start_soon(outcome, village.nodes[name], FORM, results)
    faults = [item for item in results if isinstance(item, Fault)]
    assert [fault.code for fault in faults] == ["no_providers"]
    assert len(village.disk("bob").machines) == 1
    await village.agreed()


async def test_a_lease_without_an_offer_is_declined_where_there_is_no_room(
    village: Village, autojump_clock: object
) -> None:
    await village.start_market("alice", "anna", bob=SMALL)
    await village.nodes["alice"].roles.consumer.request(FORM)
    anna = village.nodes["anna"]
    body = Lease(address_of("bob"), 1, *SMALL, 60, FORM.access_pub_key, ZERO_HASH, 1000)
    lease_hash = await anna.roles.author.append(Draft(Asset.XUSD, -1, body))
    provider = village.nodes["bob"].roles.provider
    assert provider is not None
    await until(lambda: provider.progress(lease_hash)[0] == "failed", 10, "the decline")
    assert "vcpus 4 asked, 0 free" in provider.progress(lease_hash)[1]
    await anna.roles.consumer.cancel(lease_hash)
    assert xusd(anna, "anna") == RICH
    await village.agreed()


async def test_a_poor_consumer_is_told_before_anything_is_asked(village: Village, autojump_clock: object) -> None:
    await village.start_market("dora", bob=ROOMY)
    with pytest.raises(CallerFault, match="costs at least 1 XUSD and the account holds 0") as caught:
        await village.nodes["dora"].roles.consumer.request(FORM)
    assert caught.value.code == "insufficient_balance"


async def test_no_offer_within_the_bound(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    with pytest.raises(CallerFault, match=r"no offer fits: .*: asks 7 XUSD, more than the max_cost of 3"):
        await village.nodes["alice"].roles.consumer.request(LONG._replace(max_cost=3))


async def test_clocks_differ_a_little(village: Village, autojump_clock: object) -> None:
    await village.start("representative")
    for number, ahead in ((1, 1.0), (2, -2.0), (3, 0.5)):
        await village.start(f"timekeeper-{number}", timekeeper=True, clock_ahead=ahead)
    await village.start("bob", capacity=ROOMY, clock_ahead=4.0)
    alice = await village.start("alice", clock_ahead=-3.0)
    await village.ready()
    lease_hash = await alice.roles.consumer.request(FORM)
    await until(lambda: lease_hash in village.disk("bob").destroyed, 120, "the settlement")
    await village.agreed()
    assert village.disk("bob").destroyed[lease_hash].reason == "settled"


async def test_clocks_differ_too_much_for_an_offer(village: Village, autojump_clock: object) -> None:
    for number in (1, 2, 3):
        await village.start(f"timekeeper-{number}", timekeeper=True)
    await village.start("bob", capacity=ROOMY, clock_ahead=-20.0)
    alice = await village.start("alice")
    await village.ready()
    with pytest.raises(CallerFault, match="do the clocks of both nodes agree"):
        await alice.roles.consumer.request(FORM)


async def test_offers_are_waited_for_though_no_ad_is_known(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    await village.start("carol", capacity=ROOMY, multiplier_milli=500)
    await village.ready()
    await trio.sleep(5)  # then no ad is sent for a while
    alice = village.nodes["alice"]
    alice.roles.board._ads.clear()
    quote = await alice.roles.consumer.quote(LONG)
    assert [cost for _, cost in quote.offers] == [4, 7]


async def test_a_quote_commits_nothing(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    quote = await village.nodes["alice"].roles.consumer.quote(LONG)
    assert (quote.cost, quote.stake) == (7, 1)
    assert village.nodes["alice"].leases() == []
