"""The provider dies at every step of a lease and goes on where it stood; a machine ends only with its proof."""

import errno
from functools import partial
from itertools import pairwise

import pytest
import trio

from tests.support.fake_driver import FakeDriver
from tests.support.ledger import DAY, SMALL, address_of, key_of
from tests.support.role_node import FORM, RICH, ROOMY, RoleNode, Village, until
from xnode.core.blocks import Lease
from xnode.core.faults import Fault
from xnode.core.genesis import DEFAULT_TIMING
from xnode.core.lease import LeaseState, Resources
from xnode.core.machine import HostRoom, Machine, MachineSpec, MachineStatus
from xnode.core.market import NOTHING, LeaseForm
from xnode.core.provision import CANCEL_AFTER
from xnode.core.values import NS, ZERO_HASH, Asset, Hash, PublicKey
from xnode.roles import capacity
from xnode.roles.author import Draft
from xnode.vm.host_fault import host_failed

pytestmark = pytest.mark.slow

PATIENT = FORM._replace(timeout=120.0)


async def ask(node: RoleNode, form: LeaseForm, found: list[Hash]) -> None:
    found.append(await node.roles.consumer.request(form))


async def request_while_dying(village: Village, step: str, cuts_power: bool = False) -> Hash:
    """Alice's request; bob dies when he logs `step`, is away for 3 s, and comes back."""
    bob, alice = village.nodes["bob"], village.nodes["alice"]
    bob.end_at(step)
    found: list[Hash] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, alice, PATIENT, found)
        await bob.gone.wait()
        if cuts_power:
            village.disk("bob").power_cut()
        await village.again("bob", 3.0)
    return found[0]


async def settled(village: Village, lease_hash: Hash) -> None:
    """Waits for the settlement everywhere and the end of the machine."""
    await until(lambda: lease_hash in village.disk("bob").destroyed, 150, "the machine's end")
    await village.agreed()
    assert village.disk("bob").destroyed[lease_hash].reason == "settled"
    for node in village.nodes.values():
        account = node.account(address_of("bob"))
        assert account is not None
        assert (account.xusd, account.xe) == (RICH, 1)


@pytest.mark.parametrize("cuts_power", [False, True], ids=["machine lives on", "machine is down"])
@pytest.mark.parametrize("step", ["booting", "machine_ready", "accepted"])
async def test_it_dies_on_the_way_to_acceptance(
    village: Village, autojump_clock: object, step: str, cuts_power: bool
) -> None:
    await village.start_market("alice", bob=ROOMY)
    lease_hash = await request_while_dying(village, step, cuts_power)
    await until(lambda: village.disk("bob").status(lease_hash) is MachineStatus.RUNNING, 20, "the machine")
    await settled(village, lease_hash)


async def test_it_dies_in_the_middle_of_a_boot(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    found: list[Hash] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, village.nodes["alice"], PATIENT, found)
        await until(lambda: village.disk("bob").boots, 20, "the boot")
        await village.again("bob", 3.0)
    assert village.disk("bob").boots[found[0]] == 2
    await settled(village, found[0])


@pytest.mark.parametrize("step", ["booting", "machine_ready"])
async def test_the_image_outlives_a_death_before_there_is_a_machine(
    village: Village, autojump_clock: object, step: str
) -> None:
    await village.start_market("alice", bob=ROOMY)
    found: list[Hash] = []
    bob = village.nodes["bob"]
    bob.end_at(step)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, village.nodes["alice"], PATIENT._replace(image="roomy"), found)
        await bob.gone.wait()
        assert bool(village.disk("bob").machines) is (step == "machine_ready")
        await village.again("bob", 3.0)
    assert village.disk("bob").machines[found[0]].spec.image == "roomy"
    await settled(village, found[0])


@pytest.mark.parametrize("step", ["settled", "destroyed"])
async def test_it_dies_on_the_way_to_the_end(village: Village, autojump_clock: object, step: str) -> None:
    await village.start_market("alice", bob=ROOMY)
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM)
    bob = village.nodes["bob"]
    bob.end_at(step)
    await bob.gone.wait()
    assert (lease_hash in village.disk("bob").machines) == (step == "settled")
    await village.again("bob", 3.0)
    await settled(village, lease_hash)


async def test_it_is_away_at_the_expiry(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM)
    await village.again("bob", 100.0)
    await settled(village, lease_hash)


