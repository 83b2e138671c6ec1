"""What a provider has left: nothing counts twice, nothing is promised twice, nothing is kept for ever."""

from pathlib import Path

from tests.support.ledger import DAY, NOW, SMALL, Chain, address_of
from tests.support.store import GENESIS, land, open_store
from xnode.core.lease import LeaseState, Resources
from xnode.core.market import NOTHING, OFFER_VALID_FOR, Request
from xnode.core.values import Hash
from xnode.roles.capacity import Capacity
from xnode.store.store import Store

ALICE, BOB = Chain(GENESIS, "alice"), Chain(GENESIS, "bob")
TWICE = Resources(*(2 * value for value in SMALL))


def request(number: int, resources: Resources = SMALL) -> Request:
    return Request(Hash(bytes([number]) * 32), address_of("alice"), resources, DAY, "debian-12", NOW)


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
        assert [capacity.reserve(request(number), NOW) for number in (1, 2, 3)] == [True, True, False]
        assert capacity.available(NOW) == NOTHING
        assert capacity.available(NOW + OFFER_VALID_FOR) == TWICE


def test_a_lease_counts_once_from_offer_to_end(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        capacity = capacity_of(store)
        assert capacity.reserve(request(1), NOW)
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


def test_a_lease_without_an_offer_takes_only_what_is_free(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        capacity = capacity_of(store, SMALL)
        open_lease(store)
        lease = capacity.leases(LeaseState.CREATED)[0]
        assert capacity.reserve(request(1)._replace(consumer=address_of("anna")), NOW)
        assert not capacity.admit(lease, NOW), "it is promised to anna"
        assert capacity.admit(lease, NOW + OFFER_VALID_FOR)
        assert capacity.image_of(lease.lease_hash) == ""


def test_only_current_leases_are_kept(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        capacity = capacity_of(store)
        lease_hash = open_lease(store)
        capacity.count_in(capacity.leases(LeaseState.CREATED)[0], "debian-12")
        assert capacity.available(NOW) == SMALL
        capacity.keep_only({lease_hash})
        assert capacity.available(NOW) == SMALL
        capacity.keep_only(set())
        assert capacity.available(NOW) == TWICE
