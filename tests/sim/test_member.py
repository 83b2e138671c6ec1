"""A node of a run: what it is told to do, and when its power goes."""

import trio
import trio.testing

from tests.sim.plan import make_plan
from tests.sim.world import World


async def test_what_it_was_told_is_not_begun_once_its_power_is_cut() -> None:
    """Found by seed 1765: a node's power went between the order and its first step."""
    world = World(make_plan(1))
    member = world.members["bob"]
    begun: list[str] = []
    is_begun = trio.Event()

    async def act(what: str) -> None:
        begun.append(what)
        is_begun.set()

    async with trio.open_nursery() as nursery:

        def order(what: str) -> None:
            member.start_soon(act, what)

        member.on_life = lambda _member, _nursery: order("in time")
        nursery.start_soon(world.storm.keep_carrying)
        nursery.start_soon(member.live)
        await is_begun.wait()
        order("too late")
        member.kill(1_000.0)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert begun == ["in time"]
