"""Real blocks of a running network's accounts: signed with a member's own key, built on what its node knows."""

import time
from typing import Final

from xnode.core.blocks import Block, BlockType, Send, block_hash
from xnode.core.values import Address, Asset
from xnode.pow.kernel import search
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.signing import read_position

TRIES_MAX: Final = 2**20
RECIPIENT: Final = Address(b"d" * 32)


def send_block(network: Devnet, name: str) -> Block:
    """The next block of this member's account: it sends 1 XUSD; nothing is told to the node yet."""
    data_dir = network.process(name).data_dir
    key, genesis = data_dir.load_account_key(), data_dir.load_genesis()
    account = Address(key.public_key)
    with network.client(name) as client:
        position = read_position(client, genesis, account)
    balance = position.balances[Asset.XUSD] - 1
    block = Block(BlockType.SEND, account, position.head, Asset.XUSD, balance, None, time.time_ns(), Send(RECIPIENT, 1))
    nonce = search(block.work_root, genesis.work_difficulty, 0, TRIES_MAX)
    assert nonce is not None
    return block._replace(signature=key.sign(block_hash(genesis.network_key, block)), work=nonce)


def hash_of(network: Devnet, block: Block) -> str:
    """The block's hash in this network."""
    genesis = network.process(network.members[0].name).data_dir.load_genesis()
    return block_hash(genesis.network_key, block).hex()
