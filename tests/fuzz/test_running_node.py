"""Random bytes at every door of a node process: it stays up, says nothing of a crash, and goes on working.

The bytes come from a seed, which stands in each test's name; XNODE_FUZZ_SEED in the environment gives another one.
"""

import os
import random
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import psutil
import pytest
import trio
from libp2p.io.exceptions import IOException

from tests.support.devnet import http, wait_until
from tests.support.sending import hash_of, send_block
from xnode.core.blocks import block_to_json, encode_block
from xnode.core.codec import encode
from xnode.core.faults import PeerFault
from xnode.net import rpc, sync, tunnel
from xnode.net.gossip_guard import PROTOCOL as MESHSUB
from xnode.net.handshake import Handshake, Hello
from xnode.net.hardening import swarm_of
from xnode.net.network import Judged, NetSettings, Network, Topic, Verdict, open_network
from xnode.net.streams import PeerId
from xnode.roles.contacts import DIRECTORY_TOPIC
from xnode.roles.market_board import MARKET_TOPIC
from xnode.roles.replica import BLOCKS_TOPIC
from xnode_cmd.devnet_network import Devnet

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("XNODE_FUZZ_SEED", "20240302"))
NODE = "provider1"  # it serves every protocol
CONNECTIONS = 150  # a port
STREAMS = 24  # a protocol and kind of peer
STREAMS_PER_PEER = 8  # then another identity comes, since this one may be banned
ROUNDS = 4  # of gossip, each by another identity
MESSAGES = 8  # a topic and round
SECONDS_MAX = 40.0  # for one test's throwing
MESH_SECONDS = 1.5
ANSWER_SECONDS = 0.3  # how long what comes back is read
NOISE_BYTES_MAX = 2000
AT_ONCE = 5
TALK_SECONDS = 10.0
CALM_SECONDS = 30.0
MEMORY_GROWTH_MAX = 150 * 2**20
PING = "/ipfs/ping/1.0.0"
PROTOCOLS = (
    rpc.PROTOCOL,
    sync.PROTOCOL,
    tunnel.PROTOCOL,
    str(MESHSUB),
    "/ipfs/id/1.0.0",
    PING,
)
METHODS = ("hello", "attest", "lease_progress", "lease_withdraw", "machine", "", "no_such_method")
TOPICS = (BLOCKS_TOPIC, MARKET_TOPIC, DIRECTORY_TOPIC)
HTTP_PIECES = (
    b"GET /leases HTTP/1.1\r\n",
    b"POST /lease/request HTTP/1.1\r\n",
    b"POST /tunnel/" + b"ab" * 32 + b"/tcp HTTP/1.1\r\n",
    b"Host: localhost\r\n",
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n",
    b"Content-Type: application/json\r\n",
    b"Content-Length: 12\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n",
    b'{"vcpus": 1}',
    b"\x00",
)
PEER_PIECES = (b"\x13/multistream/1.0.0\n", b"\x07/noise\n", b"\x0d/yamux/1.0.0\n", b"\x00\x20", b"\xff\xff\x7f")


