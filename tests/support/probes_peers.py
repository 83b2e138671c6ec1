"""Probes of peers coming and going: each is true when the library is well, false when the defect shows."""

import socket
from contextlib import suppress
from typing import Any

import libp2p
import trio
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from multiaddr import Multiaddr

from tests.support.libp2p_kit import Kit, Limits, connect, info, key_pair, open_stream, port_of, until

SILENCE_SECONDS = 20.0
LOOP_STALL_SECONDS = 0.75


class _BorrowedKey:
    """The attacker's private key under the victim's public key."""

    def __init__(self, private_key: Any, public_key: Any) -> None:
        self._private_key, self._public_key = private_key, public_key

    def get_public_key(self) -> Any:
        """The victim's."""
        return self._public_key

    def __getattr__(self, name: str) -> Any:
        return getattr(self._private_key, name)


async def ids_can_not_be_forged(kit: Kit) -> bool:
    """A dialler that offers only /plaintext does not pass for somebody else."""
    victim, attacker = key_pair(77), key_pair(66)
    transport = InsecureTransport(attacker, peerstore=None)
    transport.local_peer = ID.from_pubkey(victim.public_key)
    transport.local_private_key = _BorrowedKey(attacker.private_key, victim.public_key)  # type: ignore[assignment]
    evil = libp2p.new_host(key_pair=attacker, sec_opt={TProtocol(PLAINTEXT_PROTOCOL_ID): transport})
    node = kit.default_host(1)
    assert isinstance(evil, BasicHost)
    async with kit.running(node), kit.running(evil):
        with trio.move_on_after(4), suppress(Exception):
            await evil.connect(info(node))
            await trio.sleep(0.2)
        return transport.local_peer not in node.get_connected_peers()


async def inbound_slots_come_back(kit: Kit) -> bool:
    """With five slots, eight peers can come one after another."""
    node = kit.host(1, Limits(connections=6, inbound=5))
    came = 0
    async with kit.running(node):
        for number in range(10, 18):
            guest = kit.host(number)
            async with kit.running(guest):
                with trio.move_on_after(2), suppress(Exception):
                    await connect(guest, node)
                    came += await until(lambda g=guest: g.get_id() in node.get_connected_peers(), 1)  # type: ignore[misc]
                    await guest.disconnect(node.get_id())
                await until(lambda: not node.get_connected_peers(), 1)
    return came == 8


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def failed_dial_blocks_nobody(kit: Kit) -> bool:
    """A peer that was down can be dialled as soon as it is up."""
    node, late = kit.host(1), kit.host(2)
    address = Multiaddr(f"/ip4/127.0.0.1/tcp/{free_port()}")
    async with kit.running(node):
        with trio.fail_after(8), suppress(Exception):
            await kit.dial(node, late.get_id(), address)
        async with late.run([address]):
            with trio.move_on_after(4), suppress(Exception):
                await kit.dial(node, late.get_id(), address)
            well = late.get_id() in node.get_connected_peers()
            await late.close()
    return well


async def configured_peer_is_not_forgotten(kit: Kit) -> bool:
    """A configured peer that was down for many tries is connected when it is up."""
    node, late = kit.host(1), kit.host(2)
    address = Multiaddr(f"/ip4/127.0.0.1/tcp/{free_port()}")
    async with kit.running(node), trio.open_nursery() as nursery:
        nursery.start_soon(kit.keep_dialling, node, late.get_id(), address, True)
        await trio.sleep(3.0)
        async with late.run([address]):
            network: Any = node.get_network()
            network.unblock_peer(late.get_id())  # that is another defect
            well = await until(lambda: late.get_id() in node.get_connected_peers(), 2)
            nursery.cancel_scope.cancel()
            await late.close()
    return well


async def silent_peer_is_dropped(kit: Kit, seconds: float = SILENCE_SECONDS) -> bool:
    """A peer whose link is dead, without a word of TCP, is noticed."""
    node, other = kit.host(1), kit.host(2)
    dead = trio.Event()

    async def pipe(source: trio.SocketStream, target: trio.SocketStream) -> None:
        async for data in source:
            if dead.is_set():
                await trio.sleep_forever()
            await target.send_all(data)

    async with kit.running(node, other), trio.open_nursery() as nursery:

        async def proxy(near: trio.SocketStream) -> None:
            async with await trio.open_tcp_stream("127.0.0.1", port_of(other)) as far, trio.open_nursery() as both:
                both.start_soon(pipe, near, far)
                both.start_soon(pipe, far, near)

        listeners: Any = await nursery.start(trio.serve_tcp, proxy, 0)
        port = listeners[0].socket.getsockname()[1]
        await node.connect(PeerInfo(other.get_id(), [Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")]))
        await trio.sleep(0.2)
        dead.set()
        dropped = await until(lambda: not node.get_connected_peers(), seconds)
        nursery.cancel_scope.cancel()
    return dropped


async def leaving_closes_dialled_sockets(kit: Kit) -> bool:
    """When a host's `run` has been left, the peers that it dialled know."""
    node, gone = kit.host(1), kit.host(2)
    async with kit.running(node):
        with trio.CancelScope() as scope:
            async with kit.running(gone):
                await connect(gone, node)
                await until(lambda: bool(node.get_connected_peers()), 5)
                await trio.sleep(0.3)
                scope.cancel()
                await trio.sleep_forever()
        well = await until(lambda: not node.get_connected_peers(), 2)
        for connection in gone.get_network().get_connections():
            await connection.muxed_conn.close()
    return well


async def mdns_leaves_the_loop_alone(kit: Kit) -> bool:
    """Starting mDNS does not stop everything else."""
    worst = 0.0

    async def tick() -> None:
        nonlocal worst
        while True:
            before = trio.current_time()
            await trio.sleep(0.01)
            worst = max(worst, trio.current_time() - before)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        await trio.sleep(0.1)
        async with kit.mdns(1):
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    return worst < LOOP_STALL_SECONDS


ALONE = {"mdns_leaves_the_loop_alone": mdns_leaves_the_loop_alone}  # it stops the loop of all others
PROBES = {
    probe.__name__: probe
    for probe in (
        ids_can_not_be_forged,
        inbound_slots_come_back,
        failed_dial_blocks_nobody,
        configured_peer_is_not_forgotten,
        silent_peer_is_dropped,
        leaving_closes_dialled_sockets,
    )
} | ALONE
__all__ = ["ALONE", "PROBES", "open_stream"]
