"""A provider's pool: what stands ready, who gets it, who goes for whom; the hand-over survives a death at each step."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.support.fake_driver import BOOT_SECONDS, Disk
from tests.support.ledger import SMALL, key_of
from tests.support.role_node import FORM, ROOMY, RoleNode, Village, until
from xnode.core.lease import LeaseState, Resources
from xnode.core.machine import HostRoom, MachineStatus
from xnode.core.market import LeaseForm
from xnode.core.pool import Flavour, SpareProof, Want
from xnode.core.values import ZERO_HASH, Hash
from xnode.roles.spares import SPACE

pytestmark = pytest.mark.slow

FLAVOUR = Flavour("debian-12", SMALL)
ONE = (Want(FLAVOUR, 1),)
PATIENT = FORM._replace(timeout=120.0)
OTHER = FORM._replace(resources=SMALL._replace(vcpus=1), access_pub_key=key_of("other access").public_key)


def spares(disk: Disk, status: MachineStatus = MachineStatus.RUNNING) -> set[Hash]:
    return {item for item, machine in disk.machines.items() if machine.spec.is_spare and machine.status is status}


def discarded(disk: Disk) -> set[Hash]:
    return {item for item, proof in disk.destroyed.items() if isinstance(proof, SpareProof)}


def notes(node: RoleNode) -> dict[bytes, bytes]:
    with node.store.snapshot() as view:
        return dict(view.notes(SPACE, 100))


async def stands_ready(village: Village, number: int = 1) -> set[Hash]:
    await until(lambda: len(spares(village.disk("bob"))) == number, 60, f"{number} spares")
    return spares(village.disk("bob"))


async def market(village: Village, capacity: Resources = ROOMY, pool: tuple[Want, ...] = ONE) -> Disk:
    """Alice, and bob with a pool that stands ready."""
    await village.start("bob", capacity=capacity, pool=pool)
    await village.start_market("alice")
    return village.disk("bob")


async def lease(village: Village, form: LeaseForm = PATIENT) -> Hash:
    return await village.nodes["alice"].roles.consumer.request(form)


async def test_as_many_as_wanted_stand_ready_and_are_nobodys(village: Village, autojump_clock: object) -> None:
    disk = await market(village, pool=(Want(FLAVOUR, 2),))
    await stands_ready(village, 2)
    bob = village.nodes["bob"]
    await trio.sleep(60)
    assert (len(disk.machines), bob.roles.machines(), disk.destroyed) == (2, (), {})
    assert bob.roles.offering is not None
    assert bob.roles.offering.ad().available == ROOMY
    assert "2 of 2 in the pool ready" in bob.roles.describe_hosting()
    assert len({machine.host_key for machine in disk.machines.values()}) == 2


async def test_a_lease_gets_a_spare_and_another_takes_its_place(village: Village, autojump_clock: object) -> None:
    disk = await market(village)
    (spare,) = await stands_ready(village)
    host_key = disk.machines[spare].host_key
    began = trio.current_time()
    lease_hash = await lease(village)
    assert trio.current_time() - began < BOOT_SECONDS
    accepted = village.nodes["alice"].lease(lease_hash)
    assert accepted is not None
    assert (accepted.state, accepted.host_key) == (LeaseState.ACCEPTED, host_key)
    machine = disk.machines[lease_hash]
    assert (machine.spec.access_key, machine.host_key) == (FORM.access_pub_key, host_key)
    assert disk.boots[lease_hash] == 0
    assert village.nodes["bob"].steps(lease_hash)[:3] == ["admitted", "booting", "from_pool"]
    (following,) = await stands_ready(village)
    assert following != spare
    assert disk.machines[following].host_key != host_key
    assert discarded(disk) == set()


async def test_a_lease_of_another_flavour_is_booted_beside_the_pool(village: Village, autojump_clock: object) -> None:
    disk = await market(village)
    ready = await stands_ready(village)
    lease_hash = await lease(village, OTHER)
    assert disk.boots[lease_hash] == 1
    assert spares(disk) == ready


def when_marked(bob: RoleNode, die: Callable[[], None]) -> None:
    spares = bob.roles.spares
    assert spares is not None
    write = spares._write

    def spy(spare: Hash, flavour: Flavour, leased_to: Hash) -> None:
        write(spare, flavour, leased_to)
        if leased_to != ZERO_HASH:
            die()

    spares._write = spy  # type: ignore[method-assign]


def when_taken(bob: RoleNode, die: Callable[[], None]) -> None:
    assert bob.roles.driver is not None
    driver: Any = bob.roles.driver
    take = driver.take

    async def spy(spare: Hash, spec: Any) -> Any:
        await take(spare, spec)
        die()
        await trio.lowlevel.checkpoint()

    driver.take = spy


def when_logged(step: str) -> Callable[[RoleNode, Callable[[], None]], None]:
    return lambda bob, _: bob.end_at(step)


def when_moved_in(bob: RoleNode, die: Callable[[], None]) -> None:
    driver: Any = bob.roles.driver
    arrive = driver._arrive

    async def spy(*given: Any) -> Any:
        machine = await arrive(*given)
        die()
        await trio.lowlevel.checkpoint()
        return machine

    driver._arrive = spy


DEATHS = {
    "its note is marked": when_marked,
    "the machine is the lease's": when_taken,
    "the note is gone": when_logged("from_pool"),
    "the consumer's key is in": when_moved_in,
    "it is accepted": when_logged("accepted"),
}


async def lease_while_dying(village: Village, death: str, *, cuts_power: bool) -> Hash:
    """Alice's lease; bob dies there, is away for 3 s, and comes back."""
    bob, found = village.nodes["bob"], list[Hash]()
    DEATHS[death](bob, bob.scope.cancel)

    async def ask() -> None:
        found.append(await lease(village))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        with trio.fail_after(60):
            await bob.gone.wait()
        if cuts_power:
            village.disk("bob").power_cut()
        await village.again("bob", 3.0)
    return found[0]