@pytest.fixture(params=[SEED], ids="seed {}".format)
def dice(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


def noise(dice: random.Random, pieces: tuple[bytes, ...] = ()) -> bytes:
    """Random bytes, mostly few, with some that make sense in front of them."""
    parts = [dice.choice(pieces) for _ in range(dice.randrange(6))] if pieces else []
    return b"".join(parts) + dice.randbytes(min(dice.randrange(NOISE_BYTES_MAX) for _ in range(2)))


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def record(dice: random.Random) -> bytes:
    """A well-formed request of nonsense."""
    args = tuple(dice.choice((dice.randbytes(32), dice.randrange(2**64), "x" * dice.randrange(80), ())) for _ in "abc")
    return encode((dice.choice(METHODS), args[: dice.randrange(4)]))


def conversation(dice: random.Random) -> bytes:
    """What one stream is sent."""
    kind = dice.randrange(4)
    if kind == 0:
        return noise(dice)
    return framed(noise(dice)) if kind == 1 else framed(record(dice)) + (noise(dice) if kind == 2 else b"")


def bent(dice: random.Random, good: bytes) -> bytes:
    """Noise, or a good message with something wrong."""
    kind = dice.randrange(3)
    at = dice.randrange(len(good))
    if kind == 0:
        return noise(dice) or b"x"
    return (
        good[:at] + noise(dice)
        if kind == 1
        else good[:at] + bytes([good[at] ^ 1 << dice.randrange(8)]) + good[at + 1 :]
    )


@contextmanager
def unharmed(network: Devnet) -> Iterator[None]:
    """Holds that what happens in the block does the node no harm."""
    pid = network.process(NODE).pid()
    assert pid is not None
    process = psutil.Process(pid)
    before = process.memory_info().rss
    yield
    assert network.process(NODE).pid() == pid
    with http(network, NODE) as client:
        assert client.get("/health").json() == {"status": "alive"}
        wait_until(lambda: client.get("/ready").status_code == 200, CALM_SECONDS, "the node is ready")
        assert client.get("/node").json()["peer_count"] >= 4
        block = send_block(network, NODE)
        answer = client.post("/blocks", json=block_to_json(block))
        assert answer.status_code == 200, answer.text
    network.wait_for_block(hash_of(network, block))
    assert process.memory_info().rss - before < MEMORY_GROWTH_MAX
    log = network.process(NODE).data_dir.log.read_text()
    assert "Traceback" not in log
    assert " ERROR " not in log


def figure(network: Devnet, name: str) -> int:
    """One of the node's counters."""
    with http(network, NODE) as client:
        lines = dict(line.split() for line in client.get("/metrics").text.splitlines())
    return int(lines.get(f"xnode_{name}", 0))


async def throw(port: int, data: bytes, how: float, thrown: Counter[str]) -> None:
    """One connection: `how` it ends differs."""
    with suppress(OSError, trio.BrokenResourceError):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(data)
            thrown["sent"] += 1
            if how < 0.3:
                await stream.send_eof()
            with trio.move_on_after(ANSWER_SECONDS if how < 0.8 else 0):
                while await stream.receive_some():
                    pass


async def throw_many(port: int, pieces: tuple[bytes, ...], dice: random.Random) -> int:
    thrown = Counter[str]()
    with trio.move_on_after(SECONDS_MAX):
        for _ in range(CONNECTIONS // AT_ONCE):
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(throw, port, noise(dice, pieces), dice.random(), thrown)
    return thrown["sent"]


def test_noise_at_the_http_port(devnet: Devnet, dice: random.Random) -> None:
    with unharmed(devnet):
        assert trio.run(throw_many, devnet.member(NODE).api_port, HTTP_PIECES, dice) > CONNECTIONS // 2


def test_noise_at_the_peer_port(devnet: Devnet, dice: random.Random) -> None:
    with unharmed(devnet):
        assert trio.run(throw_many, devnet.member(NODE).peer_port, PEER_PIECES, dice) > CONNECTIONS // 2


@asynccontextmanager
async def peer(network: Devnet, seed: bytes, with_hello: bool) -> AsyncIterator[Network]:
    """A proper libp2p peer of the node, of our own hardened make; without hello it is a stranger."""
    everything = Topic(lambda _peer, data: Judged(Verdict.ACCEPT, data, ""), lambda _peer, _value: None, 1e6, 10**6)
    settings = NetSettings(listen=("/ip4/127.0.0.1/tcp/0",))
    genesis = network.process(NODE).data_dir.load_genesis()
    member = network.member(NODE)
    topics = dict.fromkeys(TOPICS, everything)
    async with open_network(settings, seed, topics, time.time_ns, os.urandom) as host, trio.open_nursery() as nursery:
        if with_hello:
            handshake = Handshake(host, rpc.Rpc(host), Hello(genesis.network_id, genesis.genesis_hash, "fuzz"))
            nursery.start_soon(handshake.run)
            await handshake.ensure(PeerId(member.peer_id), [member.address])
        yield host
        nursery.cancel_scope.cancel()


async def talk(host: Network, network: Devnet, protocol: str, dice: random.Random, opened: Counter[str]) -> None:
    """Opens a stream, sends nonsense, and ends in one of several ways."""
    member, data = network.member(NODE), conversation(dice)
    half_close, reset = dice.random() < 0.5, dice.random() < 0.5
    with suppress(PeerFault), trio.move_on_after(TALK_SECONDS):  # it may have banned us or cut us off
        stream = await host.open_stream(PeerId(member.peer_id), protocol, [member.address])
        opened["streams"] += 1
        await stream.write(data)
        if half_close:
            await stream.close_write()
        with trio.move_on_after(ANSWER_SECONDS):
            while await stream.read(65536):
                pass
        await (stream.reset() if reset else stream.aclose())


async def talk_much(network: Devnet, protocol: str, with_hello: bool, dice: random.Random) -> int:
    """How many streams of the protocol were opened and sent nonsense."""
    opened = Counter[str]()
    with trio.move_on_after(SECONDS_MAX):
        for _ in range(STREAMS // STREAMS_PER_PEER):
            async with peer(network, dice.randbytes(32), with_hello) as host, trio.open_nursery() as nursery:
                for _ in range(STREAMS_PER_PEER):
                    nursery.start_soon(talk, host, network, protocol, dice, opened)
    return opened["streams"]


@pytest.mark.parametrize("with_hello", [False, True], ids=["stranger", "peer"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_noise_on_a_stream(devnet: Devnet, dice: random.Random, protocol: str, with_hello: bool) -> None:
    with unharmed(devnet):
        assert trio.run(talk_much, devnet, protocol, with_hello, dice) > STREAMS // 2


def muxer_frames(dice: random.Random) -> bytes:
    """Yamux headers of nonsense with bodies that mostly don't fit, then noise."""
    frames = b""
    for _ in range(dice.randrange(6)):
        body = noise(dice)
        length = len(body) if dice.random() < 0.5 else dice.randrange(2**32)
        head = (
            dice.choice((0, 0, 0, 1)),
            dice.randrange(5),
            dice.randrange(16),
            dice.randrange(2 ** dice.randrange(33)),
        )
        frames += struct.pack(">BBHII", *head, length) + body
    return frames + noise(dice)


async def break_muxers(network: Devnet, dice: random.Random) -> int:
    """How many well-secured connections were fed with nonsense below their streams."""
    fed, member = 0, network.member(NODE)
    with trio.move_on_after(SECONDS_MAX):
        for _ in range(CONNECTIONS // STREAMS_PER_PEER):
            async with peer(network, dice.randbytes(32), dice.random() < 0.5) as host:
                await host.open_stream(PeerId(member.peer_id), PING, [member.address])
                (connection,) = swarm_of(host._host).get_connections()
                with suppress(IOException), trio.move_on_after(ANSWER_SECONDS):  # it may have hung up already
                    await connection.muxed_conn.secured_conn.write(muxer_frames(dice))
                    fed += 1
                    await trio.sleep(ANSWER_SECONDS)
    return fed


def test_noise_under_the_muxer(devnet: Devnet, dice: random.Random) -> None:
    with unharmed(devnet):
        assert trio.run(break_muxers, devnet, dice) > STREAMS_PER_PEER


async def gossip_much(network: Devnet, with_hello: bool, dice: random.Random) -> None:
    good = encode_block(await trio.to_thread.run_sync(send_block, network, NODE))
    member = network.member(NODE)
    with trio.move_on_after(SECONDS_MAX):
        for _ in range(ROUNDS):
            async with peer(network, dice.randbytes(32), with_hello) as host:
                with suppress(PeerFault):
                    ping = await host.open_stream(PeerId(member.peer_id), PING, [member.address])
                    await ping.reset()
                await trio.sleep(MESH_SECONDS)
                for number in range(MESSAGES * len(TOPICS)):
                    await host.publish(TOPICS[number % len(TOPICS)], bent(dice, good))
                await trio.sleep(ANSWER_SECONDS)


@pytest.mark.parametrize("with_hello", [False, True], ids=["stranger", "peer"])
def test_noise_by_gossip(devnet: Devnet, dice: random.Random, with_hello: bool) -> None:
    counter = "net_gossip_reject" if with_hello else "gossip_ignored_before_hello"
    before = figure(devnet, counter)
    with unharmed(devnet):
        trio.run(gossip_much, devnet, with_hello, dice)
    assert figure(devnet, counter) > before
