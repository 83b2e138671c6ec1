"""A multisig account's blocks on their way in: strangers' signatures displace nothing and spread nowhere."""

from pathlib import Path

import trio as trio_library

from tests.support.group import TRIO, Group, signed_by
from tests.support.ledger import NOW, MemoryLedger, address_of
from tests.support.store import GENESIS, land, open_store
from xnode.core.blocks import Block, encode_block
from xnode.core.ledger import Outcome
from xnode.roles.replica import Replica
from xnode.store.store import Store

BOB = address_of("bob")


async def nowhere(_topic: str, _data: bytes) -> None:
    await trio_library.lowlevel.checkpoint()


def made(store: Store) -> Replica:
    return Replica(store, GENESIS, lambda: NOW, nowhere)


def opened() -> tuple[MemoryLedger, Group]:
    """The trio's account, open, with 100."""
    ledger = MemoryLedger(GENESIS)
    group = ledger.group(TRIO)
    ledger.play(group.open(ledger))
    ledger.play(group.claim(ledger))
    return ledger, group


def by_stranger(block: Block) -> Block:
    return signed_by(GENESIS, block, "eve")


def test_a_held_block_keeps_its_place_beside_the_same_one_signed_by_a_stranger(tmp_path: Path) -> None:
    ledger, group = opened()
    first = group.send(ledger, BOB, 1)
    ledger.play(first)
    second = group.send(ledger, BOB, 2)
    with open_store(tmp_path) as store:
        land(store, *list(ledger.blocks.values())[:2])
        replica = made(store)
        for block in (by_stranger(second), second, by_stranger(second)):
            assert replica.take(block).outcome is Outcome.GAP_PREVIOUS
        assert replica.take(first).outcome is Outcome.PROGRESS
        assert replica.take(second).outcome is Outcome.OLD
        assert replica.outcomes[Outcome.PROGRESS] == 2
        assert len(replica.held) == 0


def test_a_strangers_fork_is_not_passed_on(tmp_path: Path) -> None:
    ledger, group = opened()
    rival = group.send(ledger, BOB, 7)
    ledger.play(group.send(ledger, BOB, 1))
    with open_store(tmp_path) as store:
        land(store, *ledger.blocks.values())
        replica = made(store)
        assert replica.preview(rival) is Outcome.FORK
        assert replica.preview(by_stranger(rival)) is Outcome.BAD_QUORUM
        assert not replica.would_replace(by_stranger(rival))


def test_a_fork_below_a_rotation_is_judged_by_the_keyset_of_its_position(tmp_path: Path) -> None:
    ledger, group = opened()
    rival = group.send(ledger, BOB, 7)  # two of the first three
    ledger.play(group.update(ledger, "2:dan,eve"))
    ledger.play(group.send(ledger, BOB, 1))
    with open_store(tmp_path) as store:
        land(store, *ledger.blocks.values())
        replica = made(store)
        assert replica.preview(rival) is Outcome.FORK
        assert replica.preview(signed_by(GENESIS, rival, "dan", "eve")) is Outcome.BAD_QUORUM
        identity = group.hash_of(rival)
        decision = replica.replace(rival, lambda transaction: None, lambda transaction, stored: None)
        assert len(decision.undone) == 2
        with store.snapshot() as view:
            account = view.account(group.address)
            assert account is not None
            assert (account.keyset, account.head, account.xusd) == (group.keyset, identity, 93)


def test_a_page_of_old_blocks_has_multisig_ones(tmp_path: Path) -> None:
    ledger, group = opened()
    ledger.play(group.update(ledger, "2:dan,eve"))
    ledger.play(group.send(ledger, BOB, 1))
    with open_store(tmp_path) as store:
        wires = [encode_block(block) for block in ledger.blocks.values()]
        assert made(store).take_synced(wires) == len(wires)
