"""Taking the money back from a provider that never settled (protocol section 4): `core.reclaim` carried out."""

from collections.abc import Callable
from typing import Final

import trio

from xnode.core.attestations import lower_median
from xnode.core.blocks import LeaseForceSettle
from xnode.core.faults import Fault, Unavailable
from xnode.core.genesis import Genesis
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.reclaim import Claim, Tries, after_failure, claimable_from, next_claim
from xnode.core.values import ZERO_HASH, Asset, Hash
from xnode.roles.attesting import Attesting
from xnode.roles.author import Author, Draft
from xnode.roles.confirmation import is_confirmed
from xnode.roles.lease_log import LeaseLog
from xnode.store.snapshot import Snapshot
from xnode.store.store import Store

LOOK_EVERY: Final = 10.0  # seconds
PAGE: Final = 100  # leases looked at in one go; the next look goes on behind them
CLAIMS_MAX: Final = 1_000  # leases that are being reclaimed at once


class Reclaiming:
    """Looks after the accepted leases of the node's own account."""

    def __init__(
        self,
        store: Store,
        genesis: Genesis,
        author: Author,
        attesting: Attesting,
        log: LeaseLog,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._timing = genesis.timing
        self._author = author
        self._attesting = attesting
        self._log = log
        self._clock = clock
        self._claims: dict[Hash, Tries] = {}  # those that are due, until their end is confirmed
        self._after: Hash | None = None

    async def run(self) -> None:
        """Looks every few seconds; runs for as long as the node."""
        await self._author.until_in_step()
        while True:
            await trio.sleep(LOOK_EVERY)
            for lease, claim in self._look():
                await self._act(lease, claim)

    def _look(self) -> list[tuple[LeaseRecord, Claim]]:
        """What is to be done now: of those that are being reclaimed, and of the next page of accepted leases."""
        now = self._clock()
        with self._store.snapshot() as view:
            for lease in self._next_page(view):
                if now >= claimable_from(lease, self._timing) and len(self._claims) < CLAIMS_MAX:
                    self._claims.setdefault(lease.lease_hash, Tries())
            known = [lease for lease in map(view.lease, self._claims) if lease is not None]
            found = [(lease, self._judge(view, lease, now)) for lease in known]
        self._claims = {lease.lease_hash: self._claims[lease.lease_hash] for lease in known}
        return [(lease, claim) for lease, claim in found if claim is not Claim.WAIT]

    def _next_page(self, view: Snapshot) -> list[LeaseRecord]:
        after = self._after if self._after is not None and view.lease(self._after) is not None else None
        page = view.leases(LeaseState.ACCEPTED, consumer=self._author.address, after=after, limit=PAGE)
        self._after = page[-1].lease_hash if len(page) == PAGE else None
        return page

    def _judge(self, view: Snapshot, lease: LeaseRecord, now: int) -> Claim:
        brought = lease.accept_hash if lease.end_hash == ZERO_HASH else lease.end_hash
        tries = self._claims[lease.lease_hash]
        return next_claim(lease, self._timing, now, tries, is_confirmed=is_confirmed(view, brought))

    async def _act(self, lease: LeaseRecord, claim: Claim) -> None:
        if claim is Claim.CLAIM:
            try:
                await self._claim(lease)
            except Fault as fault:
                self._claims[lease.lease_hash] = after_failure(self._claims[lease.lease_hash], self._clock())
                self._log.record(lease.lease_hash, "reclaim_failed", f"the money can't be taken back yet: {fault}")
            return
        if claim is Claim.TELL:
            message = f"{lease.cost} XUSD are back for good; the provider has lost its stake of {lease.stake}"
            self._log.record(lease.lease_hash, "money_back", message)
        self._claims.pop(lease.lease_hash, None)

    async def _claim(self, lease: LeaseRecord) -> None:
        attestations = await self._attesting.quorum(lease.lease_hash)
        if lower_median([item.timestamp for item in attestations]) < claimable_from(lease, self._timing):
            raise Unavailable("too_early", "the timekeepers say that it is too early", retryable=True)
        draft = Draft(Asset.XUSD, lease.cost, LeaseForceSettle(lease.lease_hash, attestations))
        await self._author.append(draft)
