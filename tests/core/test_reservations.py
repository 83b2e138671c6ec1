"""What offers promise: held until they end, remembered until no lease of them would be booted (protocol section 11)."""

import pytest

from tests.support.ledger import NOW, address_of, key_of
from xnode.core.codec import Malformed, encode
from xnode.core.lease import LeaseRecord, LeaseState, Resources
from xnode.core.market import OFFER_VALID_FOR
from xnode.core.provision import ACCEPT_WITHIN
from xnode.core.reservations import (
    REMEMBERED_FOR,
    REMEMBERED_MAX,
    RESERVATIONS_MAX,
    Key,
    Reservation,
    Reservations,
    unpack,
)
from xnode.core.values import ZERO_HASH, Address, Hash, PublicKey

ALICE, BOB = address_of("alice"), address_of("bob")
ACCESS = key_of("access").public_key
SOME = Resources(2, 1024, 10)
UNTIL = NOW + OFFER_VALID_FOR
PROMISE = Reservation(SOME, 60, ACCESS, "debian-12", UNTIL)
LEASE = LeaseRecord(
    lease_hash=Hash(b"l" * 32),
    consumer=ALICE,
    provider=BOB,
    resources=SOME,
    duration=60,
    access_pub_key=ACCESS,
    cost=1,
    stake=1,
    multiplier_milli=1000,
    certificate_hash=ZERO_HASH,
    created_at=NOW,
    state=LeaseState.CREATED,
    start_time=0,
    host_key=PublicKey(bytes(32)),
    accept_hash=ZERO_HASH,
    end_hash=ZERO_HASH,
)


def key(number: int, consumer: Address = ALICE) -> Key:
    return Key(consumer, Hash(number.to_bytes(32)))


def holding(*promises: Reservation) -> Reservations:
    reservations = Reservations()
    for number, promise in enumerate(promises):
        assert reservations.reserve(key(number), promise, NOW)
    return reservations


def test_a_reservation_is_held_until_its_offer_ends() -> None:
    reservations = holding(PROMISE)
    assert reservations.held(UNTIL - 1) == (SOME,)
    assert reservations.held(UNTIL - 1, key(0)) == ()
    assert reservations.held(UNTIL) == ()


def test_a_request_is_reserved_once() -> None:
    reservations = holding(PROMISE)
    assert not reservations.reserve(key(0), PROMISE, NOW)
    assert reservations.reserve(key(0, BOB), PROMISE, NOW)  # an id that somebody copied takes nothing away
    assert reservations.held(NOW) == (SOME, SOME)


def test_a_lease_finds_its_reservation_also_when_the_offer_has_ended() -> None:
    reservations = holding(PROMISE)
    assert reservations.find(LEASE) == key(0)
    assert reservations.get(key(0)) == PROMISE
    assert reservations.held(UNTIL) == ()
    assert reservations.find(LEASE) == key(0)
    reservations.free(key(0))
    reservations.free(key(0))
    assert (reservations.find(LEASE), reservations.get(key(0))) == (None, None)


@pytest.mark.parametrize(
    "other",
    [
        {"consumer": BOB},
        {"resources": SOME._replace(vcpus=1)},
        {"duration": 61},
        {"access_pub_key": key_of("other").public_key},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_lease_of_something_else_finds_none(other: dict[str, object]) -> None:
    assert holding(PROMISE).find(LEASE._replace(**other)) is None  # type: ignore[arg-type]


def test_of_several_that_fit_the_newest_is_found() -> None:
    reservations = holding(PROMISE, PROMISE._replace(image="tiny", until=UNTIL + 1))
    assert reservations.find(LEASE) == key(1)
    reservations.free(key(1))
    assert reservations.find(LEASE) == key(0)


def test_reservations_have_a_limit_until_some_end() -> None:
    first = PROMISE._replace(until=UNTIL - 1)
    reservations = holding(first, *[PROMISE] * (RESERVATIONS_MAX - 1))
    assert not reservations.reserve(key(RESERVATIONS_MAX), PROMISE, NOW)
    assert reservations.reserve(key(RESERVATIONS_MAX), PROMISE, UNTIL - 1)


def test_what_no_lease_can_need_is_forgotten() -> None:
    assert REMEMBERED_FOR == ACCEPT_WITHIN
    reservations = holding(PROMISE, PROMISE._replace(until=UNTIL + 1))
    assert reservations.forget(UNTIL + REMEMBERED_FOR - 1) == ()
    assert reservations.forget(UNTIL + REMEMBERED_FOR) == (key(0),)
    assert reservations.find(LEASE) == key(1)


def test_no_more_than_a_limit_are_remembered_and_the_oldest_go() -> None:
    known = [(key(number), PROMISE._replace(until=NOW + number)) for number in reversed(range(REMEMBERED_MAX + 2))]
    reservations = Reservations(known)
    assert reservations.forget(NOW) == (key(0), key(1))
    assert reservations.forget(NOW) == ()


def test_both_halves_survive_being_written() -> None:
    assert unpack(key(7).pack(), PROMISE.pack()) == (key(7), PROMISE)


@pytest.mark.parametrize(
    ("packed_key", "packed"),
    [
        (key(7).pack()[1:], PROMISE.pack()),
        (key(7).pack(), b""),
        (key(7).pack(), encode(tuple(PROMISE)[:-1])),
        (key(7).pack(), encode(tuple(PROMISE._replace(image=7)))),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_reservation_is_refused(packed_key: bytes, packed: bytes) -> None:
    with pytest.raises(Malformed):
        unpack(packed_key, packed)
