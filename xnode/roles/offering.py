"""The provider's side of the market: ads, and an offer or a refusal to every request (protocol section 11)."""

from collections.abc import Callable
from typing import Final

import trio

from xnode.core import price
from xnode.core.charter import Charter
from xnode.core.faults import CallerFault
from xnode.core.genesis import Genesis
from xnode.core.market import AD_EVERY, OFFER_VALID_FOR, Ad, Decline, Offer, Request
from xnode.core.records import LIST_ITEMS_MAX, shortened
from xnode.core.values import ZERO_HASH, Address
from xnode.net.pulse import Pulse
from xnode.roles.admission import Admission, Terms
from xnode.roles.capacity import Capacity
from xnode.roles.market_board import MarketBoard

ANSWERS_WAITING_MAX: Final = 100  # requests above it go unanswered, and are counted


class Offering:
    """Answers requests one after another, so that capacity is never promised twice."""

    def __init__(
        self,
        address: Address,
        genesis: Genesis,
        board: MarketBoard,
        capacity: Capacity,
        terms: Terms,
        admission: Admission,
        clock: Callable[[], int],
        charter: Callable[[], Charter],
    ) -> None:
        self._address = address
        self._genesis = genesis
        self._board = board
        self._capacity = capacity
        self._terms = terms
        self._admission = admission
        self._clock = clock
        self._charter = charter
        self._send, self._receive = trio.open_memory_channel[Request](ANSWERS_WAITING_MAX)
        self.advertise = Pulse()
        self.unanswered = 0
        board.on_request = self._enqueue

    async def keep_advertised(self) -> None:
        """Publishes our ad every minute and whenever `advertise` fires; runs for as long as the node."""
        while True:
            await self._board.post(self.ad())
            await self.advertise.wait(AD_EVERY)

    async def answer_requests(self) -> None:
        """Runs for as long as the node."""
        async for request in self._receive:
            await self._board.post(self.answer(request))

    def ad(self) -> Ad:
        """Our capacity and terms as they are now."""
        now = self._clock()
        return Ad(
            provider=self._address,
            capacity=self._capacity.capacity,
            available=self._admission.available(now),
            active_leases=self._capacity.active(),
            multiplier_milli=self._terms.multiplier_milli,
            certificate_hash=ZERO_HASH,
            driver=self._terms.driver,
            accelerator=self._terms.accelerator,
            internet=self._terms.internet,
            images=tuple(image.name for image in self._terms.images())[:LIST_ITEMS_MAX],
            closed=self._admission.closed(now),
            timestamp=now,
        )

    def answer(self, request: Request) -> Offer | Decline:
        """An offer whose capacity is now reserved, or the reason why not."""
        try:
            return self._offer(request)
        except CallerFault as fault:
            return self._decline(request, fault.code, str(fault))

    def _enqueue(self, request: Request) -> None:
        if request.consumer == self._address:
            return
        try:
            self._send.send_nowait(request)
        except trio.WouldBlock:
            self.unanswered += 1

    def _offer(self, request: Request) -> Offer:
        now = self._clock()
        if refused := self._admission.of_request(request, now):
            raise refused
        cost = price.cost(request.resources, request.duration, self._charter().rates, self._terms.multiplier_milli)
        image = request.image or self._terms.default_image
        if not self._capacity.reserve(request, image, now):
            raise CallerFault("no_capacity", "too many offers are open")
        return Offer(
            request.request_id,
            self._address,
            cost,
            self._terms.multiplier_milli,
            ZERO_HASH,
            image,
            valid_until=now + OFFER_VALID_FOR,
            timestamp=now,
        )

    def _decline(self, request: Request, code: str, detail: str) -> Decline:
        now = self._clock()
        available = self._admission.available(now)
        return Decline(request.request_id, self._address, code, shortened(detail), request.resources, available, now)
