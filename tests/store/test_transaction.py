"""What a transaction sees, lands, and refuses to land."""

from pathlib import Path

import pytest

from tests.support.ledger import Chain, MemoryLedger, address_of, make_genesis
from tests.support.store import (
    GENESIS,
    NOTES,
    dump,
    facts,
    land,
    land_step,
    open_store,
    stage,
    story_blocks,
    story_hashes,
    story_steps,
)
from xnode.core.blocks import block_hash
from xnode.core.genesis import Allocation
from xnode.core.ledger import Bucket, Context, Effects, Move
from xnode.core.rules import judge
from xnode.core.values import U64_MAX, ZERO_HASH, Asset
from xnode.store import landed
from xnode.store.invariants import InvariantBroken
from xnode.store.schema import NOTE_BYTES_MAX, NOTE_KEY_BYTES_MAX
from xnode.store.store import Store
from xnode.store.transaction import Transaction
from xnode.store.verify import verify_store


def test_blocks_that_build_on_each_other_land_in_one_write(tmp_path: Path) -> None:
    calls: list[int] = []
    with open_store(tmp_path) as store:
        store.on_write = lambda: calls.append(1)
        with store.transaction() as transaction:
            hashes = [stage(transaction, block) for block in story_blocks()]
            assert all(transaction.has_block(item) for item in hashes)
            assert transaction.counts().blocks == len(hashes)
            with store.snapshot() as snapshot:
                assert snapshot.counts().blocks == 0  # nothing is seen outside before the commit
            transaction.commit()
        assert len(calls) == 2
        with store.snapshot() as snapshot:
            assert [item.block_hash for item in snapshot.blocks_since(0)] == hashes
        assert verify_store(store) == []


