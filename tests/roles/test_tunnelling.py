"""From a consumer's node to its machine: who may, who may not, and how it ends (protocol section 12)."""

import pytest
import trio

from tests.support.ledger import key_of
from tests.support.role_node import FORM, ROOMY, Village, until, virtual_clock
from xnode.core.faults import Ended, MachineFault, NotAllowed, NotFound, PeerFault, Unavailable
from xnode.core.tunnel import access_message
from xnode.core.values import Hash
from xnode.net.streams import Stream
from xnode.net.tunnel import DEFAULT_LIMITS
from xnode.roles.tunnelling import Tunnelling

pytestmark = pytest.mark.slow


async def echo_once(village: Village, stream: Stream) -> None:
    """The machine at the other end hears and answers."""
    await until(lambda: village.disk("bob").guests, 5, "the connection")
    guest = village.disk("bob").guests.pop()
    await stream.write(b"hello")
    assert await guest.receive_some(100) == b"hello"
    await guest.send_all(b"welcome")
    assert await stream.read(100) == b"welcome"
    village.disk("bob").guests.append(guest)


async def close_guests(village: Village) -> None:
    for guest in village.disk("bob").guests:
        await trio.aclose_forcefully(guest)


async def test_the_consumer_reaches_its_machine_until_the_lease_ends(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    alice, bob = village.nodes["alice"], village.nodes["bob"]
    lease_hash = await alice.roles.consumer.request(FORM)
    stream = await alice.roles.tunnelling.open(lease_hash, None)
    await echo_once(village, stream)
    assert bob.roles.tunnels.counts() == {lease_hash: 1}
    await until(lambda: lease_hash in village.disk("bob").destroyed, 80, "the end")
    with pytest.raises(PeerFault), trio.fail_after(10):
        await stream.read_exactly(1)
    assert bob.roles.tunnels.counts() == {}
    await until(lambda: alice.leases()[0].is_final, 5, "the news")
    with pytest.raises(Ended):
        await alice.roles.tunnelling.open(lease_hash, None)
    await close_guests(village)


async def test_a_stranger_needs_the_access_key(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", "anna", bob=ROOMY)
    alice, anna = village.nodes["alice"], village.nodes["anna"]
    lease_hash = await alice.roles.consumer.request(FORM)
    await village.agreed()
    with pytest.raises(NotAllowed):
        await anna.roles.tunnelling.open(lease_hash, None)
    now = virtual_clock()()
    message = access_message(village.genesis.network_key, lease_hash, now)
    with pytest.raises(NotAllowed):
        await alice.roles.tunnelling.open(lease_hash, (key_of("eve").sign(message), now))
    stream = await alice.roles.tunnelling.open(lease_hash, (key_of("access").sign(message), now))
    await echo_once(village, stream)
    await stream.reset()
    with pytest.raises(NotAllowed):
        await alice.roles.tunnelling.open(lease_hash, (key_of("access").sign(message), now))
    with pytest.raises(NotFound):
        await alice.roles.tunnelling.open(Hash(b"?" * 32), None)
    await close_guests(village)


async def test_the_provider_reaches_what_it_hosts(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM)
    stream = await village.nodes["bob"].roles.tunnelling.open(lease_hash, None)
    await echo_once(village, stream)
    await stream.aclose()
    await close_guests(village)


async def test_a_machine_that_is_down_is_told(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM)
    village.disk("bob").boots_to_fail = 9
    village.disk("bob").power_cut()
    with pytest.raises(Exception, match="does not run"):
        await village.nodes["alice"].roles.tunnelling.open(lease_hash, None)


async def test_the_provider_s_own_api_takes_tunnels_of_the_same_count(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    alice, bob = village.nodes["alice"].roles, village.nodes["bob"].roles
    lease_hash = await alice.consumer.request(FORM)
    streams = [await alice.tunnelling.open(lease_hash, None)]
    streams += [await bob.tunnelling.open(lease_hash, None) for _ in range(DEFAULT_LIMITS.per_lease_max - 1)]
    assert bob.tunnels.counts() == {lease_hash: DEFAULT_LIMITS.per_lease_max}
    for roles in (alice, bob):
        with pytest.raises(Unavailable, match="16 tunnels; close one"):
            await roles.tunnelling.open(lease_hash, None)
    assert bob.tunnels.counters == {"opened": DEFAULT_LIMITS.per_lease_max, "refused_busy": 2}
    await streams.pop().aclose()
    streams.append(await bob.tunnelling.open(lease_hash, None))
    assert bob.tunnels.close_lease(lease_hash) == DEFAULT_LIMITS.per_lease_max
    for stream in streams:
        with pytest.raises(PeerFault), trio.fail_after(10):
            await stream.read_exactly(1)
        await stream.reset()
    assert bob.tunnels.counts() == {}
    await close_guests(village)


async def test_a_machine_that_takes_no_connection_holds_no_tunnel(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    bob = village.nodes["bob"].roles
    lease_hash = await village.nodes["alice"].roles.consumer.request(FORM)
    hanging = Tunnelling(
        village.nodes["bob"].store,
        village.genesis,
        key_of("bob"),
        bob.contacts,
        bob.tunnels,
        hang,
        virtual_clock(),
    )
    with pytest.raises(MachineFault, match="does not answer"), trio.fail_after(20):
        await hanging.open(lease_hash, None)
    assert bob.tunnels.counts() == {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ended_meanwhile, hanging, lease_hash)
        await until(lambda: bob.tunnels.counts() == {lease_hash: 1}, 5, "the dial")
        assert bob.tunnels.close_lease(lease_hash) == 1
    assert bob.tunnels.counts() == {}


async def hang(_: Hash) -> trio.SocketStream:
    await trio.sleep_forever()


async def ended_meanwhile(tunnelling: Tunnelling, lease_hash: Hash) -> None:
    with pytest.raises(Ended):
        await tunnelling.open(lease_hash, None)
