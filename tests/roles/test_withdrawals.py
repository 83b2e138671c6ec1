"""What a provider keeps of withdrawn leases: as long as any clock could let it accept them, and no longer."""

from pathlib import Path

from tests.support.ledger import NOW, Chain, address_of, make_genesis
from xnode.core.provision import CANCEL_AFTER
from xnode.core.values import NS, Hash
from xnode.roles.replica import Replica
from xnode.roles.withdrawals import SPACE, Withdrawals
from xnode.store.store import Store


async def _publish(_topic: str, _wire: bytes) -> None:
    pass


def leased(store: Store, times: tuple[int, ...]) -> list[Hash]:
    """ALICE's leases from BOB, created at these times."""
    replica, alice = Replica(store, store.genesis, lambda: NOW, _publish), Chain(store.genesis, "alice")
    found = []
    for time in times:
        with store.snapshot() as view:
            block = alice.lease(view, address_of("bob"), timestamp=time)
        replica.take(block)
        found.append(alice.hash_of(block))
    return found


def noted(store: Store) -> set[bytes]:
    with store.snapshot() as view:
        return {key for key, _ in view.notes(SPACE, 100)}


def test_a_withdrawn_lease_is_remembered_until_it_is_too_old_to_be_accepted(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", make_genesis()) as store:
        first, second = leased(store, (NOW, NOW + 60 * NS))
        book = Withdrawals(store)
        book.add(first, NOW)
        book.add(second, NOW + 60 * NS)
        book.forget_old(NOW + CANCEL_AFTER)
        assert noted(store) == {first, second}
        assert Withdrawals(store).has(first), "also after a restart"
        book.forget_old(NOW + CANCEL_AFTER + 1)
        assert noted(store) == {second}
        assert (book.has(first), book.has(second)) == (False, True)
        book.forget_old(NOW + CANCEL_AFTER + 60 * NS + 1)
        assert not noted(store)


def test_a_lease_that_is_taken_back_and_returns_is_still_withdrawn(tmp_path: Path) -> None:
    """When its time is over is known without the ledger."""
    with Store.open(tmp_path / "store", make_genesis()) as store:
        (lease,) = leased(store, (NOW,))
        book = Withdrawals(store)
        book.add(lease, NOW)
        with store.transaction() as transaction:
            transaction.rollback_with_descendants(lease)
            transaction.commit()
        book.forget_old(NOW + CANCEL_AFTER)
        assert book.has(lease)
        book.forget_old(NOW + CANCEL_AFTER + 1)
        assert not noted(store)


def test_those_of_an_earlier_version_that_never_forgot_leave_in_parts(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", make_genesis()) as store:
        (fresh,) = leased(store, (NOW,))
        with store.transaction() as transaction:
            for lease in (fresh, *(bytes([number]) * 32 for number in range(4))):
                transaction.put_note(SPACE, lease, b"")
            transaction.commit()
        book = Withdrawals(store, looked_at_max=2)
        for _ in range(5):
            book.forget_old(NOW + 1)
        assert noted(store) == {fresh}, "of which the ledger knows that it is fresh"
