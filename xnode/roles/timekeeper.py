"""The timekeeper: signs the time for leases that it knows, and remembers on disk what it signed (section 7)."""

from collections.abc import Callable
from typing import Final, NamedTuple

from xnode.core.attestations import Attestation, attestation_message
from xnode.core.codec import decode, encode
from xnode.core.faults import NotFound
from xnode.core.genesis import Genesis
from xnode.core.keys import SigningKey
from xnode.core.timekeeping import ClockGuard, Reading, attested_time, is_repeat
from xnode.core.values import Hash, PublicKey, Signature
from xnode.store.store import Store

SIGNED_SPACE: Final = "attested"  # note space: lease hash -> the latest signings, newest first
SIGNINGS_MAX: Final = 8  # remembered of one lease; its consumer and provider need two


class Signing(NamedTuple):
    """What was signed for whom; `timestamp` in ns."""

    requester: bytes
    timestamp: int
    signature: Signature


class Timekeeper:
    """Signs with the node's account key. `clock` and `monotonic` give ns."""

    def __init__(
        self,
        key: SigningKey,
        store: Store,
        genesis: Genesis,
        clock: Callable[[], int],
        monotonic: Callable[[], int],
    ) -> None:
        self._key = key
        self._store = store
        self._genesis = genesis
        self._clock = clock
        self._monotonic = monotonic
        self._guard = ClockGuard(Reading(clock(), monotonic()))

    @property
    def is_listed(self) -> bool:
        """Whether the network trusts this node's signatures."""
        return self._key.public_key in self._store.charter_at(self._clock()).timekeepers.keys

    def attest(self, lease_hash: Hash, requester: bytes) -> Attestation:
        """The time, signed; the same again within 30 s. Raises NotFound(lease_unknown), Unavailable(clock_suspect)."""
        self.watch_clock()
        signings = self._signings(lease_hash)
        now = attested_time(self._guard, signings[0].timestamp if signings else 0, self._genesis.created_at)
        for signing in signings:
            if signing.requester == requester and is_repeat(signing.timestamp, now):
                return self._attestation(signing)
        message = attestation_message(lease_hash, now)
        signing = Signing(requester, now, self._key.sign(message))
        self._remember(lease_hash, (signing, *signings[: SIGNINGS_MAX - 1]))
        return self._attestation(signing)

    def watch_clock(self) -> bool:
        """One look at the clocks, to be taken every few seconds; says whether the clock is to be trusted."""
        self._guard = self._guard.observe(Reading(self._clock(), self._monotonic()))
        return not self._guard.is_suspect

    def _signings(self, lease_hash: Hash) -> tuple[Signing, ...]:
        with self._store.snapshot() as view:
            if view.lease(lease_hash) is None:
                raise NotFound("lease_unknown", "this timekeeper does not know that lease yet; try again in a moment")
            note = view.note(SIGNED_SPACE, lease_hash)
        return tuple(_read_signing(item) for item in decode(note)) if note is not None else ()

    def _remember(self, lease_hash: Hash, signings: tuple[Signing, ...]) -> None:
        transaction = self._store.transaction()
        transaction.put_note(SIGNED_SPACE, lease_hash, encode(tuple(tuple(signing) for signing in signings)))
        transaction.commit()

    def _attestation(self, signing: Signing) -> Attestation:
        return Attestation(PublicKey(self._key.public_key), signing.timestamp, signing.signature)


def _read_signing(item: object) -> Signing:
    match item:
        case (bytes(requester), int(timestamp), bytes(signature)):
            return Signing(requester, timestamp, Signature(signature))
    raise AssertionError("a note of ours does not read back")
