"""GossipSub, hardened: nothing that a peer sends ends the service, and nothing is dropped in silence.

Defects of py-libp2p 0.8.1 and their cures here:
- a garbage packet, an undecodable key, a raising validator or message-id function ends `host.run()`:
  `push_msg` is written anew, and what it calls is contained;
- async validators deliver duplicates: judging is synchronous, and the id is marked before anything waits;
- 10 messages a second, own ones included, heartbeat of 120 s, erratic degree: switched off in `HardGossipSub`;
- queues of 32: 1,024 RPCs a peer outwards (`hardening.apply`), and none inwards, for delivery is a call;
- gossip published before the mesh has formed vanishes: own messages go to all subscribers, and wait for
  the first one when there is none;
- the signed peer record is rebuilt and verified anew for every RPC: `RecordCache`.

Found beside these: stock's message cache knows only stock's message ids, so that with any other id every
IHAVE fetches everything again (`ContentCache`); PRUNE and GRAFT of unknown topics fill tables for ever.
"""

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from typing import Final
from weakref import WeakKeyDictionary

import trio
from libp2p.abc import IHost
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.mcache import CacheEntry, MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import signature_validator

log = logging.getLogger(__name__)

PROTOCOL: Final = TProtocol("/meshsub/1.1.0")
HEARTBEAT_SECONDS: Final = 1
DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 4, 12
WINDOW_HEARTBEATS: Final = 3  # of history that is offered by IHAVE
HISTORY_HEARTBEATS: Final = 5
HISTORY_BYTES_MAX: Final = 32 * 1024 * 1024
FLOOD_PEERS_MAX: Final = 32  # subscribers that an own message goes to, beyond the mesh
UNSENT_MAX: Final = 256  # own messages that wait for the first subscriber
UNSENT_SECONDS: Final = 60.0
IHAVE_IDS_MAX: Final = 1000
BACKOFF_SECONDS_MAX: Final = 600
RECORD_SECONDS: Final = 5.0
RECORD_PEERS_MAX: Final = 1024


def message_id(message: rpc_pb2.Message) -> bytes:
    """Hash of topic and data: the same content is delivered once, whoever publishes it.

    The topic is in it, or else data sent first on a wrong topic would be censored on the right one.
    """
    topic = "\0".join(message.topicIDs).encode()
    return sha256(len(topic).to_bytes(4, "big") + topic + message.data).digest()


class Inbox(ABC):
    """Who judges gossip. All methods are synchronous and total."""

    @abstractmethod
    def admit(self, forwarder: ID, topic: str, size: int) -> bool:
        """Whether to look at a message of `size` bytes at all: bans, size, rates."""

    @abstractmethod
    def take(self, forwarder: ID, topic: str, data: bytes, message_id: bytes) -> bool:
        """Judges and delivers a message that is new and well signed; True passes it on."""

    @abstractmethod
    def blame(self, forwarder: ID, reason: str) -> None:
        """`forwarder` passed on what no honest node passes on."""


class GuardedPubsub(Pubsub):
    """Pubsub whose way of a message is one synchronous, contained function."""

    def __init__(self, host: IHost, router: "HardGossipSub", inbox: Inbox, topics: frozenset[str]) -> None:
        super().__init__(host, router, msg_id_constructor=message_id, allowed_topics=topics)
        self._inbox = inbox

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        try:
            fresh = msg_forwarder == self.my_id or self._judge(msg_forwarder, msg)
        except Exception as error:  # noqa: BLE001 -- the peer-message edge: a message costs at most itself
            log.info("a message of %s was dropped: %r", msg_forwarder, error)
            return
        if fresh:
            self.seen_messages.add(message_id(msg))
            await self.router.publish(msg_forwarder, msg)

    def _judge(self, forwarder: ID, msg: rpc_pb2.Message) -> bool:
        if len(msg.topicIDs) != 1 or msg.topicIDs[0] not in self.topic_ids:
            return False
        identity = message_id(msg)
        if self.seen_messages.has(identity) or not self._inbox.admit(forwarder, msg.topicIDs[0], len(msg.data)):
            return False
        if not _is_well_signed(msg):
            self._inbox.blame(forwarder, "bad_gossip_signature")
            return False
        if msg.from_id == self.my_id.to_bytes():
            return False
        return self._inbox.take(forwarder, msg.topicIDs[0], msg.data, identity)


def _is_well_signed(msg: rpc_pb2.Message) -> bool:
    try:
        return signature_validator(msg)
    except Exception:  # noqa: BLE001 -- the peer-message edge: stock lets errors of the key's decoding through
        return False


class ContentCache(MessageCache):
    """The message cache under our ids, with a limit in bytes."""

    def __init__(self) -> None:
        super().__init__(WINDOW_HEARTBEATS, HISTORY_HEARTBEATS)
        self._bytes = 0

    def put(self, msg: rpc_pb2.Message) -> None:
        identity = message_id(msg)
        if identity in self.msgs or self._bytes + len(msg.data) > HISTORY_BYTES_MAX:
            return
        self.msgs[identity] = msg
        self.history[0].append(CacheEntry(identity, msg.topicIDs))
        self._bytes += len(msg.data)

    def shift(self) -> None:
        super().shift()
        self._bytes = sum(len(message.data) for message in self.msgs.values())


