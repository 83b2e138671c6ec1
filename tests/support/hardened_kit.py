"""The hardened way to make a libp2p host; importing this does not patch the library, making a host does."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from tests.support.libp2p_kit import DEFAULT_LIMITS, LOOPBACK, TOPIC, GossipNode, Kit, Limits, Validator, key_pair
from xnode.net import dialer, gossip_guard
from xnode.net.dialer import Dialer
from xnode.net.gossip_guard import GuardedPubsub, HardGossipSub, Inbox
from xnode.net.hardening import HostLimits, close_host, hardened_host, swarm_of
from xnode.net.hardening_service import running_service
from xnode.net.mdns import run_mdns
from xnode.net.peer_stream import PeerStream


class ListInbox(Inbox):
    """Takes what the validator takes, and keeps it."""

    def __init__(self, validate: Validator | None) -> None:
        self.received: list[bytes] = []
        self.blamed: list[str] = []
        self._validate = validate

    def admit(self, forwarder: ID, topic: str, size: int) -> bool:
        return True

    def take(self, forwarder: ID, topic: str, data: bytes, message_id: bytes) -> bool:
        if self._validate is not None and not self._validate(data):
            return False
        self.received.append(data)
        return True

    def blame(self, forwarder: ID, reason: str) -> None:
        self.blamed.append(reason)


class HardenedKit(Kit):
    """The library under our layer."""

    hardened = True

    def host(self, number: int, limits: Limits = DEFAULT_LIMITS) -> BasicHost:
        ours = HostLimits(limits.connections, limits.inbound, max(1, limits.streams // 2))
        return hardened_host(key_pair(number), ours, lambda _: True)

    def default_host(self, number: int) -> BasicHost:
        return self.host(number)

    async def write(self, stream: Any, data: bytes) -> None:
        await PeerStream(stream).write(data)

    @asynccontextmanager
    async def running(self, *hosts: BasicHost) -> AsyncIterator[None]:
        async with super().running(*hosts):
            try:
                yield
            finally:
                for host in hosts:
                    await close_host(host, 1)

    @asynccontextmanager
    async def gossip(
        self, number: int, validate: Validator | None = None, message_id: Callable[[Any], bytes] | None = None
    ) -> AsyncIterator[GossipNode]:
        host = self.host(number)
        router = HardGossipSub()
        inbox = ListInbox(validate)
        pubsub = GuardedPubsub(host, router, inbox, frozenset({TOPIC}))
        with pytest.MonkeyPatch.context() as patch:
            if message_id is not None:
                patch.setattr(gossip_guard, "message_id", message_id)
            async with host.run([LOOPBACK]), running_service(router), running_service(pubsub):
                await pubsub.wait_until_ready()
                await pubsub.subscribe(TOPIC)
                try:
                    yield GossipNode(host, pubsub, router, inbox.received)
                finally:
                    await close_host(host, 1)
                    pubsub.seen_messages.stop()

    async def dial(self, host: BasicHost, peer: ID, address: Multiaddr) -> None:
        async with trio.open_nursery() as nursery:
            await Dialer(swarm_of(host), os.urandom, nursery).dial(peer, [address])

    async def keep_dialling(self, host: BasicHost, peer: ID, address: Multiaddr, quickly: bool) -> None:
        with pytest.MonkeyPatch.context() as patch:
            if quickly:
                patch.setattr(dialer, "BACKOFF_FIRST_SECONDS", 0.1)
                patch.setattr(dialer, "BACKOFF_MAX_SECONDS", 0.1)
            async with trio.open_nursery() as nursery:
                Dialer(swarm_of(host), os.urandom, nursery).keep(peer, address)
                await trio.sleep_forever()

    @asynccontextmanager
    async def mdns(self, number: int) -> AsyncIterator[None]:
        host = self.host(number)
        async with self.running(host):
            own = host.get_transport_addrs()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_mdns, "net", str(host.get_id()), own, lambda peer, addresses: None)
                yield
                nursery.cancel_scope.cancel()
