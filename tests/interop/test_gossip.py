"""A real block goes by gossip between a foreign libp2p peer and a node process, both ways.

The foreign peer first says hello, as every peer must: what it gossips before that is ignored.
"""

from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.support.devnet import SHORT_PLAN, http
from tests.support.foreign import ForeignPeer
from tests.support.gossip import REPUBLISH_SECONDS, TOPIC
from tests.support.sending import hash_of, send_block
from xnode.core.blocks import Block, block_to_json, decode_block, encode_block
from xnode.core.codec import decode, encode
from xnode.net import rpc
from xnode.net.handshake import METHOD, Hello
from xnode.roles.replica import BLOCKS_TOPIC
from xnode_cmd.devnet_network import Devnet

pytestmark = [pytest.mark.interop, pytest.mark.slow]

DEVNET = SHORT_PLAN._replace(timekeepers=1)  # three processes: the node, and two more that hear of it
NODE = "consumer1"
SECONDS_MAX = 60.0


async def say_hello(peer: ForeignPeer, network: Devnet) -> None:
    genesis = network.process(NODE).data_dir.load_genesis()
    hello = Hello(genesis.network_id, genesis.genesis_hash, "0.1.0")
    answer = await peer.call(network.member(NODE).address, rpc.PROTOCOL, encode((METHOD, tuple(hello))))
    assert decode(answer, rpc.FRAME_BYTES_MAX) == (rpc.OK, tuple(hello))


def has_block(network: Devnet, name: str, block: Block) -> bool:
    with http(network, name) as client:
        answer = client.get(f"/blocks/{hash_of(network, block)}")
    if answer.status_code == 404:
        return False
    assert answer.json()["block"] == block_to_json(block)
    return True


async def repeat_until(act: Callable[[], Awaitable[None]], condition: Callable[[], bool]) -> None:
    """What is gossiped before the mesh has formed vanishes, so it is done again."""
    with trio.fail_after(SECONDS_MAX):
        while not await trio.to_thread.run_sync(condition):
            await act()
            await trio.sleep(REPUBLISH_SECONDS)


def submit(network: Devnet, sent: list[bytes]) -> None:
    block = send_block(network, NODE)
    with http(network, NODE) as client:
        answer = client.post("/blocks", json=block_to_json(block))
    assert answer.status_code == 200, answer.text
    sent.append(encode_block(block))


async def exchange_blocks(peer: ForeignPeer, network: Devnet) -> None:
    await peer.connect(network.member(NODE).address)
    await say_hello(peer, network)

    theirs = await trio.to_thread.run_sync(send_block, network, NODE)
    assert not has_block(network, NODE, theirs)
    await repeat_until(lambda: peer.publish(encode_block(theirs)), lambda: has_block(network, NODE, theirs))
    await trio.to_thread.run_sync(network.wait_for_block, hash_of(network, theirs))  # and it passes it on

    ours: list[bytes] = []
    heard: list[bytes] = []

    async def listen() -> None:
        while True:
            heard.append(await peer.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await repeat_until(lambda: trio.to_thread.run_sync(submit, network, ours), lambda: bool({*ours} & {*heard}))
        nursery.cancel_scope.cancel()
    assert {decode_block(data).account.hex() for data in heard} == {network.member(NODE).account}


def test_the_topics_name() -> None:
    assert TOPIC == BLOCKS_TOPIC


async def test_a_block_goes_both_ways_with_js_libp2p(js_peer: ForeignPeer, devnet: Devnet) -> None:
    await exchange_blocks(js_peer, devnet)


async def test_a_block_goes_both_ways_with_go_libp2p(go_peer: ForeignPeer, devnet: Devnet) -> None:
    await exchange_blocks(go_peer, devnet)
