"""Puts each request and each lease to the one check of core/admission.py, and answers for what is free."""

from collections.abc import Callable
from typing import NamedTuple

from xnode.core import price
from xnode.core.admission import DRAINING, HOST_FULL, Standing, Wish, host_shortage, offered, refusal, room_left
from xnode.core.charter import Charter
from xnode.core.faults import CallerFault
from xnode.core.genesis import Genesis
from xnode.core.lease import LeaseRecord, Resources
from xnode.core.ledger import AccountRecord
from xnode.core.machine import HostRoom
from xnode.core.market import GuestImage, Request
from xnode.core.reservations import Key
from xnode.roles.capacity import Capacity
from xnode.roles.drain import Drain
from xnode.vm.driver import Driver

LEAST: Resources = Resources(1, 128, 1)  # a host that has not even this left is full


class Terms(NamedTuple):
    """What this provider asks and has."""

    multiplier_milli: int
    driver: str
    accelerator: str
    images: Callable[[], tuple[GuestImage, ...]]  # what the image store holds now
    default_image: str
    internet: str = "none"  # as the driver says


class Admission:
    """Reads the ledger, the host and the operator's wish; changes nothing."""

    def __init__(
        self,
        genesis: Genesis,
        capacity: Capacity,
        terms: Terms,
        drain: Drain,
        driver: Driver,
        account: Callable[[], AccountRecord],
        timekeepers_reachable: Callable[[], int],
        charter: Callable[[], Charter],
    ) -> None:
        self._genesis = genesis
        self._capacity = capacity
        self._terms = terms
        self._drain = drain
        self._driver = driver
        self._account = account
        self._timekeepers_reachable = timekeepers_reachable
        self._charter = charter

    def of_request(self, request: Request, now: int) -> CallerFault | None:
        """Why no offer is made; None where one may be."""
        multiplier = self._terms.multiplier_milli
        cost = price.cost(request.resources, request.duration, self._charter().rates, multiplier)
        wish = Wish(request.resources, request.duration, request.image, price.stake(cost), multiplier, False)
        return refusal(wish, self._standing(now, None))

    def of_lease(self, lease: LeaseRecord, now: int) -> CallerFault | None:
        """Why a created lease is not booted; None where it may be."""
        if self._capacity.is_admitted(lease.lease_hash):
            return None
        promise = self._capacity.promise(lease, now)
        image = self._capacity.wanted_image(lease)
        wish = Wish(lease.resources, lease.duration, image, lease.stake, lease.multiplier_milli, promise is not None)
        # the timekeepers are asked for when the machine is up
        return refusal(wish, self._standing(now, promise)._replace(timekeepers_needed=0))

    def available(self, now: int) -> Resources:
        """What an offer may still promise; nothing while this provider drains."""
        if self._drain.since:
            return Resources(0, 0, 0)
        return offered(self._capacity.available(now), self._host(now, None))

    def closed(self, now: int) -> str:
        """Why no lease at all is taken, one word; "" where some are."""
        if self._drain.since:
            return DRAINING
        return HOST_FULL if host_shortage(LEAST, self._host(now, None)) else ""

    def _standing(self, now: int, promise: Key | None) -> Standing:
        timing = self._genesis.timing
        return Standing(
            is_draining=bool(self._drain.since),
            durations=(timing.lease_duration_min, timing.lease_duration_max),
            images=self._terms.images(),
            default_image=self._terms.default_image,
            multiplier_milli=self._terms.multiplier_milli,
            xusd=self._account().xusd,
            timekeepers=self._timekeepers_reachable(),
            timekeepers_needed=self._charter().timekeepers.threshold,
            free=self._capacity.available(now, promise),
            host=self._host(now, promise),
        )

    def _host(self, now: int, promise: Key | None) -> HostRoom | None:
        made = {machine.spec.lease_hash for machine in self._driver.machines()}
        return room_left(self._driver.room, self._capacity.pending(now, made, promise))