class HardGossipSub(GossipSub):
    """The router, with every switch of stock that loses messages off. Scores are our own (`gossip.py`)."""

    def __init__(self) -> None:
        super().__init__(
            protocols=[PROTOCOL],
            degree=DEGREE,
            degree_low=DEGREE_LOW,
            degree_high=DEGREE_HIGH,
            heartbeat_interval=HEARTBEAT_SECONDS,
            spam_protection_enabled=False,
            adaptive_gossip_enabled=False,
            eclipse_protection_enabled=False,
        )
        self.mcache = ContentCache()
        self.scorer = None
        self._unsent: deque[tuple[float, rpc_pb2.Message]] = deque(maxlen=UNSENT_MAX)

    def is_own(self, msg: rpc_pb2.Message) -> bool:
        return self.pubsub is not None and msg.from_id == self.pubsub.my_id.to_bytes()

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        """Passes a judged message on: to the mesh, and an own one to more subscribers than that."""
        self.mcache.put(pubsub_msg)
        targets = self._targets(pubsub_msg) - {msg_forwarder, ID(pubsub_msg.from_id)}
        rpc = rpc_pb2.RPC(publish=[pubsub_msg])
        for peer in targets:
            self.send_rpc(peer, rpc)
        if not targets and self.is_own(pubsub_msg):
            self._unsent.append((trio.current_time() + UNSENT_SECONDS, pubsub_msg))

    def _targets(self, msg: rpc_pb2.Message) -> set[ID]:
        assert self.pubsub is not None
        topic = msg.topicIDs[0]
        queues = self.pubsub.peer_queues
        targets = {peer for peer in self.mesh.get(topic, ()) if peer in queues}
        if self.is_own(msg):
            others = (peer for peer in self.pubsub.peer_topics.get(topic, ()) if peer in queues)
            targets.update(peer for peer, _ in zip(others, range(FLOOD_PEERS_MAX), strict=False))
        return targets

    async def flush_pending_messages(self, peer_id: ID) -> None:
        """Called by pubsub when a peer became writable or subscribed: sends what waited for anybody."""
        if self.pubsub is None or peer_id not in self.pubsub.peer_queues:
            return
        waiting, self._unsent = self._unsent, deque(maxlen=UNSENT_MAX)
        now = trio.current_time()
        for deadline, message in waiting:
            if peer_id in self.pubsub.peer_topics.get(message.topicIDs[0], ()):
                self.send_rpc(peer_id, rpc_pb2.RPC(publish=[message]))
            elif deadline > now:
                self._unsent.append((deadline, message))

    async def heartbeat(self) -> None:
        while True:
            try:
                await super().heartbeat()
            except Exception as error:  # noqa: BLE001 -- the task supervisor: without heartbeat no mesh is kept
                log.warning("a gossip heartbeat failed: %r", error)
            await trio.sleep(HEARTBEAT_SECONDS)

    async def handle_prune(self, prune_msg: rpc_pb2.ControlPrune, sender_peer_id: ID) -> None:
        if prune_msg.topicID in self.mesh:
            prune_msg.backoff = min(prune_msg.backoff, BACKOFF_SECONDS_MAX)
            del prune_msg.peers[:]  # peer exchange is not used
            await super().handle_prune(prune_msg, sender_peer_id)

    async def handle_graft(self, graft_msg: rpc_pb2.ControlGraft, sender_peer_id: ID) -> None:
        if graft_msg.topicID in self.mesh:
            await super().handle_graft(graft_msg, sender_peer_id)

    async def handle_ihave(self, ihave_msg: rpc_pb2.ControlIHave, sender_peer_id: ID) -> None:
        if ihave_msg.topicID in self.mesh:
            del ihave_msg.messageIDs[IHAVE_IDS_MAX:]
            await super().handle_ihave(ihave_msg, sender_peer_id)


class RecordCache:
    """Remembers the own signed peer record for some seconds, and each peer's last verified one."""

    def __init__(
        self,
        make: Callable[[IHost], tuple[bytes, bool]],
        consume: Callable[[rpc_pb2.RPC, IHost, ID], bool],
    ) -> None:
        self._make, self._consume = make, consume
        self._own: WeakKeyDictionary[IHost, tuple[bytes, float]] = WeakKeyDictionary()
        self._seen: WeakKeyDictionary[IHost, dict[ID, bytes]] = WeakKeyDictionary()

    def make(self, host: IHost) -> tuple[bytes, bool]:
        """In place of libp2p's `env_to_send_in_RPC`."""
        now = trio.current_time()
        record, until = self._own.get(host, (b"", 0.0))
        if not record or until < now:
            record = self._make(host)[0]
            self._own[host] = (record, now + RECORD_SECONDS)
        return record, False

    def consume(self, msg: rpc_pb2.RPC, host: IHost, peer_id: ID) -> bool:
        """In place of libp2p's `maybe_consume_signed_record`."""
        seen = self._seen.setdefault(host, {})
        if not msg.HasField("senderRecord") or seen.get(peer_id) == msg.senderRecord:
            return True
        if not self._consume(msg, host, peer_id):
            return False
        if len(seen) >= RECORD_PEERS_MAX:
            seen.clear()
        seen[peer_id] = msg.senderRecord
        return True
