"""How blocks and records reach everybody: gossip along a line, sync, the directory; through loss and partitions."""

from pathlib import Path

import pytest
import trio

from tests.support.ledger import DAY, NOW, SMALL, address_of, key_of, make_genesis
from tests.support.memory_network import Weather
from tests.support.role_node import FORM, ROOMY, Village, peer_id_of, until, virtual_clock
from xnode.core.blocks import Send
from xnode.core.directory import DIRECTORY, DirectoryRecord
from xnode.core.faults import Fault
from xnode.core.lease import LeaseState
from xnode.core.values import NS, Asset
from xnode.net.network import Verdict
from xnode.roles.author import Draft
from xnode.roles.contacts import DIRECTORY_TOPIC
from xnode.roles.market_board import MARKET_TOPIC
from xnode.roles.replica import BLOCKS_TOPIC

pytestmark = pytest.mark.slow


def to_bob(amount: int) -> Draft:
    return Draft(Asset.XUSD, -amount, Send(address_of("bob"), amount))


async def test_a_block_goes_along_a_line(village: Village, autojump_clock: object) -> None:
    alice = await village.start("alice", peers=())
    await village.start("anna", peers=("alice",))
    carol = await village.start("carol", peers=("anna",))
    await trio.sleep(3)
    block_hash = await alice.roles.author.append(to_bob(1))
    await trio.sleep(0.2)
    with carol.store.snapshot() as view:
        assert view.has_block(block_hash)
    assert peer_id_of("alice") not in {peer.peer_id for peer in carol.network.peers()}


async def test_a_node_that_was_off_catches_up(village: Village, autojump_clock: object) -> None:
    await village.start("alice")
    await village.start("anna")
    await village.ready()
    await village.crash("anna")
    for amount in range(1, 40):
        await village.nodes["alice"].roles.author.append(to_bob(amount))
    await trio.sleep(3700)  # older than the window of live blocks
    anna = await village.start("anna")
    await village.agreed(10)
    assert anna.roles.sync.counters["blocks_applied"] == 39


async def test_the_directory_is_exchanged_on_connect(village: Village, autojump_clock: object) -> None:
    for name in ("alice", "anna", "bob"):
        await village.start(name, peers=("alice",))
    await village.ready()
    await trio.sleep(300)
    carol = await village.start("carol", peers=("bob",))
    await trio.sleep(5)
    for name in ("alice", "anna", "bob"):
        assert carol.roles.contacts.find(address_of(name)).peer_id == peer_id_of(name)
        assert village.nodes[name].roles.contacts.find(carol.address).peer_id == peer_id_of("carol")


async def test_who_says_hello_before_the_roles_run_is_asked_too(village: Village, autojump_clock: object) -> None:
    await village.start("anna", peers=())
    await village.start("bob", peers=("anna", "alice"))
    await trio.sleep(300)
    alice = await village.start("alice", peers=(), slow_start=6.0)
    await trio.sleep(10)
    assert alice.roles.contacts.find(address_of("anna")).peer_id == peer_id_of("anna")


async def test_big_records_do_not_stop_the_exchange(village: Village, autojump_clock: object) -> None:
    alice = await village.start("alice", peers=())
    await village.start("bob", peers=("alice",))
    long = tuple(f"/dns4/{'x' * 240}{number:02}/tcp/1" for number in range(32))
    for number in range(40):
        key = key_of(f"big {number}")
        record = DirectoryRecord(key.public_key, "peer-big", long, (), NOW)  # type: ignore[arg-type]
        assert alice.roles.contacts.take(DIRECTORY.sign(village.genesis.network_key, key, record))
    carol = await village.start("carol", peers=("alice",))
    await trio.sleep(3)
    assert len(carol.roles.contacts.directory.records(virtual_clock()())) > 3
    assert carol.roles.contacts.find(alice.address).peer_id == peer_id_of("alice")


