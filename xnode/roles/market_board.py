"""The market as this node hears it: the providers' ads, and the offers and refusals to its own requests."""

from collections.abc import Awaitable, Callable
from typing import Final

from xnode.core.codec import Malformed
from xnode.core.genesis import Genesis
from xnode.core.keys import SigningKey
from xnode.core.market import (
    AD_VALID_FOR,
    ADS_MAX,
    MARKET,
    OFFERS_MAX,
    Ad,
    Decline,
    MarketRecord,
    Offer,
    Request,
    is_fresh,
)
from xnode.core.values import Address, Hash
from xnode.net.pulse import Pulse

MARKET_TOPIC: Final = "xnode/market"

OnRequest = Callable[[Request], None]


class Answers:
    """What came in for one request of ours; `changed` fires at each answer."""

    def __init__(self) -> None:
        self.offers: dict[Address, Offer] = {}
        self.declines: dict[Address, Decline] = {}
        self.changed = Pulse()

    def take(self, record: Offer | Decline) -> None:
        """Adds an answer; the latest of each provider counts."""
        known: dict[Address, Offer] | dict[Address, Decline]
        known = self.offers if isinstance(record, Offer) else self.declines
        if len(known) < OFFERS_MAX or record.provider in known:
            known[record.provider] = record  # type: ignore[assignment]
        self.changed.fire()


class MarketBoard:
    """Reads and writes the market topic."""

    def __init__(
        self,
        key: SigningKey,
        genesis: Genesis,
        clock: Callable[[], int],
        publish: Callable[[str, bytes], Awaitable[None]],
    ) -> None:
        self._key = key
        self._network_key = genesis.network_key
        self._clock = clock
        self._publish = publish
        self._ads: dict[Address, Ad] = {}
        self._open: dict[Hash, Answers] = {}
        self.on_request: OnRequest | None = None

    def read(self, wire: bytes) -> MarketRecord | None:
        """The record if it is well formed and signed, else None: then its sender is to blame."""
        for kind in MARKET.values():
            try:
                record, signed = kind.read(self._network_key, wire)
            except Malformed:
                continue
            if signed:
                assert isinstance(record, MarketRecord)
                return record
        return None

    def is_useful(self, record: MarketRecord) -> bool:
        """Whether anybody can still use it."""
        return is_fresh(record, self._clock())

    def take(self, record: MarketRecord) -> None:
        """Acts on a record that was read well."""
        if isinstance(record, Ad):
            self._take_ad(record)
        elif isinstance(record, Request):
            if self.on_request is not None:
                self.on_request(record)
        elif record.request_id in self._open:
            self._open[record.request_id].take(record)

    def ads(self) -> tuple[Ad, ...]:
        """The ads that are still valid, sorted by provider."""
        now = self._clock()
        return tuple(sorted(ad for ad in self._ads.values() if now - ad.timestamp <= AD_VALID_FOR))

    def open_request(self, request_id: Hash) -> Answers:
        """From now on answers to this request are kept; `close_request` ends that."""
        self._open[request_id] = Answers()
        return self._open[request_id]

    def close_request(self, request_id: Hash) -> None:
        """Forgets the answers."""
        self._open.pop(request_id, None)

    async def post(self, record: MarketRecord) -> None:
        """Signs and gossips a record of ours; an ad is on our own board too."""
        wire = MARKET[type(record)].sign(self._network_key, self._key, record)
        if isinstance(record, Ad):
            self._take_ad(record)
        await self._publish(MARKET_TOPIC, wire)

    def _take_ad(self, ad: Ad) -> None:
        known = self._ads.pop(ad.provider, None)
        newest = ad if known is None or ad.timestamp > known.timestamp else known
        if len(self._ads) >= ADS_MAX:
            del self._ads[next(iter(self._ads))]
        self._ads[ad.provider] = newest
