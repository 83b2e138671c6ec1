"""What a provider has promised by its offers (protocol section 11).

Theory of operation. An offer holds its capacity until it ends. What was asked for is remembered for longer, since its
lease may be confirmed, or come back from peers after a restart, long after that: until no lease of that time would be
booted any more. A lease block names no request, so a lease is told by consumer, access key, duration and resources;
where several fit, the newest is the one that the consumer went on with.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from xnode.core.codec import Malformed, decode, encode
from xnode.core.lease import LeaseRecord, Resources
from xnode.core.provision import ACCEPT_WITHIN
from xnode.core.records import read_bytes32, read_int, read_resources, read_text
from xnode.core.values import HASH_BYTES, Address, Hash, PublicKey

RESERVATIONS_MAX: Final = 1_000  # that hold capacity
REMEMBERED_MAX: Final = 4_000  # in all; the oldest goes first
REMEMBERED_FOR: Final = ACCEPT_WITHIN  # ns after the offer's end


class Key(NamedTuple):
    """By consumer and request id: anybody can copy an id."""

    consumer: Address
    request_id: Hash

    def pack(self) -> bytes:
        """64 bytes."""
        return self.consumer + self.request_id


class Reservation(NamedTuple):
    """What an offer promised, `duration` in s: capacity until `until` (ns), and the image."""

    resources: Resources
    duration: int
    access_pub_key: PublicKey
    image: str
    until: int

    def pack(self) -> bytes:
        """The canonical record."""
        return encode(tuple(self))


def unpack(key: bytes, value: bytes) -> tuple[Key, Reservation]:
    """The reverse of both `pack`s; raises Malformed."""
    if len(key) != 2 * HASH_BYTES:
        raise Malformed("a reservation's key has 64 bytes")
    match decode(value):
        case (resources, duration, access_pub_key, image, until):
            reservation = Reservation(
                read_resources(resources, "resources"),
                read_int(duration, "duration"),
                PublicKey(read_bytes32(access_pub_key, "access_pub_key")),
                read_text(image, "image"),
                read_int(until, "until"),
            )
            return Key(Address(key[:HASH_BYTES]), Hash(key[HASH_BYTES:])), reservation
    raise Malformed("a reservation has five fields")


class Reservations:
    """All of one provider, the oldest first."""

    def __init__(self, known: Iterable[tuple[Key, Reservation]] = ()) -> None:
        self._items: dict[Key, Reservation] = dict(sorted(known, key=lambda pair: pair[1].until))

    def reserve(self, key: Key, reservation: Reservation, now: int) -> bool:
        """Holds it; False where there are too many or this request is already held."""
        if key in self._items or len(self.held(now)) >= RESERVATIONS_MAX:
            return False
        self._items[key] = reservation
        return True

    def find(self, lease: LeaseRecord) -> Key | None:
        """The reservation that a lease answers, whether its offer has ended or not."""
        fitting = (key for key, item in reversed(self._items.items()) if _is_for(key, item, lease))
        return next(fitting, None)

    def get(self, key: Key) -> Reservation | None:
        """One of them."""
        return self._items.get(key)

    def free(self, key: Key) -> None:
        """Forgets it: a lease counts in its place, or nobody needs it."""
        self._items.pop(key, None)

    def held(self, now: int, without: Key | None = None) -> tuple[Resources, ...]:
        """What is held now, that of `without` not counted."""
        return tuple(item.resources for key, item in self._items.items() if item.until > now and key != without)

    def forget(self, now: int) -> tuple[Key, ...]:
        """Forgets what nobody can need any more; which these were."""
        over = len(self._items) - REMEMBERED_MAX
        gone = tuple(
            key
            for number, (key, item) in enumerate(self._items.items())
            if number < over or item.until + REMEMBERED_FOR <= now
        )
        for key in gone:
            del self._items[key]
        return gone


def _is_for(key: Key, item: Reservation, lease: LeaseRecord) -> bool:
    asked = (key.consumer, item.resources, item.duration, item.access_pub_key)
    return asked == (lease.consumer, lease.resources, lease.duration, lease.access_pub_key)
