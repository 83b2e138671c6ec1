"""What must be true after every step, each under its name; a step is a committed batch of an honest node.

| name | what breaks it |
|---|---|
| supply_identity | money that is held is not money that was issued, or the store counts otherwise than its rows |
| one_block_a_position | two honest nodes, or one at two times, confirm different blocks at one position |
| confirmed_for_ever | a final height falls, or a confirmed block is taken back |
| one_end_a_lease | two blocks are confirmed that end one lease, or its acceptance and its cancellation |
| settled_in_time | an honest node applies a settlement that too few timekeepers attest, or before the lease's expiry |
| machine_for_confirmed_lease | an honest provider makes a machine for a lease that it has not seen confirmed |
| live_machine_kept | an honest provider destroys the machine of a lease that is not over, or not confirmed to be |
| machine_has_lease | an honest provider's machine is up, LEASELESS_SECONDS after its lease was over |
| stopped_stays_down | an honest provider starts a machine that its consumer has stopped |
| drained_takes_none | an honest provider whose operator drains it accepts a lease that came after its promises |
| no_node_fails | something escapes from a node that no fault of its disk explains |
| honest_peers_keep_each_other | an honest node bans another or rejects its gossip |
| one_ledger_in_the_end | SETTLE_SECONDS after all is healed honest nodes differ, or something waits for its end |
| sound_in_the_end | a whole store does not follow from its blocks |
"""

from typing import TYPE_CHECKING, Final

from tests.sim.clocks import true_time
from tests.sim.journal import Journal
from xnode.core.attestations import valid_ones
from xnode.core.blocks import Block, Lease, LeaseAccept, LeaseCancel, LeaseForceSettle, LeaseSettle
from xnode.core.genesis import Genesis
from xnode.core.lease import EndProof, LeaseRecord, LeaseState
from xnode.core.machine import MachineStatus
from xnode.core.orphan import OrphanProof, Proof
from xnode.core.provision import ACCEPT_WITHIN
from xnode.core.values import NS, Address, Hash
from xnode.store.records import StoredBlock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sim.books import News
    from tests.sim.member import Member

LEASELESS_SECONDS: Final = 40.0  # a look, a few tries, attestations, a clock that is a little wrong
SETTLE_SECONDS: Final = 900.0  # three lives of an election
HONEST_CLOCK_ERROR: Final = 5 * NS  # of the timekeepers that make up a threshold
PROMISE_HOLDS: Final = 30 * NS  # an offer, and the block that follows it on its way
UP: Final = (MachineStatus.RUNNING, MachineStatus.PROVISIONING, MachineStatus.PAUSED)
ENDS: Final = (LeaseSettle, LeaseCancel, LeaseForceSettle)


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(name, detail)  # both, so that it reaches another process
        self.name = name
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}"


