"""What a provider has, has promised and has left (protocol section 11). No clock: `now` (ns) is passed in."""

from collections.abc import Collection
from typing import Final, NamedTuple

from xnode.core.lease import LeaseRecord, LeaseState, Resources
from xnode.core.market import OFFER_VALID_FOR, Request, Reservation, Reservations, fits, minus
from xnode.core.values import Address, Hash
from xnode.store.store import Store

LEASES_MAX: Final = 1_000  # live ones of one provider


class Admitted(NamedTuple):
    """What a created lease holds by our word."""

    resources: Resources
    image: str


class Capacity:
    """Counts accepted leases by the ledger, admitted ones by our word, offers by their reservations."""

    def __init__(self, store: Store, address: Address, capacity: Resources) -> None:
        self._store = store
        self._address = address
        self._reservations = Reservations()
        self._admitted: dict[Hash, Admitted] = {}
        self.capacity = capacity

    def leases(self, state: LeaseState) -> list[LeaseRecord]:
        """Our leases in a state, oldest first."""
        with self._store.snapshot() as view:
            return list(view.leases(state=state, provider=self._address, limit=LEASES_MAX))

    def available(self, now: int, promise: Reservation | None = None) -> Resources:
        """What an offer may still promise; `promise` is a reservation that is not to be counted."""
        return minus(self.capacity, [*self._leased().values(), *self._held(now, promise)])

    def pending(self, now: int, made: Collection[Hash], promise: Reservation | None = None) -> list[Resources]:
        """What is promised or leased and has no machine yet among those `made`."""
        leased = [resources for lease_hash, resources in self._leased().items() if lease_hash not in made]
        return [*leased, *self._held(now, promise)]

    def _leased(self) -> dict[Hash, Resources]:
        accepted = {lease.lease_hash: lease.resources for lease in self.leases(LeaseState.ACCEPTED)}
        return {lease_hash: item.resources for lease_hash, item in self._admitted.items()} | accepted

    def _held(self, now: int, promise: Reservation | None) -> list[Resources]:
        held = list(self._reservations.held(now))
        if promise is not None:
            held.remove(promise.resources)
        return held

    def promise(self, lease: LeaseRecord, now: int) -> Reservation | None:
        """The offer that a created lease answers, where it still stands."""
        return self._reservations.find(lease.consumer, lease.resources, now)

    def is_admitted(self, lease_hash: Hash) -> bool:
        """Whether a created lease is counted in."""
        return lease_hash in self._admitted

    def reserve(self, request: Request, now: int) -> bool:
        """Holds the capacity of an offer; False where it is not there."""
        if not fits(request.resources, self.available(now)):
            return False
        reservation = Reservation(request.consumer, request.resources, request.image, now + OFFER_VALID_FOR)
        return self._reservations.reserve(request.request_id, reservation, now)

    def admit(self, lease: LeaseRecord, now: int) -> bool:
        """Counts a created lease in, from its consumer's reservation or from what is free; False for want of room."""
        if lease.lease_hash in self._admitted:
            return True
        promised = self._reservations.redeem(lease.consumer, lease.resources, now)
        if promised is None and not fits(lease.resources, self.available(now)):
            return False
        if len(self._admitted) >= LEASES_MAX:
            return False
        self._admitted[lease.lease_hash] = Admitted(lease.resources, promised.image if promised else "")
        return True

    def count_in(self, lease: LeaseRecord, image: str) -> None:
        """Counts a created lease whose machine is here already, as after a restart."""
        self._admitted.setdefault(lease.lease_hash, Admitted(lease.resources, image))

    def image_of(self, lease_hash: Hash) -> str:
        """The image that the lease's consumer asked for; "" for the default."""
        admitted = self._admitted.get(lease_hash)
        return admitted.image if admitted is not None else ""

    def keep_only(self, current: Collection[Hash]) -> None:
        """Releases every lease that is not among these."""
        self._admitted = {lease_hash: item for lease_hash, item in self._admitted.items() if lease_hash in current}

    def release(self, lease_hash: Hash) -> None:
        """Frees what a lease held by our word; an accepted lease counts by the ledger until it ends."""
        self._admitted.pop(lease_hash, None)
