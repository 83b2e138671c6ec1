"""From a consumer's node to its machine: who may, who may not, and how it ends (protocol section 12)."""

import pytest
import trio

from tests.support.ledger import key_of
from tests.support.role_node import FORM, ROOMY, Village, until, virtual_clock
from xnode.core.faults import Ended, NotAllowed, NotFound, PeerFault
from xnode.core.tunnel import access_message
from xnode.core.values import Hash
from xnode.net.streams import Stream

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
