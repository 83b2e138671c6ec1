"""A disk that refuses a write ends the node, wherever the write came from: what is there is known after a restart."""

from pathlib import Path

import pytest
import trio

from tests.sim.fake_leveldb import Disk, Strike, Trap
from tests.support.ledger import NOW, Chain, address_of, make_genesis
from tests.support.memory_network import Internet, open_memory_network
from tests.support.role_node import Village, make_roles, peer_id_of, virtual_clock
from xnode.core.faults import OperatorFault
from xnode.net.tunnel import TunnelLimits
from xnode.roles.running import Settings
from xnode.roles.topics import Topics
from xnode.store.store import Store


async def test_a_refused_write_ends_the_node_though_gossip_goes_on(autojump_clock: object) -> None:
    genesis, disk, clock, topics = make_genesis(), Disk(), virtual_clock(), Topics()
    with Store.open(Path("unused"), genesis, engine=disk.open) as store:
        async with open_memory_network(Internet(), peer_id_of("carol"), topics.table(), clock) as network:
            roles = make_roles("carol", store, topics, network, clock, Settings(False, None, TunnelLimits()))
            with store.snapshot() as view:
                block = Chain(genesis, "alice").send(view, address_of("bob"), 1, timestamp=NOW)

            async def hear() -> None:
                """As the edge of gossip: what goes wrong costs the message only."""
                await trio.sleep(5)
                disk.trap = Trap(Strike.FAIL_LOST, disk.writes + 1)
                with pytest.raises(OperatorFault):
                    roles.replica.take(block)

            async def live() -> None:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(hear)
                    nursery.start_soon(roles.run)

            with pytest.raises(ExceptionGroup) as caught:
                await live()
            assert caught.group_contains(OperatorFault, match="restart")
            assert trio.current_time() < 5.01


async def test_who_greets_a_node_that_has_ended_does_no_harm(village: Village, autojump_clock: object) -> None:
    """Seed 708: the network is closed after the roles, and a peer came in between."""
    alice = await village.start("alice")
    await trio.sleep(3)
    await village.crash("alice")
    for greet in alice.roles._outside.handshake._callbacks:
        greet(peer_id_of("bob"))
