"""Probes of gossip: each is true when the library is well, false when the defect shows."""

from contextlib import AsyncExitStack, suppress
from hashlib import sha256
from typing import Any

import trio
from libp2p.peer import envelope, peerstore
from libp2p.peer.id import ID
from libp2p.pubsub import pubsub as pubsub_module
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from libp2p.utils import encode_varint_prefixed

from tests.support.libp2p_kit import TOPIC, GossipNode, Kit, StockKit, connect, key_pair, open_stream, until
from tests.support.probes_streams import is_alive

GARBAGE_RPC = encode_varint_prefixed(b"\xff\xff\xff\x07garbage")
RPCS = 50


def signed_rpc(data: bytes, author: int = 2) -> bytes:
    """An RPC with one message that host `author` signed."""
    pair = key_pair(author)
    message = rpc_pb2.Message(
        data=data, topicIDs=[TOPIC], from_id=_peer_bytes(pair.public_key), seqno=(1).to_bytes(8, "big")
    )
    signature = pair.private_key.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
    message.signature, message.key = signature, pair.public_key.serialize()
    return encode_varint_prefixed(rpc_pb2.RPC(publish=[message]).SerializeToString())


def _peer_bytes(public_key: Any) -> bytes:
    return ID.from_pubkey(public_key).to_bytes()


def undecodable_key_rpc() -> bytes:
    """An RPC with a message whose key field is no key, and whose author's key is not in its id."""
    message = rpc_pb2.Message(
        data=b"x", topicIDs=[TOPIC], from_id=b"\x12\x20" + bytes(32), seqno=bytes(8), signature=bytes(64), key=b"\xff"
    )
    return encode_varint_prefixed(rpc_pb2.RPC(publish=[message]).SerializeToString())


async def _survives(kit: Kit, packet: bytes, **settings: Any) -> bool:
    """Whether a gossip node is alive after a peer has sent it the packet."""
    attacker = kit.host(2)
    async with kit.running(attacker):
        try:
            async with kit.gossip(1, **settings) as node:
                await connect(attacker, node.host)
                stream = await open_stream(attacker, node.host.get_id(), "/meshsub/1.1.0")
                await stream.write(packet)
                await trio.sleep(0.3)
                return await is_alive(attacker, node.host) and await _hears(kit, node)
        except Exception:  # noqa: BLE001 -- a sick library raises anything, groups too
            return False


async def _hears(kit: Kit, node: GossipNode) -> bool:
    async with kit.gossip(3) as friend:
        await connect(friend.host, node.host)
        await until(lambda: node.host.get_id() in friend.pubsub.peer_topics.get(TOPIC, ()), 3)
        await trio.sleep(0.1)
        await friend.pubsub.publish(TOPIC, b"still there?")
        return await until(lambda: b"still there?" in node.received, 3)


def _raise_on_evil(data: bytes) -> bool:
    if data == b"evil":
        raise RuntimeError("a bug in a validator")
    return True


def _raising_message_id(message: Any) -> bytes:
    if message.data == b"evil":
        raise RuntimeError("a bug in a message-id function")
    return sha256(message.data).digest()


async def garbage_packet_is_harmless(kit: Kit) -> bool:
    """A packet that is no protobuf costs its stream."""
    return await _survives(kit, GARBAGE_RPC)


async def undecodable_key_is_harmless(kit: Kit) -> bool:
    """A message with an undecodable key is dropped."""
    return await _survives(kit, undecodable_key_rpc())


async def validator_may_raise(kit: Kit) -> bool:
    """An exception in a validator drops the message."""
    return await _survives(kit, signed_rpc(b"evil"), validate=_raise_on_evil)


async def message_id_may_raise(kit: Kit) -> bool:
    """An exception in the message-id function drops the message."""
    return await _survives(kit, signed_rpc(b"evil"), message_id=_raising_message_id)


async def _subscribed(*nodes: GossipNode) -> None:
    """Until all of these, which are connected each to each, are in each other's mesh."""
    for node in nodes:
        others = [other.host.get_id() for other in nodes if other is not node]
        await until(lambda n=node, o=others: all(x in n.router.mesh.get(TOPIC, ()) for x in o), 5)  # type: ignore[misc]


async def burst_arrives(kit: Kit) -> bool:
    """Two hundred messages at once all arrive, with the filter on own messages off: the queues hold them."""
    if isinstance(kit, StockKit):
        kit = StockKit(spam_protection_enabled=False, heartbeat_interval=1)
    async with kit.gossip(1) as a, kit.gossip(2) as b:
        await connect(a.host, b.host)
        await _subscribed(a, b)
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(a.pubsub.publish, TOPIC, b"%d" % number)
        return await until(lambda: len(b.received) == 200, 4)


async def rate_of_own_messages_is_free(kit: Kit) -> bool:
    """Forty messages in a second all arrive."""
    async with kit.gossip(1) as a, kit.gossip(2) as b:
        await connect(a.host, b.host)
        await _subscribed(a, b)
        for number in range(40):
            await a.pubsub.publish(TOPIC, b"%d" % number)
            await trio.sleep(0.02)
        return await until(lambda: len(b.received) == 40, 3)


