"""What a provider has left: nothing counts twice, nothing is promised twice, nothing is kept for ever."""

from pathlib import Path

import pytest

from tests.support.ledger import DAY, NOW, SMALL, Chain, address_of, key_of
from tests.support.store import GENESIS, land, open_store, stage
from xnode.core.lease import LeaseState, Resources
from xnode.core.market import NOTHING, OFFER_VALID_FOR, Request
from xnode.core.provision import ACCEPT_WITHIN, CANCEL_AFTER
from xnode.core.values import Hash
from xnode.roles.capacity import IMAGES, LEASES_MAX, PROMISES, Capacity
from xnode.store.store import Store

ALICE, BOB = Chain(GENESIS, "alice"), Chain(GENESIS, "bob")
TWICE = Resources(*(2 * value for value in SMALL))


def request(number: int, resources: Resources = SMALL) -> Request:
    access = key_of("alice-access").public_key
    return Request(Hash(bytes([number]) * 32), address_of("alice"), resources, DAY, access, "", NOW)


def reserve(capacity: Capacity, number: int, image: str = "debian-12", now: int = NOW, consumer: str = "alice") -> bool:
    return capacity.reserve(request(number)._replace(consumer=address_of(consumer)), image, now)


def capacity_of(store: Store, whole: Resources = TWICE) -> Capacity:
    return Capacity(store, address_of("bob"), whole)


def open_lease(store: Store) -> Hash:
    with store.snapshot() as view:
        block = ALICE.lease(view, BOB.address)
    return land(store, block)[0]


def accept(store: Store, lease_hash: Hash) -> None:
    with store.snapshot() as view:
        block = BOB.accept(view, lease_hash)
    land(store, block)


