"""Machines booted before anybody has leased them: what the pool does next, and the proof that one was never leased.

Theory of operation. The operator says how many machines of which flavour stand ready. Such a machine, a spare, is
booted like any other, with keys, machine id and entropy of its own; nobody but the provider can log in. A lease of the
same flavour takes one over: it gets the consumer's key, the lease's name, a larger disk where the lease has one, and
another key of the provider in place of the first. From then on it is the lease's machine; nothing here knows it more.

A note in the provider's store goes before every act. It is written before a spare is made; handing one out marks it
with the lease, in one batch, before the driver is asked; the driver makes the machine the lease's, durably, before the
consumer's key goes in. So a spare whose note is unmarked, and which the driver still calls a spare, was never
anybody's: only for that one is there a proof, and only with the proof can it be destroyed. Spares count against
nobody, boot only in what is left over, one at a time, while no lease is being worked on, and leave for a lease that
has no room beside them. The pool is level-triggered like the provider, so a restart leads to the same next step.

    note             machine                    action
    unmarked         none                       FORGET: it was not made, or it is discarded
    unmarked         provisioning, wanted       BOOT (goes on where it stood)
    unmarked         running, wanted            nothing: it is ready
    unmarked         down, paused, spoilt, of an older image, not wanted: DISCARD
    marked           a spare, its lease waits   nothing: the provider's boot of the lease takes it over
    marked           a spare, its lease is over RETURN: no consumer's key has been in it
    marked           none, or the lease's       FORGET
    none             a spare                    nothing: it is an orphan (the store was lost)
    fewer than wanted, calm, and there is room  MAKE one
"""

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from xnode.core.admission import host_shortage
from xnode.core.faults import OperatorFault, WrongState
from xnode.core.lease import Resources
from xnode.core.machine import HostRoom, Machine, MachineStatus
from xnode.core.market import fits, minus
from xnode.core.values import ZERO_HASH, Hash

FLAVOURS_MAX: Final = 16
SPARES_MAX: Final = 100  # of all flavours
RETRY_FIRST: Final = 5.0  # s after a spare could not be booted; doubled each time
RETRY_MAX: Final = 300.0
_FIELDS: Final = 5
_SHAPE: Final = 'machine_pool holds texts like "debian:2:2048:20:1": image, vCPUs, MiB, GiB, and how many'


class Flavour(NamedTuple):
    """What makes spares alike: the image by the name that leases use, and the sizes."""

    image: str
    resources: Resources


class Want(NamedTuple):
    """How many spares of a flavour shall stand ready."""

    flavour: Flavour
    number: int


class Spare(NamedTuple):
    """One of the pool as it is now; `leased_to` is zeros while its note is unmarked."""

    spare_id: Hash
    flavour: Flavour
    leased_to: Hash
    machine: Machine | None  # as the driver sees it; None where it is not there as a spare
    is_sound: bool  # its image is what leases get now, and nobody has found it unfit

    @property
    def is_ready(self) -> bool:
        """Whether a lease may take it."""
        is_up = self.machine is not None and self.machine.status is MachineStatus.RUNNING
        return self.leased_to == ZERO_HASH and is_up and self.is_sound

    @property
    def is_keepable(self) -> bool:
        """Whether it is ready or on its way."""
        is_coming = self.machine is not None and self.machine.status is MachineStatus.PROVISIONING
        return self.is_ready or (self.leased_to == ZERO_HASH and is_coming and self.is_sound)


class Act(StrEnum):
    """One step for one spare."""

    MAKE = "make"
    BOOT = "boot"
    DISCARD = "discard"
    RETURN = "return"
    FORGET = "forget"


class Step(NamedTuple):
    """What to do; `spare_id` is zeros for MAKE."""

    act: Act
    spare_id: Hash
    flavour: Flavour


class Pool(NamedTuple):
    """All that the next steps depend on. `busy` are spares that somebody works on, `waiting` leases that have no
    machine yet; `free` is what is on offer and neither leased nor promised; `room` what the host has left beside its
    machines, spares included; `is_calm`: no lease is being worked on, and the last failed boot is long enough ago."""

    spares: tuple[Spare, ...]
    wants: tuple[Want, ...]
    busy: frozenset[Hash]
    waiting: frozenset[Hash]
    free: Resources
    room: HostRoom | None
    is_calm: bool


class SpareProof(NamedTuple):
    """Evidence that a machine was never leased. Only `prove_never_leased` may make one."""

    lease_hash: Hash  # the spare's own id, in place of a lease's


def next_steps(pool: Pool) -> tuple[Step, ...]:
    """All that can be done now, each for another spare; at most one of them boots."""
    wanted = wanted_spares(pool.spares, pool.wants)
    steps = [Step(act, item.spare_id, item.flavour) for item in pool.spares if (act := _act_on(item, wanted, pool))]
    boots = [step for step in steps if step.act is Act.BOOT]
    others = [step for step in steps if step.act is not Act.BOOT]
    if not pool.is_calm or _is_booting(pool):
        return tuple(others)
    return (*others, *(boots[:1] or _make(pool)))


def _act_on(spare: Spare, wanted: Collection[Hash], pool: Pool) -> Act | None:
    if spare.spare_id in pool.busy:
        return None
    if spare.machine is None:
        return Act.FORGET
    if spare.leased_to != ZERO_HASH:
        return None if spare.leased_to in pool.waiting else Act.RETURN
    if spare.spare_id not in wanted:
        return Act.DISCARD
    return None if spare.is_ready else Act.BOOT


