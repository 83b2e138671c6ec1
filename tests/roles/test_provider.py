"""The provider dies at every step of a lease and goes on where it stood; a machine ends only with its proof."""

import pytest
import trio

from tests.support.ledger import DAY, SMALL, address_of, key_of
from tests.support.role_node import FORM, RICH, ROOMY, RoleNode, Village, until
from xnode.core.faults import Fault
from xnode.core.genesis import DEFAULT_TIMING
from xnode.core.lease import LeaseState
from xnode.core.machine import Machine, MachineSpec, MachineStatus
from xnode.core.market import LeaseForm
from xnode.core.values import Hash, PublicKey

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


async def test_a_machine_without_a_lease_is_stopped_and_kept(village: Village, autojump_clock: object) -> None:
    disk = village.disk("bob")
    orphan = Hash(b"o" * 32)
    spec = MachineSpec(orphan, *SMALL, PublicKey(key_of("access").public_key), "")
    key = PublicKey(key_of("orphan").public_key)
    disk.machines[orphan] = Machine(
        spec, "xnode-orphan", MachineStatus.RUNNING, key, 22, "fake", "default", "tcg", 0, 0, ""
    )
    bob = await village.start("bob", capacity=ROOMY)
    await trio.sleep(60)
    assert disk.status(orphan) is MachineStatus.STOPPED
    assert disk.destroyed == {}
    assert bob.steps(orphan) == ["orphan_stopped"]


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


async def test_nothing_is_kept_of_declined_leases(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    village.disk("bob").boots_to_fail = 1
    with pytest.raises(Fault, match="did not answer on SSH"):
        await village.nodes["alice"].roles.consumer.request(FORM)
    await until(lambda: not village.disk("bob").machines, 20, "the machine's end")
    await trio.sleep(5)
    provider = village.nodes["bob"].roles.provider
    assert provider is not None
    assert provider._boots == provider._faults == provider._not_before == provider._capacity._admitted == {}
