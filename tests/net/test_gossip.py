"""The judge of gossip: bans, scores and rates on a clock of its own, without a network."""

from collections import Counter

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2

from tests.support.nodes import listening_topic
from xnode.core.values import NS
from xnode.net.gossip import BAN_SECONDS, BANS_MAX, DATA_BYTES_MAX, Bans, GossipJudge, Leaky
from xnode.net.gossip_guard import HISTORY_BYTES_MAX, ContentCache, message_id
from xnode.net.streams import PeerId

ALICE, BOB = (ID.from_pubkey(create_new_key_pair(bytes([n]) * 32).public_key) for n in (1, 2))


class Bench:
    """A judge, its clock, and whom it banned."""

    def __init__(self, rate: float = 1000, burst: int = 1000) -> None:
        self.now = NS
        self.received: list[bytes] = []
        self.banned: list[tuple[str, float, str]] = []
        self.counters: Counter[str] = Counter()
        self.bans = Bans(lambda: self.now)
        topics = {"t": listening_topic(self.received, rate, burst)}
        self.judge = GossipJudge(topics, lambda: self.now, self.bans, self._ban, self.counters)

    def _ban(self, peer: PeerId, seconds: float, reason: str) -> None:
        self.banned.append((peer, seconds, reason))

    def take(self, data: bytes, peer: ID = ALICE) -> bool:
        return self.judge.admit(peer, "t", len(data)) and self.judge.take(peer, "t", data, data)


def test_verdicts_decide_what_is_delivered_and_passed_on() -> None:
    bench = Bench()
    assert [bench.take(data) for data in (b"good", b"odd", b"bad")] == [True, False, False]
    assert bench.received == [b"good"]


def test_five_rejects_are_a_ban() -> None:
    bench = Bench()
    for number in range(4):
        bench.take(b"bad %d" % number)
    assert not bench.banned
    bench.take(b"bad 4")
    assert bench.banned == [(str(ALICE), BAN_SECONDS, "bad_data")]


def test_rejects_are_forgiven_with_time() -> None:
    bench = Bench()
    for number in range(20):
        bench.take(b"bad %d" % number)
        bench.now += 30 * NS
    assert not bench.banned


def test_each_peer_has_its_own_score() -> None:
    bench = Bench()
    for number in range(4):
        bench.take(b"bad %d" % number, ALICE)
        bench.take(b"bad %d" % number, BOB)
    assert not bench.banned
    assert bench.counters["gossip_reject"] == 4  # the second copy is known to be bad


def test_too_much_data_and_bad_signatures_are_rejects() -> None:
    bench = Bench()
    for _ in range(4):
        assert not bench.judge.admit(ALICE, "t", DATA_BYTES_MAX + 1)
    bench.judge.blame(ALICE, "bad_gossip_signature")
    assert [reason for _, _, reason in bench.banned] == ["bad_gossip_signature"]


def test_ignored_gossip_costs_nothing() -> None:
    bench = Bench()
    for number in range(100):
        bench.take(b"odd %d" % number)
    assert not bench.banned


def test_rates_are_per_peer_and_refill() -> None:
    bench = Bench(rate=2, burst=3)
    assert [bench.take(b"%d" % n) for n in range(5)] == [True, True, True, False, False]
    assert bench.take(b"from bob", BOB)
    bench.now += NS
    assert [bench.take(b"later %d" % n) for n in range(3)] == [True, True, False]
    assert bench.counters["gossip_over_rate"] == 3


def test_a_banned_peer_is_not_heard_until_the_ban_ends() -> None:
    bench = Bench()
    bench.bans.add(str(ALICE), 10)
    assert not bench.take(b"x")
    bench.now += 10 * NS
    assert bench.take(b"x")


def test_a_shorter_ban_does_not_shorten_a_longer_one() -> None:
    bench = Bench()
    bench.bans.add("peer", 100)
    bench.bans.add("peer", 1)
    bench.now += 50 * NS
    assert "peer" in bench.bans


def test_bans_are_bounded_and_drop_what_ends_first() -> None:
    bench = Bench()
    bench.bans.add("short", 1)
    for number in range(BANS_MAX):
        bench.bans.add(f"peer {number}", 100)
    assert "short" not in bench.bans
    assert "peer 0" in bench.bans


def test_levels_are_bounded_and_drop_the_longest_untouched() -> None:
    levels = Leaky(lambda: NS, 2)
    for key in ("a", "b", "a", "c"):
        levels.add((key,), 0, 1)
    assert [levels.level((key,), 0) for key in "abc"] == [2, 0, 1]


@pytest.mark.parametrize(("topic", "data"), [("u", b"data"), ("tda", b"ta"), ("t", b"datb")])
def test_message_ids_tell_topic_and_data_apart(topic: str, data: bytes) -> None:
    other = rpc_pb2.Message(topicIDs=[topic], data=data)
    message = rpc_pb2.Message(topicIDs=["t"], data=b"data", from_id=b"1", seqno=b"2")
    assert message_id(message) == message_id(rpc_pb2.Message(topicIDs=["t"], data=b"data"))
    assert message_id(message) != message_id(other)


def test_history_is_bounded_in_bytes_and_time() -> None:
    cache = ContentCache()
    size = HISTORY_BYTES_MAX // 4
    messages = [rpc_pb2.Message(topicIDs=["t"], data=bytes([n]) * size) for n in range(5)]
    for message in messages:
        cache.put(message)
    assert cache.window("t") == [message_id(message) for message in messages[:4]]
    for _ in range(10):
        cache.shift()
    cache.put(messages[4])
    assert cache.get(message_id(messages[4])) == messages[4]
    assert len(cache.msgs) == 1
