"""A block that is taken back leaves only its arrival number; what rests on it goes with it; what is final stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.group import TRIO, keyset_of
from tests.support.ledger import NOW, MemoryLedger, address_of
from tests.support.store import GENESIS, dump, facts, land, open_store, stage, story_blocks, story_hashes
from xnode.core.blocks import BlockType
from xnode.core.values import NS, ZERO_HASH, Address, Asset, Hash
from xnode.store.invariants import InvariantBroken
from xnode.store.store import Store
from xnode.store.verify import verify_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as store:
        yield store


def roll_back(store: Store, block_hash: Hash) -> list[Hash]:
    """In a transaction of its own, with all that rests on it."""
    with store.transaction() as transaction:
        undone = transaction.rollback_with_descendants(block_hash)
        transaction.commit()
    assert verify_store(store) == []
    return [stored.block_hash for stored in undone]


def played(ledger: MemoryLedger, store: Store) -> None:
    land(store, *ledger.blocks.values())


def test_the_story_has_every_block_type() -> None:
    assert {block.type for block in story_blocks()} == set(BlockType)


@pytest.mark.parametrize("count", range(1, len(story_blocks()) + 1))
def test_each_block_alone_leaves_nothing(store: Store, count: int) -> None:
    *before, block = story_blocks()[:count]
    land(store, *before)
    empty = dump(store)
    (block_hash,) = land(store, block)
    with store.transaction() as transaction:
        stored = transaction.rollback(block_hash)
        assert (stored.block, stored.block_hash, stored.sequence) == (block, block_hash, count)
        assert not transaction.has_block(block_hash)
        transaction.commit()
    assert dump(store) == empty
    assert verify_store(store) == []
    land(store, block)
    with store.snapshot() as snapshot:
        assert snapshot.recent_blocks(1)[0].sequence == count + 1  # numbers are never given twice
        assert len(snapshot.blocks_since(count - 1)) == 1
    assert verify_store(store) == []


def test_the_whole_story_in_one_transaction(store: Store) -> None:
    empty = dump(store)
    land(store, *story_blocks())
    with store.transaction() as transaction:
        for block_hash in reversed(story_hashes()):
            transaction.rollback(block_hash)
        transaction.commit()
    assert dump(store) == empty
    land(store, *story_blocks())
    assert verify_store(store) == []


def test_what_is_staged_may_be_taken_back_before_it_lands(store: Store) -> None:
    first, second, *_ = story_blocks()
    land(store, first)
    before = dump(store)
    with store.transaction() as transaction:
        assert transaction.rollback(stage(transaction, second)).block == second
        assert transaction.tally().last_arrival == 1
        transaction.commit()
    assert dump(store) == before
    with store.transaction() as transaction:
        stage(transaction, second)
        transaction.rollback_with_descendants(story_hashes()[0])
        for block in story_blocks():
            stage(transaction, block)
        transaction.rollback(story_hashes()[-1])
        transaction.commit()
    assert verify_store(store) == []


def test_it_is_open_again_where_it_was(tmp_path: Path) -> None:
    """The start compares the last arrival with the tally, also when the last ones are gone."""
    with open_store(tmp_path) as store:
        land(store, *story_blocks())
        roll_back(store, story_hashes()[8])
        before = dump(store)
    with open_store(tmp_path) as store:
        assert dump(store) == before
        assert verify_store(store) == []
        roll_back(store, story_hashes()[0])
    with open_store(tmp_path) as store, store.snapshot() as snapshot:
        assert {item.block.account for item in snapshot.blocks_since(0)} == {story_blocks()[-1].account}


def test_descendants_go_across_accounts(store: Store) -> None:
    ledger = MemoryLedger(GENESIS)
    alice, bob, carol, dave = (ledger.chain(name) for name in ("alice", "bob", "carol", "dave"))
    kept = [
        ledger.play(bob.send(ledger, dave.address, 9)),
        ledger.play(dave.receive(ledger, next(iter(ledger.blocks)))),
    ]
    first = ledger.play(alice.send(ledger, carol.address, 100))
    gone = [first, ledger.play(carol.receive(ledger, first))]
    gone.append(ledger.play(carol.send(ledger, dave.address, 30)))
    kept.append(ledger.play(bob.claim(ledger)))
    gone.append(ledger.play(dave.receive(ledger, gone[2])))
    gone.append(ledger.play(dave.claim(ledger)))
    gone.append(ledger.play(alice.send(ledger, bob.address, 1)))
    played(ledger, store)
    assert roll_back(store, first) == gone[::-1]
    with store.snapshot() as snapshot:
        assert [item.block_hash for item in snapshot.blocks_since(0)] == kept
        assert snapshot.account(carol.address) is None


def leased(ledger: MemoryLedger) -> tuple[Hash, Hash]:
    """A lease of Alice's that Bob has accepted, and more of both: (lease, accept)."""
    alice, bob = ledger.chain("alice"), ledger.chain("bob")
    lease = ledger.play(alice.lease(ledger, bob.address))
    accept = ledger.play(bob.accept(ledger, lease))
    ledger.play(bob.send(ledger, address_of("carol"), 5))
    return lease, accept


