"""What a provider has, has promised and has left (protocol section 11). No clock: `now` (ns) is passed in.

Theory of operation. An offer's reservation is a note in the store before the offer is sent, and becomes the note of the
lease's image, in one batch, when the lease is counted in. So whenever the node dies, the lease that comes of the offer
gets the image that was asked for. Both kinds of notes go when nobody can need them any more.
"""

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Final

from xnode.core.codec import Malformed
from xnode.core.lease import LeaseRecord, LeaseState, Resources
from xnode.core.market import OFFER_VALID_FOR, Request, fits, minus
from xnode.core.provision import CANCEL_AFTER
from xnode.core.reservations import REMEMBERED_MAX, Key, Reservation, Reservations, unpack
from xnode.core.values import Address, Hash
from xnode.store.store import Store

LEASES_MAX: Final = 1_000  # live ones of one provider
PROMISES: Final = "promise"  # note space: consumer, request id -> reservation
IMAGES: Final = "lease-image"  # note space: lease hash -> image, for leases that have no machine yet


class Capacity:
    """Counts accepted leases by the ledger, but for lost ones, admitted ones by our word, offers by reservations."""

    def __init__(self, store: Store, address: Address, capacity: Resources) -> None:
        self._store = store
        self._address = address
        self._admitted: dict[Hash, Resources] = {}
        self._written_off: frozenset[Hash] = frozenset()
        self.capacity = capacity
        with store.snapshot() as view:
            self._reservations = Reservations(_readable(view.notes(PROMISES, 2 * REMEMBERED_MAX)))
            self._images = {Hash(key): value.decode() for key, value in view.notes(IMAGES, 2 * LEASES_MAX)}

    def leases(self, state: LeaseState) -> list[LeaseRecord]:
        """Our leases in a state, oldest first."""
        with self._store.snapshot() as view:
            return list(view.leases(state=state, provider=self._address, limit=LEASES_MAX))

    def waiting(self, now: int) -> list[LeaseRecord]:
        """Our created leases that may be accepted yet, oldest first: those that nobody cancels must not hide them."""
        since = max(0, now - CANCEL_AFTER)
        with self._store.snapshot() as view:
            return view.leases(LeaseState.CREATED, provider=self._address, limit=LEASES_MAX, since=since)

    def available(self, now: int, promise: Key | None = None) -> Resources:
        """What an offer may still promise; `promise` is a reservation that is not to be counted."""
        return minus(self.capacity, [*self._leased().values(), *self._reservations.held(now, promise)])

    def pending(self, now: int, made: Collection[Hash], promise: Key | None = None) -> list[Resources]:
        """What is promised or leased and has no machine yet among those `made`."""
        leased = [resources for lease_hash, resources in self._leased().items() if lease_hash not in made]
        return [*leased, *self._reservations.held(now, promise)]

    def unleased(self) -> Resources:
        """What is on offer and not leased, promised or not."""
        return minus(self.capacity, self._leased().values())

    def _leased(self) -> dict[Hash, Resources]:
        return self._admitted | {lease.lease_hash: lease.resources for lease in self._accepted()}

    def _accepted(self) -> list[LeaseRecord]:
        return [item for item in self.leases(LeaseState.ACCEPTED) if item.lease_hash not in self._written_off]

    def active(self) -> int:
        """How many accepted leases there are something of."""
        return len(self._accepted())

    def promise(self, lease: LeaseRecord, now: int) -> Key | None:
        """The offer that a created lease answers, where it still stands."""
        key = self._reservations.find(lease)
        item = None if key is None else self._reservations.get(key)
        return key if item is not None and item.until > now else None

    def wanted_image(self, lease: LeaseRecord) -> str:
        """The image that a created lease's consumer asked for, or was offered; "" where no offer is known."""
        key = self._reservations.find(lease)
        item = None if key is None else self._reservations.get(key)
        return self.image_of(lease.lease_hash) or (item.image if item else "")

    def is_admitted(self, lease_hash: Hash) -> bool:
        """Whether a created lease is counted in."""
        return lease_hash in self._admitted

    def reserve(self, request: Request, image: str, now: int) -> bool:
        """Holds the capacity of an offer, durably; False where it is not there."""
        if not fits(request.resources, self.available(now)):
            return False
        gone = self._reservations.forget(now)
        key, until = Key(request.consumer, request.request_id), now + OFFER_VALID_FOR
        reservation = Reservation(request.resources, request.duration, request.access_pub_key, image, until)
        is_held = self._reservations.reserve(key, reservation, now)
        with self._store.transaction() as transaction:
            for old in gone:
                transaction.delete_note(PROMISES, old.pack())
            if is_held:
                transaction.put_note(PROMISES, key.pack(), reservation.pack())
            transaction.commit()
        return is_held

    def admit(self, lease: LeaseRecord, now: int) -> bool:
        """Counts a created lease in, from its consumer's reservation or from what is free; False for want of room."""
        lease_hash = lease.lease_hash
        if lease_hash in self._admitted:
            return True
        if not fits(lease.resources, self.available(now, self.promise(lease, now))):
            return False
        if len(self._admitted) >= LEASES_MAX:
            return False
        self._keep_image(lease)
        self._admitted[lease_hash] = lease.resources
        return True

    def _keep_image(self, lease: LeaseRecord) -> None:
        """The reservation becomes the lease's image, in one batch."""
        key = self._reservations.find(lease)
        if key is None or lease.lease_hash in self._images:
            return
        image = self.wanted_image(lease)
        with self._store.transaction() as transaction:
            transaction.delete_note(PROMISES, key.pack())
            transaction.put_note(IMAGES, lease.lease_hash, image.encode())
            transaction.commit()
        self._reservations.free(key)
        self._images[lease.lease_hash] = image

    def count_in(self, lease: LeaseRecord) -> None:
        """Counts a created lease whose machine is here already, as after a restart."""
        self._admitted.setdefault(lease.lease_hash, lease.resources)

    def image_of(self, lease_hash: Hash) -> str:
        """The image of a lease that was counted in; "" for the default."""
        return self._images.get(lease_hash, "")

    def keep_only(self, current: Collection[Hash]) -> None:
        """Releases every lease that is not among these, and forgets its image."""
        self._admitted = {lease_hash: item for lease_hash, item in self._admitted.items() if lease_hash in current}
        gone = self._images.keys() - set(current)
        if not gone:
            return
        with self._store.transaction() as transaction:
            for lease_hash in gone:
                transaction.delete_note(IMAGES, lease_hash)
            transaction.commit()
        for lease_hash in gone:
            del self._images[lease_hash]

    def write_off(self, lost: Iterable[Hash]) -> None:
        """From now on these accepted leases, and no others, hold nothing: provision.is_written_off."""
        self._written_off = frozenset(lost)

    def release(self, lease_hash: Hash) -> None:
        """Frees what a lease held by our word; an accepted lease counts by the ledger until it ends."""
        self._admitted.pop(lease_hash, None)


def _readable(notes: Iterable[tuple[bytes, bytes]]) -> list[tuple[Key, Reservation]]:
    """Those of a form that this version writes."""
    found = []
    for key, value in notes:
        with suppress(Malformed):
            found.append(unpack(key, value))
    return found