@pytest.mark.parametrize("death", DEATHS)
async def test_the_hand_over_survives_a_death_when(village: Village, autojump_clock: object, death: str) -> None:
    disk = await market(village)
    (spare,) = await stands_ready(village)
    host_key = disk.machines[spare].host_key
    lease_hash = await lease_while_dying(village, death, cuts_power=False)
    assert (disk.machines[lease_hash].spec.access_key, disk.machines[lease_hash].host_key) == (
        FORM.access_pub_key,
        host_key,
    )
    accepted = village.nodes["alice"].lease(lease_hash)
    assert accepted is not None
    assert (accepted.state, accepted.host_key) == (LeaseState.ACCEPTED, host_key)
    await stands_ready(village)
    await trio.sleep(5)
    assert (len(disk.machines), len(notes(village.nodes["bob"])), discarded(disk)) == (2, 1, set())


@pytest.mark.parametrize("death", ["its note is marked", "the machine is the lease's"])
async def test_the_hand_over_survives_a_power_cut_when(village: Village, autojump_clock: object, death: str) -> None:
    """Then the machine is booted cold; only what was nobody's is discarded."""
    disk = await market(village)
    (spare,) = await stands_ready(village)
    lease_hash = await lease_while_dying(village, death, cuts_power=True)
    await until(lambda: lease_hash in disk.destroyed, 150, "the end")
    await village.agreed()
    assert disk.destroyed[lease_hash].reason == "settled"
    assert discarded(disk) == ({spare} if death == "its note is marked" else set())
    await stands_ready(village)
    assert len(notes(village.nodes["bob"])) == 1


async def test_a_spare_that_does_not_suit_costs_the_lease_nothing(village: Village, autojump_clock: object) -> None:
    disk = await market(village)
    (spare,) = await stands_ready(village)
    disk.spares_spoilt = True
    lease_hash = await lease(village)
    assert disk.boots[lease_hash] == 1
    disk.spares_spoilt = False
    await until(lambda: spare in discarded(disk), 30, "the spoilt one's end")
    assert await stands_ready(village) != {spare}


