"""Final heights rise and never fall; what a confirmed block rests on is confirmed; only that is spendable."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ledger import RICH, MemoryLedger, address_of
from tests.support.store import GENESIS, dump, land, open_store, stage, story_blocks, story_hashes
from xnode.core.values import ZERO_HASH, Address, Asset, Hash
from xnode.store.invariants import InvariantBroken
from xnode.store.schema import UNDO
from xnode.store.store import Store
from xnode.store.verify import verify_store

ALICE, BOB, CAROL = (address_of(name) for name in ("alice", "bob", "carol"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as store:
        land(store, *story_blocks())
        yield store


def confirm(store: Store, account: Address, height: int) -> list[Hash]:
    with store.transaction() as transaction:
        found = transaction.confirm(account, height)
        transaction.commit()
    assert verify_store(store) == []
    return found


def confirm_all(store: Store, block_hash: Hash) -> list[Hash]:
    with store.transaction() as transaction:
        found = transaction.confirm_with_ancestors(block_hash)
        transaction.commit()
    assert verify_store(store) == []
    return found


def chain_of(store: Store, account: Address) -> list[Hash]:
    with store.snapshot() as snapshot:
        return [item.block_hash for item in snapshot.chain(account)]


def test_heights_rise_and_never_fall(store: Store) -> None:
    alices = chain_of(store, ALICE)
    assert confirm(store, ALICE, 2) == alices[:2]
    before = dump(store)
    assert confirm(store, ALICE, 1) == []
    assert confirm(store, ALICE, 2) == []
    assert dump(store) == before
    assert confirm(store, ALICE, 4) == alices[2:4]
    with store.snapshot() as snapshot:
        account = snapshot.account(ALICE)
        assert account is not None
        assert (account.height, account.final_height) == (4, 4)
        assert all(snapshot.is_confirmed(item) for item in alices)
        assert not snapshot.is_confirmed(chain_of(store, BOB)[0])
        assert not snapshot.is_confirmed(ZERO_HASH)


def test_what_is_confirmed_has_no_undo_record(store: Store) -> None:
    with store.snapshot() as snapshot:
        assert len(snapshot.unconfirmed()) == len(story_blocks())
    confirm(store, ALICE, 3)
    with store.snapshot() as snapshot:
        assert len(list(snapshot.scan(UNDO))) == len(story_blocks()) - 3
        assert snapshot.undo(ALICE, 3) is None
        assert snapshot.undo(ALICE, 4) is not None


def test_a_search_for_unconfirmed_blocks_begins_where_the_last_one_found_some(tmp_path: Path) -> None:
    *blocks, last = story_blocks()
    with open_store(tmp_path) as store:
        land(store, *blocks)
        older = store.snapshot()
        for identity in story_hashes()[:-1]:
            with store.transaction() as transaction:
                transaction.confirm_with_ancestors(identity)
                transaction.commit()
        with store.snapshot() as snapshot:
            assert snapshot.unconfirmed_heads() == []
        with store.snapshot() as snapshot:
            assert snapshot.unconfirmed() == []
        with older:
            assert len(older.unconfirmed()) == len(blocks)  # what was searched later is not its matter
        land(store, last)
        with store.snapshot() as snapshot:
            assert [item.block for item in snapshot.unconfirmed_heads()] == [last]
            assert [item.block for item in snapshot.unconfirmed()] == [last]


def test_unconfirmed_blocks_by_account_and_height(store: Store) -> None:
    confirm(store, ALICE, 3)
    with store.snapshot() as snapshot:
        found = snapshot.unconfirmed()
        assert [item.block_hash for item in found if item.block.account == ALICE] == chain_of(store, ALICE)[3:]
        places = [(item.block.account, item.height) for item in found]
        assert places == sorted(places)
        assert len(places) == len(story_blocks()) - 3
        assert snapshot.unconfirmed(after=places[2], limit=2) == found[3:5]


@pytest.mark.parametrize(("account", "height"), [(ALICE, 5), (ALICE, -1), (address_of("nobody"), 1)])
def test_beyond_the_chain_is_refused(store: Store, account: Address, height: int) -> None:
    with store.transaction() as transaction, pytest.raises(InvariantBroken, match="reach"):
        transaction.confirm(account, height)


def test_a_source_is_confirmed_first(store: Store) -> None:
    before = dump(store)
    with store.transaction() as transaction:
        with pytest.raises(InvariantBroken, match="confirmed first"):
            transaction.confirm(CAROL, 2)  # her first block receives Alice's send
        transaction.commit()
    assert dump(store) == before
    with store.transaction() as transaction:
        transaction.confirm(ALICE, 1)
        transaction.confirm(CAROL, 2)
        transaction.commit()
    assert verify_store(store) == []


def test_with_ancestors(store: Store) -> None:
    hashes = story_hashes()
    # Bob's settle rests on his accept, that on Alice's second lease, and that on her chain; not on Carol's
    assert confirm_all(store, hashes[7]) == [hashes[index] for index in (0, 3, 4, 5, 6, 7)]
    assert confirm_all(store, hashes[7]) == []
    # Carol's force-settle rests on Bob's second accept, that on her lease, and that on all of her chain
    assert confirm_all(store, hashes[10]) == [hashes[index] for index in (1, 2, 8, 9, 10)]
    with store.snapshot() as snapshot:
        assert sorted(item.block_hash for item in snapshot.unconfirmed()) == sorted(hashes[11:])
    with store.transaction() as transaction, pytest.raises(InvariantBroken, match="not in the ledger"):
        transaction.confirm_with_ancestors(ZERO_HASH)


def test_a_new_block_confirms_nothing(store: Store) -> None:
    confirm(store, ALICE, 4)
    ledger = MemoryLedger(GENESIS)
    with store.transaction() as transaction:
        stage(transaction, ledger.chain("alice").send(transaction, BOB, 1))
        transaction.commit()
    assert confirm(store, ALICE, 4) == []
    with store.snapshot() as snapshot:
        assert len(snapshot.unconfirmed()) == len(story_blocks()) - 4 + 1


def spendable(store: Store, address: Address) -> tuple[int, int]:
    with store.snapshot() as snapshot:
        found = snapshot.spendable(address)
        return found[Asset.XUSD], found[Asset.XE]


def test_spendable_is_confirmed_and_not_spent(tmp_path: Path) -> None:
    ledger = MemoryLedger(GENESIS)
    alice, carol = ledger.chain("alice"), ledger.chain("carol")
    with open_store(tmp_path / "other") as store:
        assert spendable(store, ALICE) == (RICH, 0)  # the opening supply needs no confirmation
        assert spendable(store, CAROL) == (0, 0)
        send = ledger.play(alice.send(ledger, CAROL, 50))
        ledger.play(carol.receive(ledger, send))
        land(store, *ledger.blocks.values())
        assert spendable(store, ALICE) == (RICH - 50, 0)  # spent, be it confirmed or not
        assert spendable(store, CAROL) == (0, 0)  # received, and not confirmed
        confirm(store, ALICE, 1)
        confirm(store, CAROL, 1)
        assert spendable(store, CAROL) == (50, 0)
        land(store, carol.claim(ledger))
        assert spendable(store, CAROL) == (50, 0)
        confirm(store, CAROL, 2)
        assert spendable(store, CAROL) == (150, 0)


def test_minted_xe_is_spendable_once_confirmed(store: Store) -> None:
    with store.snapshot() as snapshot:
        bob = snapshot.account(BOB)
        assert bob is not None
        assert bob.xe > 0
    assert spendable(store, BOB)[1] == 0
    confirm_all(store, story_hashes()[11])
    assert spendable(store, BOB) == (bob.xusd, bob.xe)
