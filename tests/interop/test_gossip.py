"""A real block goes by gossip between a foreign libp2p peer and our host, both ways, through validators.

The foreign peer first says hello, as every peer must: what it gossips before that is ignored.
"""

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import trio

from tests.support.foreign import ForeignPeer
from tests.support.gossip import TOPIC, publish_until_received
from xnode.core.blocks import Block, BlockType, Send, block_hash, decode_block, encode_block
from xnode.core.codec import Malformed, decode, encode
from xnode.core.hashing import NetworkKey, derive_network_key
from xnode.core.keys import SigningKey, verify
from xnode.core.values import ZERO_HASH, Address, Asset, Hash
from xnode.core.work import is_valid_work
from xnode.net import rpc
from xnode.net.handshake import METHOD, Handshake, Hello
from xnode.net.network import Judged, NetSettings, Network, Topic, Verdict, open_network
from xnode.net.streams import PeerId
from xnode.pow.kernel import search

pytestmark = [pytest.mark.interop, pytest.mark.slow]

SECONDS_MAX = 60.0
DIFFICULTY = 0xFF00000000000000  # 2^8 tries
NETWORK_KEY: NetworkKey = derive_network_key(b"tests/interop")
HELLO = Hello("interop", Hash(b"g" * 32), "0.1.0")
INBOX_MAX = 16


def signed_block(seed: int) -> Block:
    """A send block with its work and signature, the first of its account."""
    key = SigningKey(seed.to_bytes(32, "big"))
    account = Address(key.public_key)
    body = Send(Address(b"d" * 32), 7)
    block = Block(BlockType.SEND, account, ZERO_HASH, Asset.XUSD, 93, account, time.time_ns(), body)
    nonce = search(block.work_root, DIFFICULTY, 0, 2**16)
    assert nonce is not None
    return block._replace(signature=key.sign(block_hash(NETWORK_KEY, block)), work=nonce)


def judge(data: bytes) -> Judged:
    """The cheap checks before the dear one, as a node does them."""
    try:
        block = decode_block(data)
    except Malformed as error:
        return Judged(Verdict.REJECT, None, str(error))
    if not is_valid_work(block.work_root, block.work, DIFFICULTY):
        return Judged(Verdict.REJECT, None, "bad_work")
    if not verify(block.account, block_hash(NETWORK_KEY, block), block.signature):
        return Judged(Verdict.REJECT, None, "bad_signature")
    return Judged(Verdict.ACCEPT, block, "")


class Node(NamedTuple):
    """Our host, and the blocks that it accepted."""

    network: Network
    accepted: trio.MemoryReceiveChannel[object]


def topics(is_greeted: Callable[[PeerId], bool], deliver: Callable[[object], None]) -> Mapping[str, Topic]:
    def validate(peer_id: PeerId, data: bytes) -> Judged:
        return judge(data) if is_greeted(peer_id) else Judged(Verdict.IGNORE, None, "no_hello")

    return {TOPIC: Topic(validate, lambda _, block: deliver(block), rate_per_second=100, burst=100)}


@asynccontextmanager
async def running_node() -> AsyncIterator[Node]:
    inbox, accepted = trio.open_memory_channel[object](INBOX_MAX)
    greeter: list[Handshake] = []
    served = topics(lambda peer_id: greeter[0].knows(peer_id), inbox.send_nowait)
    settings = NetSettings(listen=("/ip4/127.0.0.1/tcp/0",))
    async with open_network(settings, os.urandom(32), served, time.time_ns, os.urandom) as network:
        greeter.append(Handshake(network, rpc.Rpc(network), HELLO))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(greeter[0].run)
            yield Node(network, accepted)
            nursery.cancel_scope.cancel()


async def say_hello(peer: ForeignPeer, address: str) -> None:
    answer = await peer.call(address, rpc.PROTOCOL, encode((METHOD, tuple(HELLO))))
    assert decode(answer, rpc.FRAME_BYTES_MAX) == (rpc.OK, tuple(HELLO))


async def exchange_blocks(peer: ForeignPeer) -> None:
    ours, theirs = signed_block(1), signed_block(2)
    with trio.fail_after(SECONDS_MAX):
        async with running_node() as node:
            address = node.network.addresses[0]
            await peer.connect(address)
            await say_hello(peer, address)

            async def accepted_wire() -> bytes:
                block = await node.accepted.receive()
                assert isinstance(block, Block)
                return encode_block(block)

            await publish_until_received(peer.publish, encode_block(theirs), accepted_wire)
            await publish_until_received(
                lambda data: node.network.publish(TOPIC, data), encode_block(ours), peer.receive
            )


async def test_a_block_goes_both_ways_with_js_libp2p(js_peer: ForeignPeer) -> None:
    await exchange_blocks(js_peer)


async def test_a_block_goes_both_ways_with_go_libp2p(go_peer: ForeignPeer) -> None:
    await exchange_blocks(go_peer)
