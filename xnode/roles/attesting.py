"""Collecting signed time: asks the listed timekeepers until enough have answered well (protocol section 7).

A block holds 20 attestations and a network may list 100 timekeepers: 20 are asked at once, those first of whom we know
where they are, and 20 more each second, so that it does not matter which of them are down.
"""

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
WAVE_SECONDS: Final = 1.0  # before the next ones are asked too, as many as a block holds
LINGER_SECONDS: Final = 0.5  # for those that are slower than the quorum: the median is better with them
FAULTS_NAMED_MAX: Final = 20  # of those that did not attest

Args = tuple[Plain, ...]


class Gathering:
    """What has come together; it ends soon after there is enough."""

    def __init__(self, needed: int, scope: trio.CancelScope) -> None:
        self._needed = needed
        self._scope = scope
        self._good: list[Attestation] = []
        self._enough = trio.Event()
        self.faults: list[str] = []

    def take(self, attestation: Attestation) -> None:
        """A good one."""
        self._good.append(attestation)
        if len(self._good) == self._needed:
            self._enough.set()
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + LINGER_SECONDS)

    async def is_done_within(self, seconds: float) -> bool:
        """Waits so long for there to be enough."""
        with trio.move_on_after(seconds):
            await self._enough.wait()
        return self._enough.is_set()

    def result(self) -> tuple[Attestation, ...]:
        """As many as a block holds; raises Unavailable(no_timekeepers)."""
        if len(self._good) < self._needed:
            more = len(self.faults) - FAULTS_NAMED_MAX
            reasons = "; ".join(self.faults[:FAULTS_NAMED_MAX]) or "no answer in time"
            told = f"{reasons}; and {more} more" if more > 0 else reasons
            message = f"{len(self._good)} of {self._needed} timekeepers attested: {told}"
            raise Unavailable("no_timekeepers", message, retryable=True)
        return tuple(self._good[:ATTESTATIONS_MAX])


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
        return sum(self._is_known(key) for key in self._charter().timekeepers.keys)

    async def _gather(self, lease_hash: Hash, needed: int) -> tuple[Attestation, ...]:
        with trio.move_on_after(ASK_SECONDS_MAX) as scope:
            gathering = Gathering(needed, scope)
            async with trio.open_nursery() as nursery:
                for number, key in enumerate(self._listed()):
                    nursery.start_soon(self._ask, key, lease_hash, gathering, number // ATTESTATIONS_MAX * WAVE_SECONDS)
        return gathering.result()

    def _listed(self) -> list[PublicKey]:
        """All timekeepers, those first of whom we know where they are."""
        return sorted(self._charter().timekeepers.keys, key=lambda key: not self._is_known(key))

    def _is_known(self, key: PublicKey) -> bool:
        try:
            self._contacts.find(Address(key))
        except PeerFault:
            return False
        return True

    async def _ask(self, key: PublicKey, lease_hash: Hash, gathering: Gathering, delay: float) -> None:
        if delay and await gathering.is_done_within(delay):
            return
        try:
            gathering.take(await self._attestation_of(key, lease_hash))
        except Fault as fault:
            gathering.faults.append(f"{key.hex()[:12]}: {fault}")

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
