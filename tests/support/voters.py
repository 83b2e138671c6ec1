"""Stories about votes: weight spread over nodes, two blocks for one position, and what must then be true everywhere."""

from typing import Any

import trio

from tests.support.ledger import Chain, address_of
from tests.support.role_node import REPRESENTATIVE, RoleNode, Village, peer_id_of, until, virtual_clock
from xnode.core.blocks import Block, block_hash
from xnode.core.ledger import Outcome
from xnode.core.values import Address, Hash
from xnode.roles.voting import WEIGHTS_KEPT
from xnode.store.verify import verify_store


def chain_of(village: Village, name: str) -> Chain:
    """Somebody who signs, whether its node is up or not."""
    return Chain(village.genesis, name)


def hash_of(village: Village, block: Block) -> Hash:
    """The block's hash on this network."""
    return block_hash(village.genesis.network_key, block)


async def give(node: RoleNode, block: Block) -> Hash:
    """Offers a block at this node, where it must be good, and lets it gossip."""
    submission = await node.roles.replica.submit(block)
    assert submission.outcome is Outcome.PROGRESS, submission
    return submission.block_hash


async def spread(village: Village, *names: str) -> None:
    """Starts these nodes, whose accounts then delegate to themselves by a claim, and ends the first representative."""
    await village.start(REPRESENTATIVE)
    for name in names:
        await village.start(name)
    await village.ready()
    for name in names:
        with village.nodes[name].store.snapshot() as view:
            own = {"representative": address_of(name), "timestamp": virtual_clock()()}
            block = chain_of(village, name).claim(view, **own)
        await give(village.nodes[name], block)
    await settled(village)
    await trio.sleep(2 * WEIGHTS_KEPT)
    await village.crash(REPRESENTATIVE)


def rivals(village: Village, node: RoleNode, name: str, *destinations: str, **changes: Any) -> list[Block]:
    """Sends by `name` to each of these, all for the next position of its chain as this node has it."""
    with node.store.snapshot() as view:
        chain = chain_of(village, name)
        now = virtual_clock()()
        return [chain.send(view, address_of(to), 5, timestamp=now, **changes) for to in destinations]


def unconfirmed(node: RoleNode) -> list[Hash]:
    """What may still be taken back."""
    with node.store.snapshot() as view:
        return [stored.block_hash for stored in view.unconfirmed()]


def is_confirmed(node: RoleNode, identity: Hash) -> bool:
    """Whether this node says so."""
    with node.store.snapshot() as view:
        return view.is_confirmed(identity)


def has(node: RoleNode, identity: Hash) -> bool:
    """Whether the block is applied."""
    with node.store.snapshot() as view:
        return view.has_block(identity)


async def settled(village: Village, seconds: float = 60.0) -> None:
    """Waits until all have one ledger and all of it is confirmed, and checks every ledger whole."""
    nodes = village.nodes.values()

    def is_settled() -> bool:
        is_one = len({node.digest() for node in nodes}) == 1
        return is_one and not any(unconfirmed(node) or node.roles.voting.figures()["elections"] for node in nodes)

    await until(is_settled, seconds, "one ledger, all confirmed, and no election left")
    await village.agreed(0.2)
    for node in nodes:
        assert verify_store(node.store, checks_signatures=False) == []


async def chosen(village: Village, blocks: list[Block], seconds: float = 60.0) -> Block:
    """Waits until every node has confirmed the same one of these; the others are nowhere."""
    hashes = [hash_of(village, block) for block in blocks]
    nodes = list(village.nodes.values())

    def confirmed() -> list[list[Hash]]:
        return [[one for one in hashes if is_confirmed(node, one)] for node in nodes]

    await until(lambda: all(confirmed()), seconds, "one of the rivals to be confirmed everywhere")
    (winner,) = confirmed()[0]
    assert confirmed() == [[winner]] * len(nodes)
    assert not any(has(node, one) for node in nodes for one in hashes if one != winner)
    return blocks[hashes.index(winner)]


async def lease_to(village: Village, consumer: str, provider: str, **terms: Any) -> Hash:
    """A lease block of the consumer, given at its node and confirmed everywhere."""
    node = village.nodes[consumer]
    with node.store.snapshot() as view:
        block = chain_of(village, consumer).lease(view, address_of(provider), timestamp=virtual_clock()(), **terms)
    lease_hash = await give(node, block)
    await until(lambda: all(is_confirmed(one, lease_hash) for one in village.nodes.values()), 60, "the lease")
    return lease_hash


def step_block(village: Village, node: RoleNode, name: str, step: str, lease_hash: Hash) -> Block:
    """An accept, cancel, settle or force_settle of this lease by `name`, good now as this node has the ledger."""
    now = virtual_clock()()
    attested = {} if step == "cancel" else {"time": now}
    with node.store.snapshot() as view:
        block: Block = getattr(chain_of(village, name), step)(view, lease_hash, timestamp=now, **attested)
    return block


def peer_ids(*names: str) -> list[Any]:
    """Whom a partition takes."""
    return [peer_id_of(name) for name in names]


def final_notes(node: RoleNode) -> dict[bytes, bytes]:
    """The final votes on its disk: position -> block."""
    with node.store.snapshot() as view:
        return dict(view.notes("final-vote", 1000))


def balance(node: RoleNode, address: Address) -> int:
    """XUSD."""
    account = node.account(address)
    return account.xusd if account is not None else 0