async def test_a_machine_that_stops_is_booted_again_at_most_three_times(
    village: Village, autojump_clock: object
) -> None:
    await village.start_market("alice", bob=ROOMY)
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM._replace(duration=DAY))
    disk = village.disk("bob")
    disk.power_cut()
    await until(lambda: disk.status(lease_hash) is MachineStatus.RUNNING, 20, "the machine")
    disk.power_cut()
    disk.boots_to_fail = 9
    await trio.sleep(60)
    assert disk.boots[lease_hash] == 1 + 1 + 3
    assert disk.status(lease_hash) is MachineStatus.STOPPED
    lease = village.nodes["bob"].lease(lease_hash)
    assert lease is not None
    assert lease.state is LeaseState.ACCEPTED


async def test_a_lease_past_its_grace_ends_by_attested_time_only(village: Village, autojump_clock: object) -> None:
    village.genesis = village.genesis._replace(timing=DEFAULT_TIMING._replace(settle_grace=30))
    await village.start_market("alice", bob=ROOMY)
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM)
    for name in ("timekeeper-1", "timekeeper-2"):
        await village.crash(name)
    await trio.sleep(150)
    disk = village.disk("bob")
    assert disk.status(lease_hash) is MachineStatus.RUNNING, "nobody has signed that its time is over"
    for name in ("timekeeper-1", "timekeeper-2"):
        await village.start(name, timekeeper=True)
    await until(lambda: lease_hash in disk.destroyed, 60, "the machine's end")
    await village.agreed()
    assert disk.destroyed[lease_hash].reason == "expired"


@pytest.mark.parametrize("is_lost", [False, True], ids=["unpaid", "lost"])
async def test_a_lease_that_nobody_ends_holds_no_capacity_for_ever(
    village: Village, autojump_clock: object, is_lost: bool
) -> None:
    """Its consumer, who could force the settlement, is gone for good."""
    village.genesis = village.genesis._replace(timing=DEFAULT_TIMING._replace(settle_grace=30))
    await village.start_market("alice", bob=ROOMY)
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM._replace(duration=120))
    await village.crash("alice")
    disk, roles = village.disk("bob"), village.nodes["bob"].roles
    if is_lost:
        del disk.machines[lease_hash]
    else:
        disk.boots_to_fail, disk.fault_code = 3, "qemu_exited"
        disk.power_cut()
    assert roles.offering is not None
    await trio.sleep(140)
    assert roles.offering.ad().available == SMALL, "it may be settled yet"
    await trio.sleep(25)
    assert (lease_hash in disk.destroyed) is not is_lost
    ad = roles.offering.ad()
    assert (ad.available, ad.active_leases) == (ROOMY, 0)
    lease = village.nodes["bob"].lease(lease_hash)
    assert lease is not None
    assert lease.state is LeaseState.ACCEPTED
    bob = (await village.again("bob")).roles
    await trio.sleep(5)
    assert bob.offering is not None
    assert bob.offering.ad().available == ROOMY


def leave_orphan(village: Village) -> Hash:
    """A running machine on bob's host whose lease nobody knows."""
    orphan = Hash(b"o" * 32)
    spec = MachineSpec(orphan, *SMALL, PublicKey(key_of("access").public_key), "")
    key = PublicKey(key_of("orphan").public_key)
    village.disk("bob").machines[orphan] = Machine(
        spec, "xnode-orphan", MachineStatus.RUNNING, key, 22, "fake", "default", "tcg", 0, 0, ""
    )
    return orphan


async def test_a_machine_without_a_lease_is_stopped_and_kept(village: Village, autojump_clock: object) -> None:
    orphan, disk = leave_orphan(village), village.disk("bob")
    bob = await village.start("bob", capacity=ROOMY, orphan_grace=10)
    await trio.sleep(60)  # longer than the grace, but alone, it can't be in step with anybody
    assert disk.status(orphan) is MachineStatus.STOPPED
    assert disk.destroyed == {}
    assert bob.steps(orphan) == ["orphan_stopped"]


async def test_a_machine_without_a_lease_is_removed_after_the_grace(village: Village, autojump_clock: object) -> None:
    orphan, disk = leave_orphan(village), village.disk("bob")
    await village.start("bob", capacity=ROOMY, orphan_grace=200)
    await village.start_market("alice")
    await trio.sleep(90)
    bob = await village.again("bob")  # what was watched before counts, but for what a node that dies forgets
    started = trio.current_time()
    await trio.sleep(100)
    assert orphan in disk.machines
    await until(lambda: orphan in disk.destroyed, 95, "the orphan's end")
    assert trio.current_time() - started < 200
    assert bob.steps(orphan) == ["orphan_removed"]
    await until(lambda: len(bob.roles.provider._orphans) == 0, 5, "the end of the watch")  # type: ignore[union-attr]
    await village.agreed()


