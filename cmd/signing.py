"""Signing an account's next block from outside its node: what is read, what is built, what is sent."""

import os
import secrets
import time
from typing import Any, NamedTuple

import click

from xnode.core.blocks import BODIES, Block, Body, block_hash, block_to_json
from xnode.core.genesis import Genesis
from xnode.core.keys import SigningKey
from xnode.core.keyset import Keyset, keyset_from_json
from xnode.core.ledger import Outcome
from xnode.core.values import U64_MAX, ZERO_HASH, Address, Asset, Hash, hash_from_hex
from xnode_cmd.client import ApiClient, ApiRefusal


class Position(NamedTuple):
    """Where the account's next block stands: the block before it, the balances there, a multisig account's keyset."""

    head: Hash
    balances: dict[Asset, int]
    representative: str
    keyset: Keyset | None = None


def read_position(client: ApiClient, genesis: Genesis, address: Address) -> Position:
    """The account as the node knows it; one that has neither blocks nor an opening balance delegates as all begin."""
    record: dict[str, Any] | None = client.find(f"/accounts/{address.hex()}")
    if record is None:
        return Position(ZERO_HASH, dict.fromkeys(Asset, 0), genesis.representative.hex())
    balances = {asset: int(record["balances"][asset.name]) for asset in Asset}
    keyset = record.get("keyset")
    in_force = None if keyset is None else keyset_from_json(keyset)
    return Position(hash_from_hex(record["frontier"]), balances, record["representative"], in_force)


def sign_block(
    genesis: Genesis,
    key: SigningKey,
    position: Position,
    asset: Asset,
    delta: int,
    body: Body,
    representative: Address | None,
) -> Block:
    """The signed block with its work; `delta` moves the balance of `asset`. Raises click.ClickException when short."""
    block = draft_block(Address(key.public_key), position, asset, delta, body, representative)
    signature = key.sign(block_hash(genesis.network_key, block))
    return block._replace(signature=signature, work=solve(block.work_root, genesis.work_difficulty))


def draft_block(
    account: Address, position: Position, asset: Asset, delta: int, body: Body, representative: Address | None
) -> Block:
    """The same without signature and work."""
    balance = position.balances[asset] + delta
    if not 0 <= balance <= U64_MAX:
        raise click.ClickException(f"the account holds {position.balances[asset]} {asset.name}, which is not enough")
    kind = next(kind for kind, body_type in BODIES.items() if isinstance(body, body_type))
    return Block(kind, account, position.head, asset, balance, representative, time.time_ns(), body)


def solve(root: bytes, difficulty: int) -> int:
    """Work for a block, on all cores."""
    import trio

    from xnode.pow.solver import open_solver

    async def run() -> int:
        async with open_solver(os.cpu_count() or 1, secrets.token_bytes) as solver:
            return await solver.solve(root, difficulty)

    return trio.run(run)


class LostPosition(Exception):
    """Another block of the account came first: read the position again and sign anew."""


def submit(client: ApiClient, genesis: Genesis, block: Block) -> str:
    """Hands the block to the node and returns its hash; raises LostPosition, or the refusal by its name."""
    try:
        client.post("/blocks", block_to_json(block))
    except ApiRefusal as refusal:
        if refusal.code == Outcome.FORK:
            raise LostPosition from refusal
        raise click.ClickException(f"the node refused the block ({refusal.code}): {refusal.message}") from refusal
    return block_hash(genesis.network_key, block).hex()