def wanted_spares(spares: Iterable[Spare], wants: Iterable[Want]) -> frozenset[Hash]:
    """Those to keep: of each flavour as many as are wanted, the ready and the oldest first."""
    left = {want.flavour: want.number for want in wants}
    keep = set()
    for spare in sorted(filter(lambda item: item.is_keepable, spares), key=_rank):
        if left.get(spare.flavour, 0) > 0:
            left[spare.flavour] -= 1
            keep.add(spare.spare_id)
    return frozenset(keep)


def _rank(spare: Spare) -> tuple[bool, int, Hash]:
    return not spare.is_ready, spare.machine.created_at if spare.machine else 0, spare.spare_id


def _is_booting(pool: Pool) -> bool:
    return any(item.spare_id in pool.busy and not item.is_ready for item in pool.spares)


def _make(pool: Pool) -> tuple[Step, ...]:
    here = [item for item in pool.spares if item.leased_to == ZERO_HASH]
    if len(here) >= SPARES_MAX:
        return ()
    for want in pool.wants:
        there = sum(item.flavour == want.flavour for item in here)
        free = minus(pool.free, [item.flavour.resources for item in here])
        needed = want.flavour.resources
        if there < want.number and fits(needed, free) and not host_shortage(needed, pool.room):
            return (Step(Act.MAKE, ZERO_HASH, want.flavour),)
    return ()


def choose(spares: Iterable[Spare], busy: Collection[Hash], flavour: Flavour) -> Hash | None:
    """The spare that a lease gets: ready, of its image, CPUs and memory, with the largest disk up to its own."""
    idle = [item for item in spares if item.is_ready and item.spare_id not in busy]
    fitting = [item for item in idle if _suits(item.flavour, flavour)]
    best = min(fitting, key=lambda item: (-item.flavour.resources.disk_gb, _rank(item)), default=None)
    return best.spare_id if best is not None else None


def _suits(has: Flavour, wanted: Flavour) -> bool:
    same = (has.image, *has.resources[:2]) == (wanted.image, *wanted.resources[:2])
    return same and has.resources.disk_gb <= wanted.resources.disk_gb


def next_eviction(
    spares: Sequence[Spare], busy: Collection[Hash], wanted: Resources, free: Resources, room: HostRoom | None
) -> Hash | None:
    """The spare that has to go before a machine is made for a lease; None where the lease fits beside the pool.

    `free` is what is on offer and not leased, this lease taken off; `room` what the host has left beside all machines.
    """
    here = [item for item in spares if item.leased_to == ZERO_HASH and item.machine is not None]
    if not host_shortage(wanted, room) and fits(_sum(here), free):
        return None
    idle = [item for item in here if item.spare_id not in busy]
    return max(idle, key=_rank).spare_id if idle else None


def _sum(spares: Iterable[Spare]) -> Resources:
    columns = zip(Resources(0, 0, 0), *(item.flavour.resources for item in spares), strict=True)
    return Resources(*map(sum, columns))


def prove_never_leased(spare_id: Hash, note: Hash | None, machine: Machine | None) -> SpareProof:
    """The proof: by the spare's note (None: there is none, zeros: unmarked) and its machine, if there is one.

    Raises WrongState(not_a_spare), WrongState(spare_leased).
    """
    if note is None or (machine is not None and not machine.spec.is_spare):
        raise WrongState("not_a_spare", f"machine {spare_id.hex()} is none of the pool, so it must stay")
    if note != ZERO_HASH:
        raise WrongState("spare_leased", f"machine {spare_id.hex()} was given to lease {note.hex()}, so it must stay")
    return SpareProof(spare_id)


def retry_after(failures: int) -> float:
    """Seconds before another spare is booted, after so many failed boots in a row."""
    return min(RETRY_MAX, RETRY_FIRST * 2.0 ** min(failures - 1, 16)) if failures > 0 else 0.0


def parse_wants(texts: Sequence[str]) -> tuple[Want, ...]:
    """The operator's setting; raises OperatorFault(bad_config)."""
    wants = tuple(_parse_want(text) for text in texts)
    flavours = {want.flavour for want in wants}
    if len(flavours) < len(wants) or len(wants) > FLAVOURS_MAX or sum(want.number for want in wants) > SPARES_MAX:
        message = f"machine_pool names each flavour once, {FLAVOURS_MAX} at most, and {SPARES_MAX} machines in all"
        raise OperatorFault("bad_config", message)
    return wants


def _parse_want(text: str) -> Want:
    image, *rest = text.split(":")
    if len(rest) != _FIELDS - 1 or not image or not all(item.isascii() and item.isdecimal() for item in rest):
        raise OperatorFault("bad_config", f"{_SHAPE}; not {text!r}")
    vcpus, memory_mb, disk_gb, count = (int(item[:9]) for item in rest)
    if min(vcpus, memory_mb, disk_gb) < 1:
        raise OperatorFault("bad_config", f"{_SHAPE}, none of the sizes 0; not {text!r}")
    return Want(Flavour(image, Resources(vcpus, memory_mb, disk_gb)), count)


def pack(flavour: Flavour, leased_to: Hash) -> bytes:
    """A spare's note: the lease that it was given to, and its flavour."""
    return leased_to + ":".join((flavour.image, *map(str, flavour.resources))).encode()


def unpack(value: bytes) -> tuple[Flavour, Hash]:
    """The reverse; raises OperatorFault(bad_config) for what another version wrote."""
    want = _parse_want(value[len(ZERO_HASH) :].decode(errors="replace") + ":1")
    return want.flavour, Hash(value[: len(ZERO_HASH)])
