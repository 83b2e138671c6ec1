"""Ledgers of many blocks, made quickly: every block is good and signed, in an order in which it can be applied."""

import hashlib
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from tests.support.ledger import NOW, find_work, make_genesis
from xnode.core.blocks import Block, BlockType, Body, Receive, Send, block_hash
from xnode.core.genesis import Allocation, Genesis
from xnode.core.keys import SigningKey
from xnode.core.values import NS, ZERO_HASH, Address, Asset, Hash

SUPPLY = 10**15


class Owner:
    """Somebody with a chain."""

    def __init__(self, name: str) -> None:
        self.key = SigningKey(hashlib.sha256(f"big ledger {name}".encode()).digest())
        self.address = Address(self.key.public_key)
        self.head = ZERO_HASH
        self.balance = 0
        self.pending: list[tuple[Hash, int]] = []


class Shape(NamedTuple):
    """How large: `accounts` beside the first one, all opened by a send and a receive; then payments up to `blocks`."""

    blocks: int
    accounts: int
    seed: int = 1


def first_owner() -> Owner:
    """Who has everything at the start, and the vote of all."""
    return Owner("first")


def big_genesis(difficulty: int = 0) -> Genesis:
    """A network whose whole supply is the first owner's."""
    first = first_owner().address
    return make_genesis(
        allocations=(Allocation(first, Asset.XUSD, SUPPLY),), representative=first, work_difficulty=difficulty
    )


class Maker:
    """Signs blocks for a network of `big_genesis`; everybody delegates to the first owner."""

    def __init__(self, genesis: Genesis, shape: Shape) -> None:
        self.genesis = genesis
        self.shape = shape
        self.random = Random(shape.seed)
        self.first = first_owner()
        self.first.balance = SUPPLY
        self.owners = [Owner(str(number)) for number in range(shape.accounts)]
        self.count = 0

    def blocks(self) -> Iterator[Block]:
        """All blocks in an order of arrival."""
        share = SUPPLY // (2 * max(1, len(self.owners)))
        for owner in self.owners:
            yield self._send(self.first, owner, share)
            yield self._receive(owner)
        while self.count < self.shape.blocks:
            payer, payee = self.random.sample(self.owners, 2)
            yield self._send(payer, payee, 1)
            if self.count < self.shape.blocks:
                yield self._receive(payee)

    def _send(self, payer: Owner, payee: Owner, amount: int) -> Block:
        payer.balance -= amount
        block = self._sign(payer, BlockType.SEND, Send(payee.address, amount))
        payee.pending.append((payer.head, amount))
        return block

    def _receive(self, owner: Owner) -> Block:
        source, amount = owner.pending.pop(0)
        owner.balance += amount
        return self._sign(owner, BlockType.RECEIVE, Receive(source))

    def _sign(self, owner: Owner, kind: BlockType, body: Body) -> Block:
        self.count += 1
        representative = self.first.address if owner.head == ZERO_HASH else None
        at = NOW - 10**6 * NS + self.count
        block = Block(kind, owner.address, owner.head, Asset.XUSD, owner.balance, representative, at, body)
        owner.head = block_hash(self.genesis.network_key, block)
        work = find_work(block.work_root, self.genesis.work_difficulty)
        return block._replace(signature=owner.key.sign(owner.head), work=work)