def test_a_keyset_goes_and_comes_back_with_its_blocks(store: Store) -> None:
    ledger = MemoryLedger(GENESIS)
    trio = ledger.group(TRIO)
    opening = ledger.play(trio.open(ledger))
    rotation = ledger.play(trio.update(ledger, "1:dan,eve"))
    again = ledger.play(trio.update(ledger, "2:ann,dan,eve"))
    played(ledger, store)
    for gone, left in ((again, "1:dan,eve"), (rotation, TRIO)):
        assert roll_back(store, gone) == [gone]
        with store.snapshot() as snapshot:
            account = snapshot.account(trio.address)
            assert account is not None
            assert account.keyset == keyset_of(left)
            claim = trio.claim(snapshot)
        assert land(store, claim)  # signed by the keyset that is in force again
        roll_back(store, trio.hash_of(claim))
    roll_back(store, opening)
    with store.snapshot() as snapshot:
        assert snapshot.account(trio.address) is None
    land(store, *ledger.blocks.values())
    with store.transaction() as transaction:
        transaction.confirm_with_ancestors(rotation)
        transaction.commit()
    roll_back(store, again)
    with store.snapshot() as snapshot:
        account = snapshot.account(trio.address)
        assert account is not None
        assert (account.keyset, account.final_height) == (keyset_of("1:dan,eve"), 2)


@pytest.mark.parametrize("end", ["settle", "force_settle", "none"])
def test_a_lease_takes_what_moved_it(store: Store, end: str) -> None:
    ledger = MemoryLedger(GENESIS)
    empty = dump(store)
    lease, _ = leased(ledger)
    if end == "settle":
        ledger.play(ledger.chain("bob").settle(ledger, lease))
    elif end == "force_settle":
        ledger.play(ledger.chain("alice").force_settle(ledger, lease))
    played(ledger, store)
    assert roll_back(store, lease) == list(ledger.blocks)[::-1]
    assert dump(store) == empty


def test_an_accept_takes_the_force_settle_and_leaves_the_lease(store: Store) -> None:
    ledger = MemoryLedger(GENESIS)
    lease, accept = leased(ledger)
    ledger.play(ledger.chain("alice").force_settle(ledger, lease))
    other = ledger.play(ledger.chain("carol").claim(ledger))
    played(ledger, store)
    assert len(roll_back(store, accept)) == 3
    with store.snapshot() as snapshot:
        assert [item.block_hash for item in snapshot.blocks_since(0)] == [lease, other]
        assert snapshot.provider_record(address_of("bob")) == (0, 0)
    cancel = ledger.chain("alice")
    with store.transaction() as transaction:  # and the lease is free for something else
        stage(transaction, cancel.cancel(transaction, lease))
        transaction.commit()
    assert verify_store(store) == []
    assert len(roll_back(store, lease)) == 2


