"""Two of three timekeepers are enough; without them nothing is accepted or settled, and nothing is lost."""

import pytest
import trio

from tests.support.ledger import TIMEKEEPER_NAMES
from tests.support.role_node import FORM, ROOMY, Village, until
from xnode.core.faults import CallerFault, Unavailable
from xnode.core.lease import LeaseState
from xnode.core.machine import MachineStatus
from xnode.core.values import NS, Hash

pytestmark = pytest.mark.slow

PATIENT = FORM._replace(timeout=120.0)


async def ask(village: Village, found: list[Hash]) -> None:
    found.append(await village.nodes["alice"].roles.consumer.request(PATIENT))


async def test_two_of_three_are_enough(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    await village.crash("timekeeper-2")
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM)
    await until(lambda: lease_hash in village.disk("bob").destroyed, 80, "the settlement")
    assert village.disk("bob").destroyed[lease_hash].reason == "settled"


async def test_one_of_three_is_not_enough_until_another_is_back(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    found: list[Hash] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, village, found)
        await trio.sleep(2)
        for name in TIMEKEEPER_NAMES[1:]:
            await village.crash(name)
        await trio.sleep(30)
        assert not found
        assert [lease.state for lease in village.nodes["bob"].leases()] == [LeaseState.CREATED]
        lease_hash = village.nodes["bob"].leases()[0].lease_hash
        assert village.disk("bob").status(lease_hash) is MachineStatus.RUNNING
        await village.start(TIMEKEEPER_NAMES[1], timekeeper=True)
    await village.agreed()
    for name in TIMEKEEPER_NAMES[:2]:
        await village.crash(name)
    await trio.sleep(120)
    assert village.disk("bob").status(lease_hash) is MachineStatus.RUNNING
    for name in TIMEKEEPER_NAMES[:2]:
        await village.start(name, timekeeper=True)
    await until(lambda: lease_hash in village.disk("bob").destroyed, 60, "the settlement")
    await village.agreed()
    assert village.disk("bob").destroyed[lease_hash].reason == "settled"


async def test_without_timekeepers_no_offer_is_made(village: Village, autojump_clock: object) -> None:
    await village.start("bob", capacity=ROOMY)
    await village.start("timekeeper-1", timekeeper=True)
    alice = await village.start("alice")
    await village.ready()
    with pytest.raises(CallerFault, match="no_timekeepers: this provider reaches too few timekeepers"):
        await alice.roles.consumer.request(FORM)


async def test_a_timekeeper_whose_clock_is_far_off_does_not_count(village: Village, autojump_clock: object) -> None:
    skew = village.genesis.timing.attestation_skew
    await village.start("representative")
    await village.start(TIMEKEEPER_NAMES[0], timekeeper=True, clock_ahead=1)
    await village.start(TIMEKEEPER_NAMES[1], timekeeper=True, clock_ahead=-2)
    liar = await village.start(TIMEKEEPER_NAMES[2], timekeeper=True)
    await village.start("bob", capacity=ROOMY)
    alice = await village.start("alice")
    await village.ready()
    keeper = liar.roles.timekeeper
    assert keeper is not None
    honest = keeper._clock
    keeper._clock = lambda: honest() + (skew + 60) * NS
    keeper._guard = keeper._guard._replace(last=keeper._guard.last._replace(wall=keeper._clock()))
    lease_hash = await alice.roles.consumer.request(FORM)
    lease = alice.lease(lease_hash)
    assert lease is not None
    assert abs(lease.start_time - honest()) < 10 * NS
    with pytest.raises(Unavailable, match=r"2 of 3 timekeepers attested.*too far apart"):
        await alice.roles.attesting._gather(lease_hash, 3)
