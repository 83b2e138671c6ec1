"""The consumer: the same key is the same lease, and no crash of its node loses money."""

import pytest
import trio

from tests.support.ledger import DAY, address_of
from tests.support.memory_network import Weather
from tests.support.role_node import FORM, RICH, ROOMY, RoleNode, Village, until
from xnode.core.faults import CallerFault, Fault, Unavailable, WrongState
from xnode.core.genesis import Allocation
from xnode.core.lease import LeaseState
from xnode.core.machine import MachineStatus
from xnode.core.market import Decline, LeaseForm, Offer, Request
from xnode.core.provision import CANCEL_AFTER
from xnode.core.values import NS, Asset

pytestmark = pytest.mark.slow

KEYED = FORM._replace(idempotency_key="order 1")


async def doomed(node: RoleNode, form: LeaseForm) -> None:
    """A request whose node dies beneath it."""
    with pytest.raises((RuntimeError, Fault)):
        await node.roles.consumer.request(form)


async def failed_request(node: RoleNode, form: LeaseForm, reason: str) -> None:
    with pytest.raises(CallerFault, match=reason):
        await node.roles.consumer.request(form)


async def crash_after_payment(village: Village, name: str, form: LeaseForm = KEYED) -> None:
    """The node is gone right after its lease block."""
    node = village.nodes[name]
    node.end_at("requested")
    village.nursery.start_soon(doomed, node, form)
    await node.gone.wait()


