"""Collecting signed time: asks all listed timekeepers at once until enough have answered well (protocol section 7)."""

from collections.abc import Callable
from typing import Final

import trio

from xnode.core.attestations import ATTESTATIONS_MAX, Attestation, is_valid
from xnode.core.charter import Charter
from xnode.core.codec import Plain
from xnode.core.faults import Fault, PeerFault, Unavailable
from xnode.core.genesis import Genesis
from xnode.core.values import NS, Address, Hash, PublicKey, Signature
from xnode.net.streams import PeerId
from xnode.roles.contacts import Calls, Contacts
from xnode.roles.timekeeper import Timekeeper

ATTEST_METHOD: Final = "attest"
ASK_SECONDS_MAX: Final = 10.0
LINGER_SECONDS: Final = 0.5  # for those that are slower than the quorum: the median is better with them

Args = tuple[Plain, ...]


class Attesting:
    """Serves attestations where this node is a timekeeper, and gathers them for its own leases."""

    def __init__(
        self,
        genesis: Genesis,
        contacts: Contacts,
        calls: Calls,
        clock: Callable[[], int],
        timekeeper: Timekeeper | None,
        own_id: PeerId,
        charter: Callable[[], Charter],
    ) -> None:
        self._genesis = genesis
        self._contacts = contacts
        self._clock = clock
        self._timekeeper = timekeeper
        self._own_id = own_id
        self._charter = charter
        calls.register(ATTEST_METHOD, self._serve)

    async def attest(self, lease_hash: Hash) -> Attestation:
        """One attestation: by this node's own timekeeper, or by the first listed one to answer. Raises Unavailable."""
        if self._timekeeper is not None:
            return self._timekeeper.attest(lease_hash, self._own_id.encode())
        return (await self._gather(lease_hash, 1))[0]

    async def quorum(self, lease_hash: Hash) -> tuple[Attestation, ...]:
        """Enough good attestations for a block; raises Unavailable(no_timekeepers) that says who did not answer."""
        return await self._gather(lease_hash, self._charter().timekeepers.threshold)

    @property
    def needed(self) -> int:
        """How many must agree."""
        return self._charter().timekeepers.threshold

    def reachable(self) -> int:
        """How many listed timekeepers have told where they are, this node included."""
        known = 0
        for key in self._charter().timekeepers.keys:
            try:
                self._contacts.find(Address(key))
                known += 1
            except PeerFault:
                continue
        return known

    async def _gather(self, lease_hash: Hash, needed: int) -> tuple[Attestation, ...]:
        good: list[Attestation] = []
        faults: list[str] = []
        with trio.move_on_after(ASK_SECONDS_MAX) as scope:
            async with trio.open_nursery() as nursery:
                for key in self._charter().timekeepers.keys[:ATTESTATIONS_MAX]:
                    nursery.start_soon(self._ask, key, lease_hash, needed, good, faults, scope)
        if len(good) < needed:
            reasons = "; ".join(faults) or "no answer in time"
            message = f"{len(good)} of {needed} timekeepers attested: {reasons}"
            raise Unavailable("no_timekeepers", message, retryable=True)
        return tuple(good[:ATTESTATIONS_MAX])

    async def _ask(
        self,
        key: PublicKey,
        lease_hash: Hash,
        needed: int,
        good: list[Attestation],
        faults: list[str],
        scope: trio.CancelScope,
    ) -> None:
        try:
            attestation = await self._attestation_of(key, lease_hash)
        except Fault as fault:
            faults.append(f"{key.hex()[:12]}: {fault}")
            return
        good.append(attestation)
        if len(good) == needed:
            scope.deadline = min(scope.deadline, trio.current_time() + LINGER_SECONDS)

    async def _attestation_of(self, key: PublicKey, lease_hash: Hash) -> Attestation:
        if self._timekeeper is not None and self._timekeeper.is_listed and self._contacts.is_own(Address(key)):
            return self._timekeeper.attest(lease_hash, self._own_id.encode())
        answer = await self._contacts.call(Address(key), ATTEST_METHOD, (lease_hash,), ASK_SECONDS_MAX)
        attestation = _read(answer)
        skew = self._genesis.timing.attestation_skew * NS
        if attestation.public_key != key or not is_valid(attestation, lease_hash, (key,)):
            raise PeerFault("bad_attestation", "its signature is not good")
        if abs(attestation.timestamp - self._clock()) > skew:
            raise PeerFault("bad_attestation", "its clock and ours are too far apart")
        return attestation

    async def _serve(self, peer_id: PeerId, args: Args) -> Args:
        match args:
            case (bytes(lease_hash),) if len(lease_hash) == len(Hash(bytes(32))):
                if self._timekeeper is None:
                    raise Unavailable("no_timekeeper", "this node is no timekeeper")
                return tuple(self._timekeeper.attest(Hash(lease_hash), peer_id.encode()))
        raise PeerFault("malformed", "attest takes a lease hash")


def _read(answer: Args) -> Attestation:
    match answer:
        case (bytes(public_key), int(timestamp), bytes(signature)):
            return Attestation(PublicKey(public_key), timestamp, Signature(signature))
    raise PeerFault("malformed", "the timekeeper's answer is no attestation")
