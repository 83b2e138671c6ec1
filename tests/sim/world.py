"""One run: all members on virtual time, the deeds of the plan, then calm, and what must then be true.

Nothing of the product is exchanged: clock, network, disk, machines and randomness are fakes, all from one seed.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple

import trio

from tests.sim.clocks import NodeClock
from tests.sim.evil import EvilHand
from tests.sim.fake_leveldb import Strike, Trap
from tests.sim.invariants import SETTLE_SECONDS, Broken, Invariants
from tests.sim.journal import Journal
from tests.sim.member import Member, Surroundings
from tests.sim.opening import opening_disk
from tests.sim.plan import Deed, Plan
from tests.sim.storm import CALM, Storm, Weather
from tests.support.ledger import SMALL, address_of
from tests.support.role_node import FORM, peer_id_of
from xnode.core.blocks import Send
from xnode.core.faults import Fault
from xnode.core.values import Asset
from xnode.roles.author import Draft
from xnode.store.schema import ACCOUNT, LEASE, PENDING, UNDO
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
        opening = opening_disk(plan.genesis, names)
        self.members = {
            role.name: Member(role, opening.copy(), NodeClock(*plan.clocks[role.name]), around) for role in plan.roles
        }
        self.hands = {
            name: EvilHand(member, Random(f"evil {plan.seed} {name}"), lambda: self.is_calm)
            for name, member in self.members.items()
            if member.role.evils
        }
        for name, hand in self.hands.items():
            hand.allies = list(self.hands.values())
            self.members[name].on_life = hand.possess
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
            await trio.sleep_until(deed.at)
            await getattr(self, "_do_" + deed.kind.replace(" ", "_"))(nursery, deed)
        await trio.sleep_until(self.plan.calm_at)
        self._calm_down()
        await self._until_settled()
        nursery.cancel_scope.cancel()

    def _calm_down(self) -> None:
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
        if any(hand.busy for hand in self.hands.values()):
            return "somebody evil is still at it"
        if any(member.machines.machines for member in self.honest):
            return "machines are left"
        waiting = {member.name: sum(key[:1] == UNDO for key in member.disk.rows) for member in self.honest}
        if any(waiting.values()):
            return f"not confirmed: {waiting}"
        first, *others = ({key: row for key, row in one.disk.rows.items() if key[:1] in SHARED} for one in self.honest)
        different = [one.name for one, rows in zip(self.honest[1:], others, strict=True) if rows != first]
        return f"{different} have another ledger than {self.honest[0].name}" if different else ""

    async def _do_lease_wanted(self, _: trio.Nursery, deed: Deed) -> None:
        duration, timeout = deed.details
        member = self.members[deed.who]
        member.start_soon(self._want_lease, member, duration, timeout)

    async def _want_lease(self, member: Member, duration: int, timeout: float) -> None:
        if member.roles is None:
            return
        self.journal.note("lease wanted", member.name)
        form = FORM._replace(duration=duration, timeout=timeout, resources=SMALL)
        await self._try("lease", member, partial(member.roles.consumer.request, form))

    async def _do_send(self, _: trio.Nursery, deed: Deed) -> None:
        to, amount = deed.details
        member = self.members[deed.who]
        if member.roles is None or to == deed.who:
            return
        draft = Draft(Asset.XUSD, -int(amount), Send(address_of(str(to)), int(amount)))  # type: ignore[call-overload]
        member.start_soon(self._try, "send", member, partial(member.roles.author.append, draft))

    async def _try(self, what: str, member: Member, act: Callable[[], Any]) -> None:
        try:
            await act()
            self.journal.note(f"{what} done", member.name)
        except Fault as fault:
            self.journal.note(f"{what} failed: {fault.code}", member.name, str(fault))

    async def _do_weather(self, _: trio.Nursery, deed: Deed) -> None:
        (weather,) = deed.details
        assert isinstance(weather, Weather)
        self.storm.now = weather
        self.journal.note("weather", "", str(weather))

    async def _do_partition(self, nursery: trio.Nursery, deed: Deed) -> None:
        nursery.start_soon(self._part, *deed.details)

    async def _part(self, island: tuple[str, ...], others: tuple[str, ...], both_ways: bool, seconds: float) -> None:
        self.journal.note("two-way partition" if both_ways else "one-way partition", "", f"{island}, {seconds:.0f} s")
        await self.storm.cut([peer_id_of(name) for name in island], [peer_id_of(name) for name in others], both_ways)
        await trio.sleep(seconds)
        self.storm.heal()
        self.journal.note("partitions healed", "")

    async def _do_crash(self, _: trio.Nursery, deed: Deed) -> None:
        how, writes, down_seconds, takes_machines = deed.details
        member = self.members[deed.who]
        if not member.is_up:
            return
        assert isinstance(down_seconds, float)
        if takes_machines and member.machines.machines:
            self.journal.note("host power cut", member.name)
            member.machines.power_cut()
        if how is None:
            self.journal.note("crash", member.name)
            member.kill(down_seconds)
        else:
            self._set_trap(member, how, writes, down_seconds)

    async def _do_disk(self, _: trio.Nursery, deed: Deed) -> None:
        how, writes, down_seconds, _takes_machines = deed.details
        self._set_trap(self.members[deed.who], how, writes, down_seconds)

    def _set_trap(self, member: Member, how: object, writes: object, down_seconds: object) -> None:
        assert isinstance(how, Strike)
        assert isinstance(writes, int)
        assert isinstance(down_seconds, float)
        if member.is_up:
            member.down_seconds = down_seconds
            member.disk.trap = Trap(how, member.disk.writes + writes)

    async def _do_clock_step(self, _: trio.Nursery, deed: Deed) -> None:
        (seconds,) = deed.details
        assert isinstance(seconds, int)
        self.members[deed.who].clock.step(seconds)
        self.journal.note("clock step", deed.who, f"{seconds} s")

    async def _do_boots_fail(self, _: trio.Nursery, deed: Deed) -> None:
        (count,) = deed.details
        assert isinstance(count, int)
        self.members[deed.who].machines.boots_to_fail = count
        self.journal.note("boots fail", deed.who, str(count))

    async def _do_boots_are_slow(self, _: trio.Nursery, deed: Deed) -> None:
        (seconds,) = deed.details
        assert isinstance(seconds, float)
        self.members[deed.who].machines.boot_seconds = seconds

    async def _do_abuse(self, _: trio.Nursery, deed: Deed) -> None:
        (how,) = deed.details
        payees = [member.address for member in self.members.values() if member.name != deed.who]
        hosts = [member.address for member in self.members.values() if member.role.capacity is not None]
        self.hands[deed.who].abuse(str(how), payees, hosts)


SHARED: Final = (ACCOUNT, PENDING, LEASE)