def test_offers_hold_capacity_until_they_end(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        capacity = capacity_of(store)
        assert [reserve(capacity, number) for number in (1, 2, 3)] == [True, True, False]
        assert capacity.available(NOW) == NOTHING
        assert capacity.available(NOW + OFFER_VALID_FOR) == TWICE


def test_a_lease_counts_once_from_offer_to_end(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        capacity = capacity_of(store)
        assert reserve(capacity, 1)
        lease_hash = open_lease(store)
        lease = capacity.leases(LeaseState.CREATED)[0]
        assert capacity.available(NOW) == SMALL
        assert capacity.admit(lease, NOW)
        assert capacity.admit(lease, NOW)
        assert capacity.available(NOW) == SMALL
        assert capacity.image_of(lease_hash) == "debian-12"
        accept(store, lease_hash)
        assert capacity.available(NOW) == SMALL, "the ledger counts it now, and it is not counted twice"
        capacity.release(lease_hash)
        assert capacity.available(NOW) == SMALL
        with store.snapshot() as view:
            block = BOB.settle(view, lease_hash)
        land(store, block)
        assert capacity.available(NOW) == TWICE


def test_a_lease_that_its_provider_has_lost_holds_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        capacity = capacity_of(store)
        lease_hash = open_lease(store)
        accept(store, lease_hash)
        assert (capacity.available(NOW), capacity.active(), capacity.pending(NOW, ())) == (SMALL, 1, [SMALL])
        capacity.write_off({lease_hash})
        assert (capacity.available(NOW), capacity.active(), capacity.pending(NOW, ())) == (TWICE, 0, [])
        assert capacity.unleased() == TWICE
        capacity.write_off(())
        assert (capacity.available(NOW), capacity.active()) == (SMALL, 1), "its machine is here after all"


def test_a_lease_without_an_offer_takes_only_what_is_free(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        capacity = capacity_of(store, SMALL)
        open_lease(store)
        lease = capacity.leases(LeaseState.CREATED)[0]
        assert reserve(capacity, 1, consumer="anna")
        assert not capacity.admit(lease, NOW), "it is promised to anna"
        assert capacity.admit(lease, NOW + OFFER_VALID_FOR)
        assert capacity.image_of(lease.lease_hash) == ""


def test_only_current_leases_are_kept(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        capacity = capacity_of(store)
        lease_hash = open_lease(store)
        capacity.count_in(capacity.leases(LeaseState.CREATED)[0])
        assert capacity.available(NOW) == SMALL
        capacity.keep_only({lease_hash})
        assert capacity.available(NOW) == SMALL
        capacity.keep_only(set())
        assert capacity.available(NOW) == TWICE


def notes(store: Store) -> tuple[int, int]:
    """How many promises and images are on disk."""
    with store.snapshot() as view:
        promises, images = (len(list(view.notes(space, 100))) for space in (PROMISES, IMAGES))
    return promises, images


def test_a_lease_gets_its_image_when_the_node_dies_after_the_offer(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert reserve(capacity_of(store), 1)
        lease_hash = open_lease(store)
    with open_store(tmp_path) as store:
        capacity = capacity_of(store)
        assert capacity.available(NOW) == SMALL
        late = NOW + ACCEPT_WITHIN - 1
        assert capacity.available(late) == TWICE
        assert capacity.admit(capacity.leases(LeaseState.CREATED)[0], late)
        assert capacity.image_of(lease_hash) == "debian-12"
        assert notes(store) == (0, 1)


def test_a_lease_gets_its_image_when_the_node_dies_before_there_is_a_machine(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        capacity = capacity_of(store)
        assert reserve(capacity, 1)
        lease_hash = open_lease(store)
        assert capacity.admit(capacity.leases(LeaseState.CREATED)[0], NOW)
    with open_store(tmp_path) as store:
        capacity = capacity_of(store)
        (lease,) = capacity.leases(LeaseState.CREATED)
        assert capacity.wanted_image(lease) == "debian-12"
        assert capacity.admit(lease, NOW)
        assert capacity.image_of(lease_hash) == "debian-12"
        capacity.keep_only({lease_hash})
        assert notes(store) == (0, 1)
        capacity.keep_only(set())
        assert notes(store) == (0, 0)
        assert capacity.image_of(lease_hash) == ""


def test_two_requests_of_one_size_keep_their_images(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        capacity = capacity_of(store)
        other = request(2)._replace(access_pub_key=key_of("other-access").public_key)
        assert reserve(capacity, 1, "debian-12")
        assert capacity.reserve(other, "tiny", NOW)
        lease_hash = open_lease(store)
        assert capacity.admit(capacity.leases(LeaseState.CREATED)[0], NOW)
        assert capacity.image_of(lease_hash) == "debian-12"
        assert notes(store) == (1, 1)


def test_promises_that_nobody_took_go_with_a_later_offer(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        capacity = capacity_of(store)
        assert reserve(capacity, 1)
        assert reserve(capacity, 2, now=NOW + OFFER_VALID_FOR)
        assert notes(store) == (2, 0)
        assert reserve(capacity, 3, now=NOW + OFFER_VALID_FOR + ACCEPT_WITHIN)
        assert notes(store) == (2, 0)


def test_a_promise_of_another_version_is_left_alone(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        with store.transaction() as transaction:
            transaction.put_note(PROMISES, b"k" * 64, b"another form")
            transaction.commit()
        assert capacity_of(store).available(NOW) == TWICE


@pytest.mark.slow
def test_leases_of_the_past_hide_no_newer_one(tmp_path: Path) -> None:
    """Whoever creates leases and leaves them so gets the money back one day: that must not close a provider."""
    with open_store(tmp_path) as store:
        with store.transaction() as transaction:
            for _ in range(LEASES_MAX + 1):
                stage(transaction, ALICE.lease(transaction, BOB.address, timestamp=NOW))
            transaction.commit()
        with store.snapshot() as view:
            late = NOW + CANCEL_AFTER + 1
            block = ALICE.lease(view, BOB.address, timestamp=late)
        (fresh,) = land(store, block)
        capacity = capacity_of(store)
        assert fresh not in {lease.lease_hash for lease in capacity.leases(LeaseState.CREATED)}
        assert [lease.lease_hash for lease in capacity.waiting(late)] == [fresh]
        assert len(capacity.waiting(NOW + CANCEL_AFTER)) == LEASES_MAX