async def mesh_is_kept(kit: Kit) -> bool:
    """A mesh that has come apart is mended within seconds."""
    async with kit.gossip(1) as a, kit.gossip(2) as b:
        await connect(a.host, b.host)
        await _subscribed(a, b)
        await trio.sleep(1)  # past stock's first heartbeat; its next one is two minutes later
        for one, other in ((a, b), (b, a)):
            one.router.mesh[TOPIC].discard(other.host.get_id())
        return await until(lambda: bool(a.router.mesh[TOPIC] and b.router.mesh[TOPIC]), 3)


async def degree_is_steady(kit: Kit) -> bool:
    """The number of mesh peers does not change by itself."""
    async with kit.gossip(1) as node:
        await trio.sleep(0.3)
        router = node.router
        router.last_health_update -= 3600  # stock looks at it every half minute
        if router.adaptive_gossip_enabled:
            router._update_network_health()
            router._adapt_gossip_parameters()
            return (router.adaptive_degree_low, router.adaptive_degree_high) == (4, 12)
        return True


async def nothing_comes_twice(kit: Kit) -> bool:
    """In a diamond with a validator at the far end, each message is delivered once."""
    if isinstance(kit, StockKit):
        kit = StockKit(is_async=True, spam_protection_enabled=False, heartbeat_interval=1)
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(kit.gossip(number, lambda _: True)) for number in range(1, 5)]
        for a, b in ((1, 0), (2, 0), (3, 1), (3, 2)):
            await connect(nodes[a].host, nodes[b].host)
        await until(lambda: all(len(node.router.mesh[TOPIC]) == 2 for node in nodes), 5)
        for number in range(10):
            await nodes[0].pubsub.publish(TOPIC, b"%d" % number)
            await trio.sleep(0.05)
        await until(lambda: len(set(nodes[3].received)) == 10, 5)
        await trio.sleep(0.5)
        return len(nodes[3].received) == len(set(nodes[3].received)) == 10


async def early_gossip_is_kept(kit: Kit) -> bool:
    """What is published long before the first subscriber comes reaches it; stock keeps five heartbeats at most."""
    async with kit.gossip(1) as early, kit.gossip(2) as late:
        await early.pubsub.publish(TOPIC, b"early")
        for _ in range(10):
            early.router.mcache.shift()
        await connect(late.host, early.host)
        return await until(lambda: late.received == [b"early"], 3)


async def record_is_cached(kit: Kit) -> bool:
    """The signed peer record is not made anew, nor verified anew, for every RPC."""
    made = verified = 0
    real_make, real_verify = peerstore.Envelope.marshal_envelope, envelope.Envelope.validate

    def make(self: Any) -> bytes:
        nonlocal made
        made += 1
        return real_make(self)

    def verify(self: Any, domain: str) -> Any:
        nonlocal verified
        verified += 1
        return real_verify(self, domain)

    async with kit.gossip(1) as a, kit.gossip(2) as b:
        record, _ = pubsub_module.env_to_send_in_RPC(a.host)
        rpc = rpc_pb2.RPC(senderRecord=record)
        try:
            peerstore.Envelope.marshal_envelope, envelope.Envelope.validate = make, verify
            for _ in range(RPCS):
                pubsub_module.env_to_send_in_RPC(a.host)
                pubsub_module.maybe_consume_signed_record(rpc, b.host, a.host.get_id())
        finally:
            peerstore.Envelope.marshal_envelope, envelope.Envelope.validate = real_make, real_verify
    return made <= 2 and verified <= 2


async def known_messages_are_not_fetched_again(kit: Kit) -> bool:
    """With ids of our own, an IHAVE of a message that is known asks for nothing."""
    if isinstance(kit, StockKit):
        kit = StockKit(spam_protection_enabled=False, heartbeat_interval=1)
    identity = None if kit.hardened else (lambda message: sha256(message.data).digest())
    async with kit.gossip(1, message_id=identity) as a, kit.gossip(2, message_id=identity) as b:
        await connect(a.host, b.host)
        await _subscribed(a, b)
        await a.pubsub.publish(TOPIC, b"known")
        await until(lambda: b"known" in b.received, 3)
        asked: list[Any] = []
        b.router.emit_iwant = lambda ids, peer: _note(asked, ids)
        ids = list(a.router.mcache.window(TOPIC))
        ihave = rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=ids)
        with suppress(Exception):
            await b.router.handle_ihave(ihave, a.host.get_id())
        return len(ids) == 1 and not asked


async def _note(asked: list[Any], ids: Any) -> None:
    asked.append(ids)


PROBES = {
    probe.__name__: probe
    for probe in (
        garbage_packet_is_harmless,
        undecodable_key_is_harmless,
        validator_may_raise,
        message_id_may_raise,
        burst_arrives,
        rate_of_own_messages_is_free,
        mesh_is_kept,
        degree_is_steady,
        nothing_comes_twice,
        early_gossip_is_kept,
        record_is_cached,
        known_messages_are_not_fetched_again,
    )
}