async def test_a_machine_that_falls_three_times_stays_down_and_its_lease_is_settled(
    village: Village, autojump_clock: object
) -> None:
    """The guest is its consumer's: who switches it off again and again has had what was leased."""
    await village.start_market("alice", bob=ROOMY)
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM._replace(duration=240))
    disk = village.disk("bob")
    for _ in range(3):
        disk.power_cut()
        await until(lambda: disk.status(lease_hash) is MachineStatus.RUNNING, 20, "the machine")
    disk.power_cut()
    await village.again("bob")
    await trio.sleep(30)
    assert disk.status(lease_hash) is MachineStatus.STOPPED
    assert village.nodes["bob"].steps(lease_hash) == ["given_up"]
    await until(lambda: lease_hash in disk.destroyed, 300, "the machine's end")
    await village.agreed()
    assert disk.destroyed[lease_hash].reason == "settled"  # type: ignore[union-attr]


@pytest.mark.parametrize(("code", "end"), [("qemu_exited", "expired"), ("guest_panicked", "settled")])
async def test_who_spoilt_the_boots_decides_who_pays_also_after_a_restart(
    village: Village, autojump_clock: object, code: str, end: str
) -> None:
    village.genesis = village.genesis._replace(timing=DEFAULT_TIMING._replace(settle_grace=30))
    await village.start_market("alice", bob=ROOMY)
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM._replace(duration=120))
    disk = village.disk("bob")
    disk.boots_to_fail, disk.fault_code = 3, code
    disk.power_cut()
    await until(lambda: disk.boots[lease_hash] == 4, 60, "three boots")
    await trio.sleep(10)
    await village.again("bob")
    await until(lambda: lease_hash in disk.destroyed, 300, "the machine's end")
    assert disk.boots[lease_hash] == 4
    await village.agreed()
    assert disk.destroyed[lease_hash].reason == end  # type: ignore[union-attr]


async def test_a_provider_that_drains_offers_nothing_and_keeps_its_leases(
    village: Village, autojump_clock: object
) -> None:
    await village.start_market("alice", bob=ROOMY)
    alice = village.nodes["alice"].roles
    lease_hash = await alice.consumer.request(FORM)
    drain = village.nodes["bob"].roles.drain
    assert drain is not None
    drain.switch(is_on=True)
    with pytest.raises(Fault, match="takes no new leases"):
        await alice.consumer.request(FORM)
    bob = (await village.again("bob")).roles
    with pytest.raises(Fault, match="takes no new leases"):
        await alice.consumer.request(FORM)
    (ad,) = (ad for ad in alice.board.ads() if ad.provider == bob.author.address)
    assert (ad.closed, ad.available) == ("draining", NOTHING)
    await settled(village, lease_hash)
    assert bob.drain is not None
    bob.drain.switch(is_on=False)
    assert await alice.consumer.request(FORM) != lease_hash


async def test_a_host_that_is_full_refuses_new_leases_and_keeps_the_old(
    village: Village, autojump_clock: object
) -> None:
    await village.start_market("alice", bob=ROOMY)
    alice, disk = village.nodes["alice"].roles, village.disk("bob")
    lease_hash = await alice.consumer.request(FORM._replace(duration=DAY))
    disk.room = HostRoom(machines=9, memory_mb=100_000, disk_gb=0, overhead_mb=150)
    await trio.sleep(5)
    with pytest.raises(Fault, match="host is full beyond its reserve: 100 GiB of disk asked, 0 left"):
        await alice.consumer.request(FORM)
    await trio.sleep(61)
    (ad,) = (ad for ad in alice.board.ads() if ad.provider == address_of("bob"))
    assert ad.closed == "host_full"
    assert disk.status(lease_hash) is MachineStatus.RUNNING
    disk.room = disk.room._replace(disk_gb=100)
    await trio.sleep(5)
    await alice.consumer.request(FORM)


async def test_what_is_promised_survives_a_restart(village: Village, autojump_clock: object) -> None:
    """A machine that is here counts before the first request is answered."""
    await village.start_market("alice", "anna", bob=SMALL)
    disk = village.disk("bob")
    found: list[Hash | Fault] = []

    async def late() -> None:
        try:
            found.append(await village.nodes["anna"].roles.consumer.request(FORM._replace(timeout=20)))
        except Fault as fault:
            found.append(fault)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, village.nodes["alice"], PATIENT, [])
        await until(lambda: disk.boots, 20, "the boot")
        await village.crash("bob")
        disk.adopt_seconds = 5.0
        await village.start("bob", capacity=SMALL)
        await trio.sleep(2)
        nursery.start_soon(late)
    assert [fault.code for fault in found if isinstance(fault, Fault)] == ["no_providers"]
    assert len(disk.machines) == 1