class Invariants:
    """Watches all honest members of one run; what they do not share is in their `books`."""

    def __init__(self, genesis: Genesis, journal: Journal) -> None:
        self.broken: Broken | None = None
        self._genesis = genesis
        self._journal = journal
        self._confirmed: dict[tuple[Address, int], Hash] = {}
        self._ends: dict[Hash, tuple[str, Hash]] = {}
        self._accepts: dict[Hash, Hash] = {}
        self._seen_at: dict[Hash, int] = {}  # true ns at which a lease was first applied by anybody
        self._over_since: dict[tuple[str, Hash], float] = {}
        self.stopped: set[Hash] = set()  # leases whose consumer has stopped the machine, and not said otherwise since

    def fail(self, name: str, detail: str) -> None:
        """Remembers the first; the run ends soon after."""
        if self.broken is None:
            self.broken = Broken(name, detail)
            self._journal.note("BROKEN", "", f"{name}: {detail}")

    def on_batch(self, member: "Member", news: "News") -> None:
        """After each step."""
        for detail in news.broken:
            name = "supply_identity" if "hold" in detail or "held" in detail else "confirmed_for_ever"
            self.fail(name, f"{member.name}: {detail}")
        for stored in news.applied:
            if isinstance(stored.block.body, LeaseSettle):
                self._check_settlement(member, stored.block, stored.block.body)
            elif isinstance(stored.block.body, Lease):
                self._seen_at.setdefault(stored.block_hash, true_time())
            elif isinstance(stored.block.body, LeaseAccept) and stored.block.account == member.address:
                self._check_drained(member, stored.block.body.source)
        for stored in news.confirmed:
            self._on_confirmed(member, stored)

    def _on_confirmed(self, member: "Member", stored: StoredBlock) -> None:
        place = (stored.block.account, stored.height)
        first = self._confirmed.setdefault(place, stored.block_hash)
        if first != stored.block_hash:
            what = f"{first.hex()[:12]} and {stored.block_hash.hex()[:12]}"
            self.fail("one_block_a_position", f"{member.name}: {what} are confirmed at height {stored.height}")
        body = stored.block.body
        if isinstance(body, ENDS):
            self._on_end(member, body.source, type(body).__name__, stored.block_hash)
        if isinstance(body, LeaseAccept):
            self._accepts[body.source] = stored.block_hash
            self._check_accept_alone(member, body.source)

    def _on_end(self, member: "Member", lease_hash: Hash, kind: str, end_hash: Hash) -> None:
        if lease_hash not in self._ends:
            self._journal.note(f"lease ended by {kind}", member.name, lease_hash.hex()[:12])
        first = self._ends.setdefault(lease_hash, (kind, end_hash))
        if first != (kind, end_hash):
            self.fail("one_end_a_lease", f"{member.name}: lease {lease_hash.hex()[:12]} by {first[0]} and by {kind}")
        self._check_accept_alone(member, lease_hash)

    def _check_accept_alone(self, member: "Member", lease_hash: Hash) -> None:
        kind, _ = self._ends.get(lease_hash, ("", b""))
        if kind == LeaseCancel.__name__ and lease_hash in self._accepts:
            self.fail("one_end_a_lease", f"{member.name}: lease {lease_hash.hex()[:12]} is accepted and cancelled")

    def _check_settlement(self, member: "Member", block: Block, body: LeaseSettle) -> None:
        lease, listed = member.books.leases[body.source], self._genesis.timekeepers
        if len(valid_ones(body.attestations, body.source, listed.keys)) < listed.threshold:
            self.fail("settled_in_time", f"{member.name}: a settlement without enough attestations is applied")
        early = lease.expiry - HONEST_CLOCK_ERROR - true_time()
        if early > 0:
            self.fail(
                "settled_in_time", f"{member.name}: a lease is settled {early / NS:.1f} s before its time is over"
            )

    def _check_drained(self, member: "Member", lease_hash: Hash) -> None:
        since = member.drained_at
        if since is not None and self._seen_at[lease_hash] > since + PROMISE_HOLDS:
            self.fail("drained_takes_none", f"{member.name}: lease {lease_hash.hex()[:12]}")

    def unended(self, honest: "Sequence[Member]") -> list[Hash]:
        """Leases that an honest consumer paid for, in the first one's books, which have come to no end."""
        consumers = {member.address for member in honest}
        leases = honest[0].books.leases.values()
        return [lease.lease_hash for lease in leases if lease.consumer in consumers and not lease.is_final]

    def has_machines_left(self, honest: "Sequence[Member]") -> bool:
        """Whether any is there but a stopped one whose lease was never accepted and is never cancelled: nobody can
        prove the end of such a lease, and only an evil consumer leaves its money there (found by seed 2246)."""
        consumers = {member.address for member in honest}
        for member in honest:
            for lease_hash, machine in member.machines.machines.items():
                lease = member.books.leases.get(lease_hash)
                is_open = lease is not None and lease.state is LeaseState.CREATED and lease.consumer not in consumers
                if machine.status in UP or not is_open:
                    return True
        return False

    def on_machine_made(self, member: "Member", lease_hash: Hash) -> None:
        """Right before a machine is made."""
        if not member.books.is_confirmed(lease_hash):
            self.fail("machine_for_confirmed_lease", f"{member.name}: lease {lease_hash.hex()[:12]}")

    def on_machine_started(self, member: "Member", lease_hash: Hash) -> None:
        """Right before a machine that is down is started. Where its acceptance was taken back, it has to run once more
        to be accepted again."""
        lease = member.books.leases.get(lease_hash)
        if lease_hash in self.stopped and lease is not None and lease.state is LeaseState.ACCEPTED:
            self.fail("stopped_stays_down", f"{member.name}: lease {lease_hash.hex()[:12]}")

    def on_machine_destroyed(self, member: "Member", lease_hash: Hash, proof: Proof) -> None:
        """Right before a machine is destroyed."""
        lease = member.books.leases.get(lease_hash)
        is_orphan = lease is None and isinstance(proof, OrphanProof)
        if lease is not None and self._hangs_on_its_end(member, lease, proof):
            self.fail("live_machine_kept", f"{member.name}: lease {lease_hash.hex()[:12]}, its end is not confirmed")
        elif not is_orphan and (lease is None or not self._is_over(lease)):
            state = "unknown" if lease is None else f"{lease.state}"
            self.fail(
                "live_machine_kept", f"{member.name}: lease {lease_hash.hex()[:12]} is {state}, the proof: {proof}"
            )

    def _is_over(self, lease: LeaseRecord) -> bool:
        return lease.is_final or (lease.state is LeaseState.ACCEPTED and self._is_late(lease))

    def _is_late(self, lease: LeaseRecord) -> bool:
        """Whether nobody can settle it any more."""
        return true_time() > lease.expiry + self._genesis.timing.settle_grace * NS - HONEST_CLOCK_ERROR

    def _hangs_on_its_end(self, member: "Member", lease: LeaseRecord, proof: Proof) -> bool:
        """Whether it may not be over: its end is not confirmed, and nothing else says that it is."""
        is_expired = isinstance(proof, EndProof) and proof.reason == "expired" and self._is_late(lease)
        return lease.is_final and not member.books.is_confirmed(lease.end_hash) and not is_expired

    def look_at_machines(self, member: "Member", is_calm: bool) -> None:
        """Every second or so: whose lease has long been over while its provider could act."""
        for lease_hash, machine in member.machines.machines.items():
            key = (member.name, lease_hash)
            lease = member.books.leases.get(lease_hash)
            if machine.status not in UP or not member.is_up or not self._must_stop(member, lease, is_calm):
                self._over_since.pop(key, None)
                continue
            since = self._over_since.setdefault(key, true_time() / NS)
            if true_time() / NS - since > LEASELESS_SECONDS:
                state = "unknown" if lease is None else f"{lease.state}"
                detail = f"{member.name}: lease {lease_hash.hex()[:12]} is {state}, its machine {machine.status}"
                self.fail("machine_has_lease", detail)

    def _must_stop(self, member: "Member", lease: LeaseRecord | None, is_calm: bool) -> bool:
        """An end that is not confirmed does not count yet, and partitions can hold that up (found by seed 3277)."""
        if lease is None:
            return True
        if lease.is_final:
            return is_calm or member.books.is_confirmed(lease.end_hash)
        if lease.state is LeaseState.CREATED:
            return true_time() > lease.created_at + ACCEPT_WITHIN
        return is_calm and self._is_over(lease)  # it takes the timekeepers' word that an accepted lease is over
