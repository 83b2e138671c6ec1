"""What a consumer's node knows of its machines from their providers: how far they are, and each step with its time."""

from typing import Final

import trio

from xnode.core.codec import Plain
from xnode.core.faults import PeerFault
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.machine import MachineStatus
from xnode.core.values import Address, Hash
from xnode.roles.contacts import Contacts
from xnode.roles.lease_log import TOLD_MAX, LeaseLog, steps_read
from xnode.store.store import Store

METHOD: Final = "lease_progress"
ASK_SECONDS_MAX: Final = 5.0  # one question to its provider
FRESH_SECONDS: Final = 2.0  # what is younger is not asked again for somebody who only looks
LEASES_MAX: Final = 1_000
STATUSES: Final = {"booting": MachineStatus.PROVISIONING, **{str(status): status for status in MachineStatus}}
PHASES: Final = ("waiting", *STATUSES)

Told = tuple[int, MachineStatus | None, float]  # the last step's time at the provider (ns), its state, when asked (s)


class Progress:
    """Asks providers about leases of this node's own account."""

    def __init__(self, store: Store, address: Address, contacts: Contacts, log: LeaseLog) -> None:
        self._store = store
        self._address = address
        self._contacts = contacts
        self._log = log
        self._told: dict[Hash, Told] = {}

    async def ask(self, provider: Address, lease_hash: Hash) -> tuple[str, str]:
        """(waiting, booting, a machine's state, or silent; why); the steps it tells go into the lease's log."""
        after, status, _ = self._told.get(lease_hash, (0, None, 0.0))
        try:
            answer = await self._contacts.call(provider, METHOD, (lease_hash, after), ASK_SECONDS_MAX)
        except PeerFault as fault:
            return "silent", str(fault)
        match answer:
            case (str(phase), str(reason), tuple(steps)) if phase in PHASES:
                self._note(lease_hash, after, STATUSES.get(phase, status), steps)
                return phase, reason
        return "silent", "the provider's answer makes no sense"

    async def refresh(self, lease_hash: Hash) -> None:
        """Asks once more about an accepted lease of ours, unless that was done just now."""
        with self._store.snapshot() as view:
            lease = view.lease(lease_hash)
        asked_at = self._told.get(lease_hash, (0, None, float("-inf")))[2]
        if lease is not None and self._is_ours(lease) and trio.current_time() - asked_at >= FRESH_SECONDS:
            self._put(lease_hash, (*self._told.get(lease_hash, (0, None))[:2], trio.current_time()))
            await self.ask(lease.provider, lease_hash)

    def status(self, lease_hash: Hash) -> MachineStatus:
        """The last that was heard of an accepted lease's machine. On any thread."""
        return self._told.get(lease_hash, (0, None, 0.0))[1] or MachineStatus.RUNNING

    def note_status(self, lease_hash: Hash, status: MachineStatus) -> None:
        """It was heard in another way."""
        after, _, asked_at = self._told.get(lease_hash, (0, None, float("-inf")))
        self._put(lease_hash, (after, status, asked_at))

    def _is_ours(self, lease: LeaseRecord) -> bool:
        return lease.consumer == self._address and lease.state is LeaseState.ACCEPTED

    def _note(self, lease_hash: Hash, after: int, status: MachineStatus | None, wire: tuple[Plain, ...]) -> None:
        steps = [step for step in steps_read(wire[:TOLD_MAX]) if step.at > after]
        if self._told.get(lease_hash, (0,))[0] == after:  # or another question has brought them
            self._log.take(lease_hash, steps)
        last = max([after, *(step.at for step in steps)])
        self._put(lease_hash, (last, status, trio.current_time()))

    def _put(self, lease_hash: Hash, told: Told) -> None:
        self._told.pop(lease_hash, None)
        if len(self._told) >= LEASES_MAX:
            del self._told[next(iter(self._told))]
        self._told[lease_hash] = told