async def test_records_are_renewed_before_they_end(village: Village, autojump_clock: object) -> None:
    alice, bob = await village.start("alice", peers=()), await village.start("bob", peers=("alice",))
    await trio.sleep(31 * 60)
    assert alice.roles.contacts.find(bob.address).peer_id == peer_id_of("bob")
    await village.crash("bob")
    await trio.sleep(31 * 60)
    with pytest.raises(Fault, match="has not told where it is"):
        alice.roles.contacts.find(bob.address)


async def test_a_lease_in_bad_weather(nursery: trio.Nursery, autojump_clock: object, tmp_path: Path) -> None:
    village = Village(nursery, tmp_path, Weather(loss=0.3, delay_min=0.05, delay_max=1.5))
    await village.start_market("alice", "anna", bob=ROOMY, carol=ROOMY)
    for name in ("alice", "anna"):
        await village.nodes[name].roles.consumer.request(FORM)
    await trio.sleep(100)
    await village.agreed()
    assert [lease.state for lease in village.nodes["bob"].leases()] == [LeaseState.SETTLED] * 2


async def test_a_partition_in_the_middle_of_a_lease(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", "anna", bob=ROOMY)
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM)
    await village.internet.part({peer_id_of("bob"), peer_id_of("timekeeper-1")})
    await trio.sleep(90)
    bob = village.nodes["bob"]
    assert [lease.state for lease in bob.leases()] == [LeaseState.ACCEPTED], "one timekeeper is too few"
    await village.nodes["anna"].roles.author.append(to_bob(9))
    await village.internet.part(())
    await until(lambda: lease_hash in village.disk("bob").destroyed, 60, "the settlement")
    await village.agreed()


async def test_a_partition_before_acceptance_ends_in_one_ledger(village: Village, autojump_clock: object) -> None:
    """The provider accepts on its side while the consumer gives up on the other: both end with the acceptance."""
    await village.start_market("alice", bob=ROOMY)
    alice = village.nodes["alice"]
    async with trio.open_nursery() as nursery:

        async def part() -> None:
            await until(lambda: village.disk("bob").boots, 10, "the boot")
            await village.internet.part({peer_id_of("alice")})

        nursery.start_soon(part)
        with pytest.raises(Fault, match="did not accept in time"):
            await alice.roles.consumer.request(FORM._replace(timeout=30, duration=DAY))
    assert [lease.state for lease in alice.leases()] == [LeaseState.CREATED], "the provider may have accepted"
    await trio.sleep(60)
    assert [lease.state for lease in village.nodes["bob"].leases()] == [LeaseState.ACCEPTED]
    await village.internet.part(())
    await village.agreed()
    assert [lease.state for lease in alice.leases()] == [LeaseState.ACCEPTED]


async def test_a_peer_of_another_network_is_cut_off(village: Village, autojump_clock: object) -> None:
    alice = await village.start("alice")
    village.genesis = make_genesis(network_id="other")
    stranger = await village.start("bob")
    await trio.sleep(10)
    assert alice.network.peers() == stranger.network.peers() == ()
    assert alice.network.counters["peers_banned"] + stranger.network.counters["peers_banned"] > 0


async def test_topics_ignore_what_is_useless_and_reject_what_is_bad(village: Village, autojump_clock: object) -> None:
    alice = await village.start("alice")
    bob = await village.start("bob", capacity=SMALL)
    await village.ready()
    topics = alice.network._judge._topics
    sender = peer_id_of("bob")
    for name in (BLOCKS_TOPIC, MARKET_TOPIC, DIRECTORY_TOPIC):
        assert topics[name].validate(sender, b"junk").verdict is Verdict.REJECT
        assert topics[name].validate(peer_id_of("nobody"), b"junk").verdict is Verdict.IGNORE
    old = DirectoryRecord(bob.address, sender, (), (), NOW - 3600 * NS)
    wire = DIRECTORY.sign(village.genesis.network_key, key_of("bob"), old)
    assert topics[DIRECTORY_TOPIC].validate(sender, wire).reason == "stale_record"
    forged = DIRECTORY.sign(village.genesis.network_key, key_of("eve"), old)
    assert topics[DIRECTORY_TOPIC].validate(sender, forged).verdict is Verdict.REJECT