async def test_one_key_is_one_lease(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    alice = village.nodes["alice"]
    lease_hash = await alice.roles.consumer.request(KEYED)
    assert await alice.roles.consumer.request(KEYED) == lease_hash
    again = await village.again("alice")
    assert await again.roles.consumer.request(KEYED) == lease_hash
    assert len(again.leases()) == 1
    other = await again.roles.consumer.request(KEYED._replace(idempotency_key="order 2"))
    assert other != lease_hash


async def test_a_repeated_key_needs_no_money(village: Village, autojump_clock: object) -> None:
    allocations = (Allocation(address_of("dora"), Asset.XUSD, 1), Allocation(address_of("bob"), Asset.XUSD, 5))
    village.genesis = village.genesis._replace(allocations=allocations)
    await village.start_market("dora", bob=ROOMY)
    dora = village.nodes["dora"]
    lease_hash = await dora.roles.consumer.request(KEYED)
    assert await dora.roles.consumer.request(KEYED) == lease_hash


async def test_a_key_in_use_is_told(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    consumer = village.nodes["alice"].roles.consumer
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consumer.request, KEYED)
        await trio.sleep(1)
        with pytest.raises(WrongState) as caught:
            await consumer.request(KEYED)
    assert caught.value.code == "in_progress"


async def test_the_key_of_a_cancelled_lease_is_used_up(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    village.disk("bob").boots_to_fail = 1
    consumer = village.nodes["alice"].roles.consumer
    for reason in ("did not answer on SSH", "use a new key"):
        with pytest.raises(CallerFault, match=reason):
            await consumer.request(KEYED)


async def test_a_crash_before_acceptance_and_the_lease_goes_on(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    await crash_after_payment(village, "alice")
    await trio.sleep(1)
    alice = await village.start("alice")
    lease_hash = await alice.roles.consumer.request(KEYED)
    assert [lease.state for lease in alice.leases()] == [LeaseState.ACCEPTED]
    await until(lambda: lease_hash in village.disk("bob").destroyed, 80, "the end")
    await village.agreed()
    assert village.disk("bob").destroyed[lease_hash].reason == "settled"


async def test_a_crash_before_a_boot_that_fails_and_the_money_comes_back(
    village: Village, autojump_clock: object
) -> None:
    await village.start_market("alice", bob=ROOMY)
    village.disk("bob").boots_to_fail = 1
    await crash_after_payment(village, "alice")
    alice = await village.start("alice")
    await until(lambda: alice.leases(LeaseState.CANCELLED), 80, "the sweep")
    account = alice.account(alice.address)
    assert account is not None
    assert account.xusd == RICH
    await village.agreed()


async def test_the_money_comes_back_from_a_provider_that_is_gone(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    alice = village.nodes["alice"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(failed_request, alice, FORM._replace(timeout=10), "did not accept in time")
        await trio.sleep(3)
        for name in ("bob", "timekeeper-1", "timekeeper-2", "timekeeper-3"):
            await village.crash(name)
    lease = alice.leases(LeaseState.CREATED)[0]
    with pytest.raises(Unavailable, match=r"the money is back in \d+ s") as caught:
        await alice.roles.consumer.cancel(lease.lease_hash)
    assert caught.value.code == "provider_silent"
    await until(lambda: alice.leases(LeaseState.CANCELLED), CANCEL_AFTER / NS + 20, "the sweep")
    assert village.disk("bob").status(lease.lease_hash) is MachineStatus.PROVISIONING
    await village.start("bob", capacity=ROOMY)
    await until(lambda: lease.lease_hash in village.disk("bob").destroyed, 30, "the machine's end")
    await village.agreed()
    assert village.disk("bob").destroyed[lease.lease_hash].reason == "cancelled"


async def test_an_impatient_consumer_and_a_slow_provider_agree(village: Village, autojump_clock: object) -> None:
    """Whenever the wait ends, both sides know the same end, and what is paid for is there."""
    await village.start_market("alice", bob=ROOMY._replace(vcpus=1000, memory_mb=10**6, disk_gb=10**5))
    alice = village.nodes["alice"]
    village.internet.weather = Weather(delay_min=0.2, delay_max=0.6)
    for step in range(16):
        try:
            await alice.roles.consumer.request(FORM._replace(duration=DAY, timeout=5.0 + step * 0.3))
        except CallerFault as fault:
            assert fault.code == "lease_failed"  # noqa: PT017  it may also go well
            ended = alice.leases()[-1]
            assert ended.state is LeaseState.CANCELLED
        else:
            assert alice.leases()[-1].state is LeaseState.ACCEPTED
        await village.agreed()
    states = {lease.state for lease in alice.leases()}
    assert states == {LeaseState.ACCEPTED, LeaseState.CANCELLED}, "both ends were met"


async def test_a_caller_who_leaves_gets_the_money_back(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    alice = village.nodes["alice"]
    with trio.move_on_after(5):
        await alice.roles.consumer.request(FORM)
    assert [lease.state for lease in alice.leases()] == [LeaseState.CANCELLED]
    await until(lambda: not village.disk("bob").machines, 20, "the machine's end")
    await village.agreed()


async def test_a_machine_has_the_image_that_was_asked_for(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    consumer = village.nodes["alice"].roles.consumer
    chosen = await consumer.request(FORM._replace(image="roomy"))
    default = await consumer.request(FORM)
    machines = village.disk("bob").machines
    assert (machines[chosen].spec.image, machines[default].spec.image) == ("roomy", "debian-12")


async def test_an_image_that_nobody_has_is_refused_with_those_that_there_are(
    village: Village, autojump_clock: object
) -> None:
    await village.start_market("alice", bob=ROOMY)
    consumer = village.nodes["alice"].roles.consumer
    with pytest.raises(CallerFault, match="does not have the image windows; it offers: debian-12, roomy"):
        await consumer.request(FORM._replace(image="windows"))
    little = FORM._replace(image="roomy", resources=FORM.resources._replace(disk_gb=49))
    with pytest.raises(CallerFault, match="needs at least 2048 MiB of memory and 50 GiB of disk"):
        await consumer.request(little)


async def test_an_ad_lists_the_images(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    (ad,) = village.nodes["alice"].roles.board.ads()
    assert ad.images == ("debian-12", "roomy")


async def test_an_offer_of_another_image_is_not_taken(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    offering = village.nodes["bob"].roles.offering
    assert offering is not None
    honest = offering.answer

    def answer(request: Request) -> Offer | Decline:
        answered = honest(request)
        return answered._replace(image="cheaper") if isinstance(answered, Offer) else answered

    offering.answer = answer  # type: ignore[method-assign]
    alice = village.nodes["alice"]
    with pytest.raises(CallerFault, match="offers the image 'cheaper' and not 'roomy'"):
        await alice.roles.consumer.request(FORM._replace(image="roomy"))
    assert alice.leases() == []


async def test_nothing_is_reserved_while_work_is_looked_for(village: Village, autojump_clock: object) -> None:
    """An offer holds for 15 s and holds up others' capacity: work for the lease comes before the market is asked."""
    await village.start_market(bob=ROOMY)
    await village.start("alice", work=40.0)
    await village.ready()
    alice, offering = village.nodes["alice"], village.nodes["bob"].roles.offering
    assert offering is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.roles.consumer.request, FORM)
        for _ in range(30):
            await trio.sleep(1)
            assert offering.ad().available == ROOMY
        await until(lambda: offering.ad().available != ROOMY, 60, "an offer")
        await until(lambda: len(alice.leases()) == 1, 5, "the lease block")


async def test_who_finds_no_work_in_time_is_told(village: Village, autojump_clock: object) -> None:
    await village.start_market(bob=ROOMY)
    await village.start("alice", work=100.0)
    await village.ready()
    await failed_request(village.nodes["alice"], FORM, "no proof of work was found within 60 s")
