"""One run: all members on virtual time, the deeds of the plan, then calm, and what must then be true.

Nothing of the product is exchanged: clock, network, disk, machines and randomness are fakes, all from one seed.
"""

from random import Random
from typing import Final, NamedTuple

import trio

from tests.sim.clocks import NodeClock
from tests.sim.deeds import Deeds
from tests.sim.evil import EvilHand
from tests.sim.fake_leveldb import Disk
from tests.sim.invariants import SETTLE_SECONDS, Broken, Invariants
from tests.sim.journal import Journal
from tests.sim.member import Member, Surroundings
from tests.sim.opening import opening_disk
from tests.sim.plan import Plan
from tests.sim.steering import Steering
from tests.sim.storm import CALM, Storm
from xnode.store.schema import ACCOUNT, ERA, LEASE, PENDING, STATE_BLOCK, STATE_VALUE, UNDO
from xnode.store.verify import verify_store

LOOK_EVERY: Final = 2.0  # seconds between looks at machines and networks
EVENTS_PRINTED: Final = 40


class Result(NamedTuple):
    """How a run went; `broken` is None where all held."""

    seed: int
    digest: str
    counts: dict[str, int]
    seconds: float
    steps: int
    broken: Broken | None
    last: list[str]

    def report(self) -> str:
        """For whoever has to find out why."""
        if self.broken is None:
            return f"seed {self.seed}: {self.steps} steps, {self.seconds:.0f} virtual seconds, digest {self.digest}"
        lines = [
            f"seed {self.seed}, step {self.steps}, at {self.seconds:.3f} s: {self.broken.name}",
            f"  {self.broken.detail}",
            "the last events:",
            *(f"  {event}" for event in self.last[-EVENTS_PRINTED:]),
            f"again: scripts/sim --seed {self.seed}",
        ]
        return "\n".join(lines)


class World:
    """Made inside trio."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.journal = Journal()
        self.invariants = Invariants(plan.genesis, self.journal)
        self.storm = Storm(plan.seed, self.journal)
        self.is_calm = False
        names = tuple(role.name for role in plan.roles)
        around = Surroundings(plan.genesis, self.storm, self.journal, self.invariants, names)
        opening = opening_disk(plan.genesis, names, plan.history)
        self.members = {
            role.name: Member(
                role, Disk() if role.joins_at else opening.copy(), NodeClock(*plan.clocks[role.name]), around
            )
            for role in plan.roles
        }
        self.hands = {
            name: EvilHand(member, Random(f"evil {plan.seed} {name}"), lambda: self.is_calm)
            for name, member in self.members.items()
            if member.role.evils
        }
        for name, hand in self.hands.items():
            hand.allies = list(self.hands.values())
            self.members[name].on_life = hand.possess
        steering = Steering(self.journal)
        self.invariants.stopped = steering.stopped
        self.deeds = Deeds(plan, self.members, self.hands, self.storm, steering)
        self.honest = [member for member in self.members.values() if member.is_honest]
        self._honest_ids = frozenset(member.peer_id for member in self.honest)

    async def run(self) -> None:
        """To the end, or to the first broken invariant."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.storm.keep_carrying)
            for member in self.members.values():
                nursery.start_soon(member.live)
            nursery.start_soon(self._story, nursery)
            while not self.invariants.broken and not nursery.cancel_scope.cancel_called:
                await trio.sleep(LOOK_EVERY)
                self._look()
            nursery.cancel_scope.cancel()

    def _look(self) -> None:
        for member in self.honest:
            self.invariants.look_at_machines(member, self.is_calm)
            member.look(self._honest_ids)

    async def _story(self, nursery: trio.Nursery) -> None:
        for deed in self.plan.deeds:
            if not self.is_calm and deed.at > self.plan.calm_at:
                await self._calm_down()
            await trio.sleep_until(deed.at)
            await self.deeds.do(nursery, deed)
        if not self.is_calm:
            await self._calm_down()
        await self._until_settled()
        nursery.cancel_scope.cancel()

    async def _calm_down(self) -> None:
        await trio.sleep_until(self.plan.calm_at)
        self.is_calm = True
        self.journal.note("calm", "")
        self.storm.now = CALM
        self.storm.heal()
        for member in self.members.values():
            member.clock.mend()
            member.machines.boots_to_fail = 0
            if member.disk.trap is not None:
                member.kill(1.0)  # somebody exchanges the disk

    async def _until_settled(self) -> None:
        deadline = trio.current_time() + SETTLE_SECONDS
        while (reason := self._unsettled()) and trio.current_time() < deadline:  # noqa: ASYNC110  it fires nothing
            await trio.sleep(1.0)
        if reason:
            self.invariants.fail("one_ledger_in_the_end", reason)
            return
        for member in self.honest:
            assert member.roles is not None
            problems = verify_store(member.roles.store, checks_signatures=False) if member is self.honest[0] else []
            if problems:
                self.invariants.fail("sound_in_the_end", f"{member.name}: {problems[:3]}")

    def _unsettled(self) -> str:
        """Why the honest members are not of one mind yet; "" once they are."""
        away = [member.name for member in self.honest if not member.is_up]
        if away:
            return f"{away} do not run"
        if self.deeds.busy:
            return "somebody is still at it"
        if self.invariants.has_machines_left(self.honest):
            return "machines are left"
        waiting = {member.name: sum(key[:1] == UNDO for key in member.disk.rows) for member in self.honest}
        if any(waiting.values()):
            return f"not confirmed: {waiting}"
        if unended := [lease_hash.hex()[:12] for lease_hash in self.invariants.unended(self.honest)]:
            return f"leases have no end: {unended}"
        first, *others = ({key: row for key, row in one.disk.rows.items() if key[:1] in SHARED} for one in self.honest)
        different = [one.name for one, rows in zip(self.honest[1:], others, strict=True) if rows != first]
        return f"{different} have another ledger than {self.honest[0].name}" if different else ""


SHARED: Final = (ACCOUNT, PENDING, LEASE, STATE_BLOCK, STATE_VALUE, ERA)