def test_the_fork_takes_its_place_in_one_transaction(store: Store) -> None:
    ledger = MemoryLedger(GENESIS)
    alice, bob, carol = ledger.chain("alice"), address_of("bob"), ledger.chain("carol")
    fork = alice.send(ledger, bob, 8, representative=bob)
    loser = ledger.play(alice.send(ledger, carol.address, 7))
    ledger.play(carol.receive(ledger, loser))
    played(ledger, store)
    with store.transaction() as transaction:
        transaction.rollback_with_descendants(loser)
        winner = stage(transaction, fork)
        transaction.confirm(alice.address, 1)
        transaction.commit()
    assert verify_store(store) == []
    with store.snapshot() as snapshot:
        assert snapshot.is_confirmed(winner)
        assert [item.block for item in snapshot.chain(alice.address)] == [fork]
        assert snapshot.pendings(carol.address) == []


def test_it_is_the_same_ledger_as_without(store: Store, tmp_path: Path) -> None:
    """Another order of arrival and a detour give the same facts."""
    ledger = MemoryLedger(GENESIS)
    leased(ledger)
    played(ledger, store)
    detour = ledger.chain("alice")
    with store.transaction() as transaction:
        side = stage(transaction, detour.send(transaction, address_of("dave"), 4, Asset.XUSD))
        transaction.commit()
    land(store, ledger.chain("carol").claim(ledger, timestamp=NOW + NS))
    roll_back(store, side)
    with open_store(tmp_path / "straight") as straight:
        land(straight, *ledger.blocks.values(), ledger.chain("carol").claim(ledger, timestamp=NOW + NS))
        assert facts(store) == facts(straight)


def refused(store: Store, block_hash: Hash, message: str, alone: bool = False) -> None:
    """Nothing changes, neither what is staged nor, were it committed all the same, the store."""
    before = dump(store)
    with store.transaction() as transaction:
        act = transaction.rollback if alone else transaction.rollback_with_descendants
        with pytest.raises(InvariantBroken, match=message):
            act(block_hash)
        transaction.commit()
    assert dump(store) == before


def test_unknown_blocks_are_refused(store: Store) -> None:
    refused(store, ZERO_HASH, "not in the ledger")
    refused(store, story_hashes()[0], "not in the ledger", alone=True)


def test_alone_only_what_nothing_rests_on(store: Store) -> None:
    send, receive, *_ = land(store, *story_blocks()[:3])
    refused(store, receive, "last block", alone=True)
    refused(store, send, "rests on", alone=True)


def final_height(store: Store, address: Address) -> int:
    with store.snapshot() as snapshot:
        account = snapshot.account(address)
        assert account is not None
        return account.final_height


def test_a_confirmed_block_is_never_taken_back(store: Store) -> None:
    hashes = land(store, *story_blocks())
    alice = address_of("alice")
    with store.transaction() as transaction:
        transaction.confirm(alice, 1)
        transaction.commit()
    refused(store, hashes[0], "confirmed")
    refused(store, hashes[0], "confirmed", alone=True)
    roll_back(store, hashes[3])  # Alice's second, and what rests on it
    assert final_height(store, alice) == 1
    with store.transaction() as transaction:
        transaction.rollback_with_descendants(hashes[1])
        transaction.confirm(alice, 1)
        transaction.commit()
    refused(store, hashes[0], "confirmed", alone=True)
    assert verify_store(store) == []


def test_confirmed_meanwhile_and_taken_back_above(store: Store) -> None:
    """The record of a block is older than the confirmation below it; the final height stays as it is now."""
    ledger = MemoryLedger(GENESIS)
    alice = ledger.chain("alice")
    hashes = [ledger.play(alice.send(ledger, address_of("bob"), 1)) for _ in range(4)]
    played(ledger, store)
    for height in (1, 3):
        with store.transaction() as transaction:
            transaction.confirm(alice.address, height)
            transaction.commit()
    assert roll_back(store, hashes[3]) == hashes[3:]
    assert final_height(store, alice.address) == 3
