"""Two of three timekeepers are enough; without them nothing is accepted or settled, and nothing is lost."""

import pytest
import trio

from tests.support.ledger import TIMEKEEPER_NAMES, attest, key_of, make_genesis
from tests.support.role_node import FORM, ROOMY, Village, peer_id_of, until, virtual_clock
from xnode.core.attestations import ATTESTATIONS_MAX, Timekeepers
from xnode.core.charter import Charter
from xnode.core.directory import DIRECTORY, DirectoryRecord
from xnode.core.faults import CallerFault, PeerFault, Unavailable
from xnode.core.lease import LeaseState
from xnode.core.machine import MachineStatus
from xnode.core.values import NS, Address, Hash
from xnode.roles.attesting import ASK_SECONDS_MAX, ATTEST_METHOD, LINGER_SECONDS, WAVE_SECONDS, Attesting
from xnode.roles.contacts import Contacts

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


LEASE = Hash(b"l" * 32)


class Many:
    """The node of somebody in a network that lists many timekeepers, and those of them that answer."""

    def __init__(self, listed: int, threshold: int, up: range, *, known: range | None = None) -> None:
        self.names = tuple(f"timekeeper {number:03}" for number in range(listed))
        self.up = {peer_id_of(self.names[number]): self.names[number] for number in up}
        self.asked: list[str] = []
        genesis = make_genesis(
            timekeepers=Timekeepers(tuple(key_of(name).public_key for name in self.names), threshold)
        )
        clock, key = virtual_clock(), key_of("alice")
        self.contacts = Contacts(key, genesis, self, clock, self.publish, self.nowhere, lambda: (), lambda: ())  # type: ignore[arg-type]
        for number in range(listed) if known is None else known:
            name = self.names[number]
            record = DirectoryRecord(Address(key_of(name).public_key), peer_id_of(name), (), (), clock())
            assert self.contacts.take(DIRECTORY.sign(genesis.network_key, key_of(name), record))
        charter = Charter(genesis.dao, genesis.timekeepers, genesis.rates)
        self.attesting = Attesting(
            genesis, self.contacts, self, clock, None, peer_id_of("alice"), lambda: charter  # type: ignore[arg-type]
        )  # fmt: skip

    async def publish(self, topic: str, data: bytes) -> None:
        raise AssertionError

    def nowhere(self) -> DirectoryRecord:
        raise AssertionError

    def register(self, method: str, handler: object) -> None:
        """As `Calls`: nobody calls us."""

    async def call(
        self, peer_id: str, method: str, args: object, timeout: float, addresses: object
    ) -> tuple[object, ...]:
        """As `Calls`: who is down does not refuse, but never answers."""
        assert method == ATTEST_METHOD
        self.asked.append(peer_id)
        if peer_id not in self.up:
            await trio.sleep(timeout)
            raise PeerFault("no_answer", "no answer in time", retryable=True)
        (attestation,) = attest(LEASE, virtual_clock()(), names=(self.up[peer_id],))
        return attestation.public_key, attestation.timestamp, attestation.signature


@pytest.mark.parametrize(
    ("listed", "threshold", "up"),
    [(25, 3, range(20, 25)), (30, 15, range(6, 30)), (100, 20, range(80, 100)), (100, 20, range(100))],
)
async def test_as_many_as_are_needed_are_found_among_all_that_are_listed(
    autojump_clock: object, listed: int, threshold: int, up: range
) -> None:
    network = Many(listed, threshold, up)
    found = await network.attesting.quorum(LEASE)
    assert threshold <= len({item.public_key for item in found}) == len(found) <= ATTESTATIONS_MAX
    assert trio.current_time() <= (listed - 1) // ATTESTATIONS_MAX * WAVE_SECONDS + LINGER_SECONDS
    if len(up) == listed:
        assert len(network.asked) == ATTESTATIONS_MAX, "the others are not needed"
        assert trio.current_time() == 0


async def test_those_whose_whereabouts_are_known_are_asked_first(autojump_clock: object) -> None:
    network = Many(40, 3, range(40), known=range(30, 40))
    assert len(await network.attesting.quorum(LEASE)) == 10
    assert trio.current_time() == 0
    assert set(network.asked) == {peer_id_of(name) for name in network.names[30:]}


async def test_who_did_not_answer_is_told_in_short(autojump_clock: object) -> None:
    network = Many(100, 3, range(2), known=range(2))
    with pytest.raises(Unavailable, match=r"2 of 3 timekeepers attested: .* and 78 more") as caught:
        await network.attesting.quorum(LEASE)
    assert trio.current_time() <= ASK_SECONDS_MAX
    assert len(str(caught.value)) < 4_000
