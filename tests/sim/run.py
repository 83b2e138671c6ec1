"""Runs seeds: one process, one thread, virtual time, and nothing that differs from one run to the next."""

import gc
import logging

import trio

from tests.sim.journal import Journal
from tests.sim.loop import virtual_time
from tests.sim.plan import make_plan
from tests.sim.remembered import remembering
from tests.sim.world import Result, World


def run_seed(seed: int) -> Result:
    """One whole run."""
    logging.disable(logging.CRITICAL)
    gc.freeze()  # what was there before is no garbage of this run
    gc.disable()
    try:
        with remembering(), virtual_time(seed) as clock:
            return trio.run(_run, seed, clock=clock)
    finally:
        gc.enable()
        gc.collect()
        gc.unfreeze()
        logging.disable(logging.NOTSET)


async def _run(seed: int) -> Result:
    world = World(make_plan(seed))
    await world.run()
    journal: Journal = world.journal
    return Result(
        seed,
        journal.digest,
        dict(journal.counts),
        trio.current_time(),
        journal.steps,
        world.invariants.broken,
        journal.last,
    )
