"""What befalls or is done by members of a run, carried out: each kind of deed of the plan is a method here."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import trio

from tests.sim.clocks import true_time
from tests.sim.dao import Dao
from tests.sim.evil import EvilHand
from tests.sim.fake_leveldb import Strike, Trap
from tests.sim.member import Member
from tests.sim.plan import Deed, Plan
from tests.sim.steering import Steering
from tests.sim.storm import Storm, Weather
from tests.support.group import TRIO, Group
from tests.support.ledger import SMALL, address_of
from tests.support.role_node import FORM, peer_id_of
from xnode.core.blocks import Block, Send
from xnode.core.faults import Fault
from xnode.core.ledger import Outcome
from xnode.core.power import Verb
from xnode.core.values import Asset
from xnode.roles.author import Draft

OTHER_TRIO: Final = "2:ann,dan,eve"  # to whom a rotation hands over


class Deeds:
    """`busy` counts what a run has to wait for before it is over."""

    def __init__(
        self, plan: Plan, members: Mapping[str, Member], hands: Mapping[str, EvilHand], storm: Storm, steering: Steering
    ) -> None:
        self._plan = plan
        self._members = members
        self._hands = hands
        self._storm = storm
        self._journal = storm.journal
        self._dao = Dao(plan.genesis, self._journal)
        self._steering = steering

    @property
    def busy(self) -> int:
        """What is still being done."""
        return self._dao.busy + sum(hand.busy for hand in self._hands.values())

    async def do(self, nursery: trio.Nursery, deed: Deed) -> None:
        """One of the plan's."""
        await getattr(self, "_" + deed.kind.replace(" ", "_"))(nursery, deed)

    async def _lease_wanted(self, _: trio.Nursery, deed: Deed) -> None:
        duration, timeout = deed.details
        member = self._members[deed.who]
        member.start_soon(self._want_lease, member, duration, timeout)

    async def _want_lease(self, member: Member, duration: int, timeout: float) -> None:
        if member.roles is None:
            return
        self._journal.note("lease wanted", member.name)
        form = FORM._replace(duration=duration, timeout=timeout, resources=SMALL)
        await self._try("lease", member, partial(member.roles.consumer.request, form))

    async def _send(self, _: trio.Nursery, deed: Deed) -> None:
        to, amount = deed.details
        member = self._members[deed.who]
        if member.roles is None or to == deed.who:
            return
        draft = Draft(Asset.XUSD, -int(amount), Send(address_of(str(to)), int(amount)))  # type: ignore[call-overload]
        member.start_soon(self._try, "send", member, partial(member.roles.author.append, draft))

    async def _burst(self, _: trio.Nursery, deed: Deed) -> None:
        """Many blocks as quick as it can make them."""
        (count,) = deed.details
        assert isinstance(count, int)
        member = self._members[deed.who]
        member.start_soon(self._try, "burst", member, partial(self._send_many, member, count))

    async def _send_many(self, member: Member, count: int) -> None:
        others = [other.address for other in self._members.values() if other is not member]
        for number in range(count):
            if member.roles is not None:
                body = Send(others[number % len(others)], 1)
                await member.roles.author.append(Draft(Asset.XUSD, -1, body))

    async def _machine_act(self, _: trio.Nursery, deed: Deed) -> None:
        (verb,) = deed.details
        assert isinstance(verb, Verb)
        if self._members[deed.who].is_up:
            self._steering.order(self._members[deed.who], verb)

    async def _try(self, what: str, member: Member, act: Callable[[], Awaitable[object]]) -> None:
        try:
            await act()
            self._journal.note(f"{what} done", member.name)
        except Fault as fault:
            self._journal.note(f"{what} failed: {fault.code}", member.name, str(fault))

    async def _joint_block(self, _: trio.Nursery, deed: Deed) -> None:
        """People who hold an account together sign its next block, at one node or by a misunderstanding at two."""
        what, to, others = deed.details
        assert isinstance(others, tuple)
        for number, name in enumerate((deed.who, *others)):
            member = self._members[name]
            if member.roles is not None:
                member.start_soon(self._sign_jointly, member, str(what), str(to), 1 + number)

    async def _sign_jointly(self, member: Member, what: str, to: str, amount: int) -> None:
        assert member.roles is not None
        block = self._joint(member, what, to, amount)
        if block is not None:
            submission = await member.roles.replica.submit(block)
            done = "done" if submission.outcome is Outcome.PROGRESS else f"failed: {submission.outcome}"
            self._journal.note(f"joint {what} {done}", member.name, submission.detail)

    def _joint(self, member: Member, what: str, to: str, amount: int) -> Block | None:
        assert member.roles is not None
        group = Group(self._plan.genesis, TRIO)
        with member.roles.store.snapshot() as view:
            if view.account(group.address) is None:
                return None  # it has not heard of it yet
            if what == "rotation":
                return group.update(view, OTHER_TRIO, timestamp=member.clock())
            pending = view.pendings(group.address, limit=1)
            if what == "receipt" and pending:
                return group.receive(view, pending[0].source, timestamp=member.clock())
            return group.send(view, address_of(to), amount, timestamp=member.clock())

    async def _gift(self, _: trio.Nursery, deed: Deed) -> None:
        """To the joint account."""
        member = self._members[deed.who]
        if member.roles is not None:
            body = Send(Group(self._plan.genesis, TRIO).address, 3)
            draft = Draft(Asset.XUSD, -3, body)
            member.start_soon(self._try, "gift", member, partial(member.roles.author.append, draft))

    async def _state_block(self, nursery: trio.Nursery, deed: Deed) -> None:
        what, ahead = deed.details
        nursery.start_soon(self._dao.enact, what, ahead, tuple(self._members.values()))

    async def _drain(self, _: trio.Nursery, deed: Deed) -> None:
        """Its operator lets it take no new leases, or take them again."""
        (is_on,) = deed.details
        member = self._members[deed.who]
        member.start_soon(self._switch_drain, member, bool(is_on))

    async def _switch_drain(self, member: Member, is_on: bool) -> None:
        assert member.roles is not None
        member.roles.switch_drain(is_on=is_on)
        member.drained_at = true_time() if is_on else None
        self._journal.note("drained" if is_on else "drained no more", member.name)

    async def _weather(self, _: trio.Nursery, deed: Deed) -> None:
        (weather,) = deed.details
        assert isinstance(weather, Weather)
        self._storm.now = weather
        self._journal.note("weather", "", str(weather))

    async def _partition(self, nursery: trio.Nursery, deed: Deed) -> None:
        nursery.start_soon(self._part, *deed.details)

    async def _part(self, island: tuple[str, ...], others: tuple[str, ...], both_ways: bool, seconds: float) -> None:
        self._journal.note("two-way partition" if both_ways else "one-way partition", "", f"{island}, {seconds:.0f} s")
        await self._storm.cut([peer_id_of(name) for name in island], [peer_id_of(name) for name in others], both_ways)
        await trio.sleep(seconds)
        self._storm.heal()
        self._journal.note("partitions healed", "")

    async def _crash(self, _: trio.Nursery, deed: Deed) -> None:
        how, writes, down_seconds, takes_machines = deed.details
        member = self._members[deed.who]
        if not member.is_up:
            return
        assert isinstance(down_seconds, float)
        if takes_machines and member.machines.machines:
            self._journal.note("host power cut", member.name)
            member.machines.power_cut()
        if how is None:
            self._journal.note("crash", member.name)
            member.kill(down_seconds)
        else:
            _set_trap(member, how, writes, down_seconds)

    async def _disk(self, _: trio.Nursery, deed: Deed) -> None:
        how, writes, down_seconds, _takes_machines = deed.details
        _set_trap(self._members[deed.who], how, writes, down_seconds)

    async def _clock_step(self, _: trio.Nursery, deed: Deed) -> None:
        (seconds,) = deed.details
        assert isinstance(seconds, int)
        self._members[deed.who].clock.step(seconds)
        self._journal.note("clock step" if abs(seconds) <= 90 else "large clock step", deed.who, f"{seconds} s")

    async def _boots_fail(self, _: trio.Nursery, deed: Deed) -> None:
        (count,) = deed.details
        assert isinstance(count, int)
        self._members[deed.who].machines.boots_to_fail = count
        self._journal.note("boots fail", deed.who, str(count))

    async def _boots_are_slow(self, _: trio.Nursery, deed: Deed) -> None:
        (seconds,) = deed.details
        assert isinstance(seconds, float)
        self._members[deed.who].machines.boot_seconds = seconds

    async def _abuse(self, _: trio.Nursery, deed: Deed) -> None:
        (how,) = deed.details
        payees = [member.address for member in self._members.values() if member.name != deed.who]
        hosts = [member.address for member in self._members.values() if member.role.capacity is not None]
        self._hands[deed.who].abuse(str(how), payees, hosts)


def _set_trap(member: Member, how: Any, writes: Any, down_seconds: Any) -> None:
    assert isinstance(how, Strike)
    assert isinstance(writes, int)
    assert isinstance(down_seconds, float)
    if member.is_up:
        member.down_seconds = down_seconds
        member.disk.trap = Trap(how, member.disk.writes + writes)