async def test_why_a_boot_failed_is_told_while_its_machine_is_being_ended(
    village: Village, autojump_clock: object
) -> None:
    await village.start_market("alice", bob=ROOMY)
    village.disk("bob").boots_to_fail = 1
    driver = village.nodes["bob"].roles.driver
    assert driver is not None
    stop = driver.stop

    async def slow_stop(lease_hash: Hash) -> Machine:
        await trio.sleep(10)
        return await stop(lease_hash)

    driver.stop = slow_stop  # type: ignore[method-assign]
    with pytest.raises(Fault, match="did not answer on SSH"):
        await village.nodes["alice"].roles.consumer.request(FORM)


async def test_nothing_is_kept_of_declined_leases(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    village.disk("bob").boots_to_fail = 1
    with pytest.raises(Fault, match="did not answer on SSH"):
        await village.nodes["alice"].roles.consumer.request(FORM)
    await until(lambda: not village.disk("bob").machines, 20, "the machine's end")
    await trio.sleep(5)
    provider = village.nodes["bob"].roles.provider
    assert provider is not None
    assert provider._refused == provider._faults == provider._not_before == provider._capacity._admitted == {}
    assert provider._strikes._strikes == {}


def refuse_times(monkeypatch: pytest.MonkeyPatch, verb: str, times: int) -> list[float]:
    """The disk of every host refuses a driver's verb so often; returns when, on the virtual clock."""
    real, refused = getattr(FakeDriver, verb), []

    async def told(self: FakeDriver, *words: object) -> object:
        if len(refused) < times:
            refused.append(trio.current_time())
            raise host_failed(OSError(errno.EROFS, "Read-only file system"))
        return await real(self, *words)

    monkeypatch.setattr(FakeDriver, verb, told)
    return refused


async def test_a_disk_that_fails_ends_no_node_and_everything_is_tried_again(
    village: Village, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopts = refuse_times(monkeypatch, "adopt", 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(village.start_market, "alice", bob=ROOMY))
        await trio.sleep(1)
        provider = village.nodes["bob"].roles.provider
        assert provider is not None
        assert "Read-only file system" in provider.trouble
    assert len(adopts) == 2
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM)
    looks, ends = refuse_times(monkeypatch, "refresh", 5), refuse_times(monkeypatch, "destroy", 3)
    await trio.sleep(3)
    assert "Read-only file system" in provider.trouble
    await trio.sleep(30)
    assert (len(looks), provider.trouble) == (5, "")
    await settled(village, lease_hash)
    assert len(ends) == 3
    assert all(later - before >= 3 for before, later in pairwise(ends))


async def create_lease(node: RoleNode, resources: Resources = SMALL) -> Hash:
    """One at bob without an offer, that its consumer does not care for any more."""
    body = Lease(address_of("bob"), 1, *resources, 60, FORM.access_pub_key, ZERO_HASH, 1000)
    return await node.roles.author.append(Draft(Asset.XUSD, -1, body))


async def test_leases_that_nobody_cancels_hide_no_newer_one(
    village: Village, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose machine is here is seen to its end, however old."""
    monkeypatch.setattr(capacity, "LEASES_MAX", 3)
    await village.start_market("alice", "anna", bob=ROOMY)
    alice, disk, too_large = village.nodes["alice"], village.disk("bob"), ROOMY._replace(vcpus=9)
    disk.boots_to_fail = 1
    booted = await create_lease(alice)
    for _ in range(3):
        await create_lease(alice, too_large)
    await until(lambda: len(village.nodes["bob"].leases()) == 4, 10, "the leases")
    await village.crash("alice")
    await trio.sleep(CANCEL_AFTER / NS + 5)
    assert disk.status(booted) is MachineStatus.STOPPED
    fresh = await village.nodes["anna"].roles.consumer.request(FORM)
    await until(lambda: fresh in disk.destroyed, 150, "the settlement")
    assert disk.destroyed.keys() == {fresh}
    await village.start("alice")
    await until(lambda: booted in disk.destroyed, 30, "the end of the old one's machine")
    await village.agreed()
