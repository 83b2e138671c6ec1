"""Weights of representatives, kept as blocks come and go, against sums over all accounts."""

from pathlib import Path

from tests.support.ledger import RICH, MemoryLedger, address_of
from tests.support.store import GENESIS, land, open_store, stage, story_blocks
from xnode.core.ledger import AccountRecord
from xnode.core.values import Address
from xnode.store.snapshot import Snapshot
from xnode.store.store import Store
from xnode.store.verify import verify_store


def summed(accounts: list[AccountRecord]) -> list[tuple[Address, int]]:
    """The naive weights, the heaviest first."""
    weights: dict[Address, int] = {}
    for account in accounts:
        weights[account.representative] = weights.get(account.representative, 0) + account.xusd
    return sorted(((who, weight) for who, weight in weights.items() if weight), key=lambda item: (-item[1], item[0]))


def check(snapshot: Snapshot) -> None:
    right = summed(snapshot.accounts())
    assert snapshot.representatives() == right
    assert all(snapshot.weight(who) == weight for who, weight in right)
    assert snapshot.total_weight() == sum(weight for _, weight in right)


def test_after_every_block_and_every_rollback(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        hashes = []
        for block in story_blocks():
            hashes += land(store, block)
            with store.snapshot() as snapshot:
                check(snapshot)
        for block_hash in reversed(hashes):
            with store.transaction() as transaction:
                transaction.rollback(block_hash)
                transaction.commit()
            with store.snapshot() as snapshot:
                check(snapshot)


def test_a_new_store_has_those_of_the_genesis(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, store.snapshot() as snapshot:
        assert snapshot.representatives() == [(GENESIS.representative, 2 * RICH)]
        assert snapshot.weight(address_of("nobody")) == 0


def test_pending_and_escrow_do_not_count(tmp_path: Path) -> None:
    ledger = MemoryLedger(GENESIS)
    alice = ledger.chain("alice")
    with open_store(tmp_path) as store:
        ledger.play(alice.send(ledger, address_of("carol"), 1000))
        ledger.play(alice.lease(ledger, address_of("bob")))
        land(store, *ledger.blocks.values())
        with store.snapshot() as snapshot:
            lease = snapshot.leases()[0]
            assert snapshot.total_weight() == 2 * RICH - 1000 - lease.cost


def test_a_representative_moves_the_whole_account(tmp_path: Path) -> None:
    ledger = MemoryLedger(GENESIS)
    carol, dave = address_of("carol"), address_of("dave")
    with open_store(tmp_path) as store:
        with store.transaction() as transaction:
            stage(transaction, ledger.chain("alice").send(transaction, dave, 1, representative=carol))
            assert transaction.weight(carol) == RICH - 1  # seen before it lands
            stage(transaction, ledger.chain("bob").send(transaction, dave, 1, representative=carol))
            assert transaction.total_weight() == 2 * RICH - 2
            transaction.commit()
        with store.snapshot() as snapshot:
            assert snapshot.representatives() == [(carol, 2 * RICH - 2)]  # who has lost all is gone
        assert verify_store(store) == []


def many_representatives(store: Store) -> None:
    """Each of forty accounts stands for itself, some with as much as others."""
    ledger = MemoryLedger(GENESIS)
    alice = ledger.chain("alice")
    with store.transaction() as transaction:
        for index in range(40):
            holder = ledger.chain(f"holder-{index}")
            send = stage(transaction, alice.send(transaction, holder.address, 1 + index % 7))
            stage(transaction, holder.receive(transaction, send, representative=holder.address))
        transaction.commit()


def test_page_by_page_the_heaviest_first(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        many_representatives(store)
        with store.snapshot() as snapshot:
            right = summed(snapshot.accounts())
            found = snapshot.representatives(limit=7)
            while page := snapshot.representatives(after=found[-1].address, limit=7):
                found += page
            assert found == right
            assert len(found) == 41
            assert snapshot.representatives(after=address_of("nobody")) == []