async def test_a_restart_takes_the_pool_over(village: Village, autojump_clock: object) -> None:
    disk = await market(village)
    ready = await stands_ready(village)
    await village.again("bob")
    await trio.sleep(20)
    assert (spares(disk), disk.boots.total(), disk.destroyed) == (ready, 1, {})


async def test_a_spare_that_was_booting_is_booted_by_the_next_run(village: Village, autojump_clock: object) -> None:
    disk = village.disk("bob")
    disk.boot_seconds = 10
    await market(village)
    await until(lambda: spares(disk, MachineStatus.PROVISIONING), 30, "a boot")
    coming = spares(disk, MachineStatus.PROVISIONING)
    await village.again("bob")
    assert await stands_ready(village) == coming


async def test_other_settings_discard_what_is_not_wanted(village: Village, autojump_clock: object) -> None:
    disk = await market(village)
    ready = await stands_ready(village)
    await village.crash("bob")
    bob = await village.start("bob", capacity=ROOMY)
    await until(lambda: not disk.machines, 30, "an empty pool")
    assert (discarded(disk), notes(bob)) == (ready, {})


async def test_draining_empties_the_pool(village: Village, autojump_clock: object) -> None:
    disk = await market(village)
    ready = await stands_ready(village)
    roles = village.nodes["bob"].roles
    roles.switch_drain(is_on=True)
    await until(lambda: not disk.machines, 30, "an empty pool")
    await trio.sleep(30)
    assert (discarded(disk), disk.machines) == (ready, {})
    roles.switch_drain(is_on=False)
    assert await stands_ready(village) != ready


async def test_a_lease_that_has_no_room_beside_the_pool_evicts_it(village: Village, autojump_clock: object) -> None:
    large = OTHER._replace(resources=ROOMY)
    disk = await market(village)
    ready = await stands_ready(village)
    lease_hash = await lease(village, large)
    assert discarded(disk) == ready
    await trio.sleep(20)
    assert set(disk.machines) == {lease_hash}, "there is no room for another spare while it runs"
    await until(lambda: lease_hash in disk.destroyed, 150, "the end")
    await stands_ready(village)


async def test_a_lease_evicts_a_spare_that_is_still_booting(village: Village, autojump_clock: object) -> None:
    disk = village.disk("bob")
    disk.boot_seconds = 30
    await market(village)
    await until(lambda: spares(disk, MachineStatus.PROVISIONING), 30, "a boot")
    disk.boot_seconds = BOOT_SECONDS
    coming = spares(disk, MachineStatus.PROVISIONING)
    await lease(village, OTHER._replace(resources=ROOMY, timeout=60.0))
    assert discarded(disk) == coming


async def test_a_host_without_room_boots_no_spare(village: Village, autojump_clock: object) -> None:
    disk = village.disk("bob")
    disk.room = HostRoom(machines=9, memory_mb=8192 + 287, disk_gb=500, overhead_mb=288)
    await market(village)
    await trio.sleep(30)
    assert disk.machines == {}
    disk.room = disk.room._replace(memory_mb=8192 + 288)
    await stands_ready(village)


async def test_spares_that_fail_are_tried_ever_more_seldom(village: Village, autojump_clock: object) -> None:
    disk = village.disk("bob")
    disk.boots_to_fail = 1000
    await market(village)
    await trio.sleep(90)
    assert 3 <= disk.boots.total() <= 5
    assert len(discarded(disk)) >= disk.boots.total() - 1
    disk.boots_to_fail = 0
    await until(lambda: spares(disk), 100, "one that boots")


async def test_a_spare_without_its_note_is_kept_as_an_orphan(village: Village, autojump_clock: object) -> None:
    """The store was lost: nobody can say that it was never leased."""
    disk = await market(village)
    (spare,) = await stands_ready(village)
    await village.crash("bob")
    for file in (village.root / "bob").rglob("*"):
        if file.is_file():
            file.unlink()
    bob = await village.start("bob", capacity=ROOMY)
    await until(lambda: disk.status(spare) is MachineStatus.STOPPED, 30, "its stop")
    assert bob.roles.provider is not None
    assert bob.roles.provider.orphans == 1
    assert discarded(disk) == set()
