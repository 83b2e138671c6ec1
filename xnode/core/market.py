"""The market's records and a consumer's choice (protocol section 11).

Theory of operation. A consumer publishes a request; every provider answers with an offer, and reserves the capacity
until the offer ends, or with a refusal that says why. The consumer waits a window and tries the offers in the order
of a policy.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from xnode.core.faults import CallerFault
from xnode.core.hashing import Tag
from xnode.core.lease import Resources
from xnode.core.records import RecordKind, record_kind
from xnode.core.values import NS, Address, Hash, PublicKey

AD_EVERY: Final = 60  # seconds
AD_VALID_FOR: Final = 180 * NS
ADS_MAX: Final = 10_000
RECORD_WINDOW: Final = 120 * NS  # a market record further from now is of no use
OFFER_VALID_FOR: Final = 15 * NS
WINDOW_AFTER_FIRST: Final = 2.0  # seconds the matcher waits after the first offer
WINDOW_IN_ALL: Final = 30.0  # seconds it waits where no offer comes
OFFERS_MAX: Final = 1_000  # kept of one request
NOTHING: Final = Resources(0, 0, 0)


class GuestImage(NamedTuple):
    """A guest that a provider offers, and the least memory (MiB) and disk (GiB) that it fits into."""

    name: str
    least_memory_mb: int
    least_disk_gb: int


class Ad(NamedTuple):
    """A provider's capacity and terms; `timestamp` in ns."""

    provider: Address
    capacity: Resources
    available: Resources
    active_leases: int
    multiplier_milli: int
    certificate_hash: Hash
    driver: str  # qemu isolates its machines more than lima
    accelerator: str
    internet: str  # what its machines reach beside their own SSH port: none, or open
    images: tuple[str, ...]
    closed: str  # "" where it takes leases, else why it takes none: draining or host_full
    timestamp: int


class Request(NamedTuple):
    """A consumer's wish; `duration` in seconds, `image` "" for the provider's default."""

    request_id: Hash
    consumer: Address
    resources: Resources
    duration: int
    access_pub_key: PublicKey  # by which the lease is known as this request's: a lease block names no request
    image: str
    timestamp: int


class Offer(NamedTuple):
    """A provider's binding answer until `valid_until` (ns)."""

    request_id: Hash
    provider: Address
    cost: int
    multiplier_milli: int
    certificate_hash: Hash
    image: str  # the guest that the machine will have, also where none was asked for
    valid_until: int
    timestamp: int


class Decline(NamedTuple):
    """A provider's refusal of a request: a stable code, a sentence, what was asked and what there was."""

    request_id: Hash
    provider: Address
    code: str
    detail: str
    requested: Resources
    available: Resources
    timestamp: int


class LeaseForm(NamedTuple):
    """What a consumer asks its own node for; `duration` and `timeout` in seconds, a `max_cost` of 0 means no bound."""

    resources: Resources
    duration: int
    access_pub_key: PublicKey
    timeout: float
    provider: Address | None
    policy: str
    max_cost: int
    image: str
    idempotency_key: str  # "" means none


class Quote(NamedTuple):
    """What a lease would cost now."""

    cost: int
    stake: int
    offers: tuple[tuple[Address, int], ...]  # (provider, cost), best first


MarketRecord = Ad | Request | Offer | Decline

MARKET: Final[dict[type[Any], RecordKind[Any]]] = {
    Ad: record_kind(Tag.AD, Ad, "provider"),
    Request: record_kind(Tag.REQUEST, Request, "consumer"),
    Offer: record_kind(Tag.OFFER, Offer, "provider"),
    Decline: record_kind(Tag.REFUSAL, Decline, "provider"),
}


def is_fresh(record: MarketRecord, now: int) -> bool:
    """Whether its timestamp is near enough to now (ns)."""
    return abs(record.timestamp - now) <= RECORD_WINDOW


def fits(wanted: Resources, available: Resources) -> bool:
    """Whether every dimension is there."""
    return all(want <= have for want, have in zip(wanted, available, strict=True))


def minus(capacity: Resources, taken: Iterable[Resources]) -> Resources:
    """What is left, never below zero."""
    sums = [sum(column) for column in zip(NOTHING, *taken, strict=True)]
    return Resources(*(max(0, have - used) for have, used in zip(capacity, sums, strict=True)))


def cheapest(offers: Sequence[Offer]) -> tuple[Offer, ...]:
    """By cost, then by provider address, so that equal offers have one order."""
    return tuple(sorted(offers, key=lambda offer: (offer.cost, offer.provider)))


Policy = Callable[[Sequence[Offer]], tuple[Offer, ...]]
POLICIES: Final[dict[str, Policy]] = {"cheapest": cheapest}


def policy_named(name: str) -> Policy:
    """The policy; raises CallerFault(unknown_policy)."""
    if name not in POLICIES:
        raise CallerFault("unknown_policy", f"policy must be one of: {', '.join(sorted(POLICIES))}")
    return POLICIES[name]