def test_what_is_not_committed_is_gone(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        with store.transaction() as transaction:
            stage(transaction, story_blocks()[0])
        with store.snapshot() as snapshot:
            assert snapshot.counts().blocks == 0
        land(store, story_blocks()[0])
        assert verify_store(store) == []


def test_it_is_over_after_its_commit(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        transaction = store.transaction()
        effects = judge(transaction, story_blocks()[0], Context(GENESIS, None))
        assert isinstance(effects, Effects)
        transaction.commit()
        acts = (
            transaction.commit,
            transaction.tally,
            lambda: transaction.stage(effects),
            lambda: transaction.account(address_of("alice")),
            lambda: transaction.has_block(ZERO_HASH),
            lambda: transaction.put_note(NOTES, b"k", b""),
            lambda: transaction.delete_note(NOTES, b"k"),
        )
        for act in acts:
            with pytest.raises(RuntimeError, match="over"):
                act()


def test_a_prepared_one_lands_what_was_staged_and_takes_no_more(tmp_path: Path) -> None:
    first, second, *_ = story_blocks()
    with open_store(tmp_path / "a") as store, open_store(tmp_path / "b") as other:
        transaction = store.transaction()
        stage(transaction, first)
        transaction.prepare()
        assert transaction.counts().blocks == 1
        for act in (
            transaction.prepare,
            lambda: stage(transaction, second),
            lambda: transaction.put_note(NOTES, b"k", b""),
            lambda: transaction.delete_note(NOTES, b"k"),
            lambda: transaction.confirm(first.account, 1),
            lambda: transaction.rollback(block_hash(GENESIS.network_key, first)),
        ):
            with pytest.raises(RuntimeError, match="commit or discard it"):
                act()
        transaction.commit()
        land(other, first)
        assert dump(store) == dump(other)
        land(store, second)
        assert verify_store(store) == []


def test_a_prepared_one_may_be_discarded(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        with store.transaction() as transaction:
            stage(transaction, story_blocks()[0])
            transaction.prepare()
        with store.snapshot() as snapshot:
            assert snapshot.counts().blocks == 0
        land(store, *story_blocks())
        assert verify_store(store) == []


@pytest.mark.parametrize("accounts_max", [1, 2, 8_192])
def test_what_is_known_of_the_rows_on_disk_is_bounded_and_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accounts_max: int
) -> None:
    monkeypatch.setattr(landed, "ACCOUNTS_MAX", accounts_max)
    with open_store(tmp_path) as store:
        for step in story_steps():
            land_step(store, step)
        assert verify_store(store) == []


def test_a_block_taken_back_and_applied_again_in_one_write_leaves_the_right_rows(tmp_path: Path) -> None:
    blocks, hashes = story_blocks(), story_hashes()
    with open_store(tmp_path / "a") as store, open_store(tmp_path / "b") as other:
        land(store, *blocks)
        with store.transaction() as transaction:
            gone = transaction.rollback_with_descendants(hashes[8])
            for stored in reversed(gone):
                stage(transaction, stored.block)
            transaction.confirm_with_ancestors(hashes[8])
            transaction.commit()
        assert verify_store(store) == []
        land(other, *blocks)
        with other.transaction() as transaction:
            transaction.confirm_with_ancestors(hashes[8])
            transaction.commit()
        assert facts(store)[0] == facts(other)[0]


def test_only_one_is_open(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        first = store.transaction()
        with pytest.raises(RuntimeError, match="a transaction is open"):
            store.transaction()
        first.discard()
        store.transaction().commit()
        store.transaction().discard()


def test_an_empty_one_writes_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.on_write = lambda: pytest.fail("a write")
        store.transaction().commit()


def test_notes(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        with store.transaction() as transaction:
            transaction.put_note(NOTES, b"a", b"1")
            transaction.put_note(NOTES, b"b", b"2")
            transaction.put_note(NOTES, b"gone", b"3")
            transaction.delete_note(NOTES, b"gone")
            transaction.delete_note(NOTES, b"never there")
            transaction.put_note("test.other", b"a", b"4")
            assert transaction.note(NOTES, b"a") == b"1"
            assert transaction.note(NOTES, b"gone") is None
            transaction.commit()
        with store.snapshot() as snapshot:
            assert list(snapshot.notes(NOTES, 10)) == [(b"a", b"1"), (b"b", b"2")]
            assert list(snapshot.notes(NOTES, 1)) == [(b"a", b"1")]
            assert list(snapshot.notes(NOTES, 10, after=b"a")) == [(b"b", b"2")]
            assert snapshot.note("test.other", b"a") == b"4"
            assert snapshot.note(NOTES, b"gone") is None
        assert verify_store(store) == []


@pytest.mark.parametrize(
    ("space", "key", "value"),
    [
        ("", b"k", b""),
        ("Upper", b"k", b""),
        ("a" * 33, b"k", b""),
        (NOTES, b"k" * (NOTE_KEY_BYTES_MAX + 1), b""),
        (NOTES, b"k", b"v" * (NOTE_BYTES_MAX + 1)),
    ],
)
def test_notes_have_limits(tmp_path: Path, space: str, key: bytes, value: bytes) -> None:
    with open_store(tmp_path) as store, store.transaction() as transaction, pytest.raises(ValueError, match="note"):
        transaction.put_note(space, key, value)


def good_send(transaction: Transaction) -> Effects:
    effects = judge(transaction, story_blocks()[0], Context(GENESIS, None))
    assert isinstance(effects, Effects)
    assert effects.pending_put is not None
    return effects


def spoiled(effects: Effects, how: str) -> Effects:
    """The same effects with one thing wrong that the rules would never make."""
    account, entry = effects.account, effects.pending_put
    assert entry is not None
    minted = (*effects.moves, Move(Asset.XUSD, Bucket.BALANCES, 1))
    return {
        "height": effects._replace(account=account._replace(height=2)),
        "head": effects._replace(account=account._replace(head=ZERO_HASH)),
        "account": effects._replace(account=account._replace(address=address_of("bob"))),
        "previous": effects._replace(block=effects.block._replace(previous=entry.source)),
        "balance": effects._replace(account=account._replace(xusd=account.xusd + 1)),
        "other asset": effects._replace(account=account._replace(xe=5)),
        "negative": effects._replace(account=account._replace(xusd=-1)),
        "over u64": effects._replace(account=account._replace(xe=U64_MAX + 1)),
        "pending": effects._replace(pending_put=entry._replace(amount=entry.amount + 1)),
        "no pending": effects._replace(pending_put=None),
        "nothing to delete": effects._replace(pending_put=None, pending_delete=entry),
        "moves": effects._replace(moves=minted),
    }[how]


HOW = ["height", "head", "account", "previous", "balance", "other asset", "negative", "over u64", "pending"]
HOW += ["no pending", "nothing to delete", "moves"]


@pytest.mark.parametrize("how", HOW)
def test_effects_that_break_an_invariant_stage_nothing(tmp_path: Path, how: str) -> None:
    with open_store(tmp_path) as store:
        with store.transaction() as transaction:
            good = good_send(transaction)
            with pytest.raises(InvariantBroken):
                transaction.stage(spoiled(good, how))
            transaction.stage(good)  # it left nothing behind
            with pytest.raises(InvariantBroken):
                transaction.stage(good)  # twice
            transaction.commit()
        assert verify_store(store) == []


def test_totals_are_checked_before_the_write(tmp_path: Path) -> None:
    """Effects that agree with themselves and make money all the same."""
    with open_store(tmp_path) as store:
        store.on_write = lambda: pytest.fail("a write")
        with store.transaction() as transaction:
            good = good_send(transaction)
            account = good.account._replace(xusd=good.account.xusd + 7)
            transaction.stage(good._replace(account=account, moves=(*good.moves, Move(Asset.XUSD, Bucket.BALANCES, 7))))
            with pytest.raises(InvariantBroken, match="supply"):
                transaction.commit()
        with store.transaction() as transaction:
            good = good_send(transaction)
            burnt = (Move(Asset.XE, Bucket.BURNT, -1), Move(Asset.XE, Bucket.STAKE, 1))
            transaction.stage(good._replace(moves=(*good.moves, *burnt)))
            with pytest.raises(InvariantBroken, match="below zero"):
                transaction.commit()


def test_totals_may_pass_u64(tmp_path: Path) -> None:
    """A balance is u64, the sum of all of them need not be."""
    genesis = make_genesis(allocations=(Allocation(address_of("alice"), Asset.XUSD, U64_MAX),))
    claim = Chain(genesis, "bob").claim(MemoryLedger(genesis))
    with Store.open(tmp_path / "store", genesis, reads_back=True) as store:
        with store.transaction() as transaction:
            effects = judge(transaction, claim, Context(genesis, None))
            assert isinstance(effects, Effects)
            transaction.stage(effects)
            transaction.commit()
        with store.snapshot() as snapshot:
            assert snapshot.supply()[(Asset.XUSD, Bucket.BALANCES)] == U64_MAX + genesis.faucet.amount
        assert verify_store(store) == []
