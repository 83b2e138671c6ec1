"""Runs seeds: one process, one thread, virtual time, and nothing that differs from one run to the next."""

import gc
import logging
from functools import lru_cache
from math import ceil, inf
from typing import Final

import nacl.bindings
import trio
import trio.testing
from trio._core import _run as scheduler

from tests.sim.journal import Journal
from tests.sim.plan import make_plan
from tests.sim.world import Result, World
from xnode.core.blocks import decode_block
from xnode.roles import replica, vote_exchange
from xnode.store import schema

TICK: Final = 2**-7  # seconds, about 8 ms; a power of two, so that sums of it are exact
REMEMBERED_MAX: Final = 50_000  # signatures, and blocks

_open = nacl.bindings.crypto_sign_open
decoded = lru_cache(REMEMBERED_MAX)(decode_block)


def remember() -> None:
    """All nodes of a run check the same signatures and decode the same blocks: the answers are remembered.

    They are libsodium's and the codec's own; both depend on nothing but the bytes.
    """
    nacl.bindings.crypto_sign_open = lru_cache(REMEMBERED_MAX)(_open)
    for module in (schema, replica, vote_exchange):
        module.decode_block = decoded  # type: ignore[attr-defined]


def forget() -> None:
    """As it was."""
    nacl.bindings.crypto_sign_open = _open
    decoded.cache_clear()
    for module in (schema, replica, vote_exchange):
        module.decode_block = decode_block  # type: ignore[attr-defined]


def run_seed(seed: int) -> Result:
    """One whole run."""
    logging.disable(logging.CRITICAL)
    remember()
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    scheduler._r.seed(seed)
    gc.collect()
    gc.disable()
    try:
        return trio.run(_run, seed, clock=make_clock())
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)
        forget()


def make_clock() -> trio.testing.MockClock:
    """Trio's clock for tests, on which timers fire at full TICKs only: fewer wake-ups, each with more to shuffle.

    The two methods stand in for trio's own, which are written for a clock that also runs by itself, and slow.
    """
    clock = trio.testing.MockClock(autojump_threshold=0)

    def jump() -> None:
        deadline = scheduler.GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline()
        if deadline < inf:
            clock._virtual_base = max(clock._virtual_base, ceil(deadline / TICK) * TICK)

    clock._autojump = jump  # type: ignore[method-assign]
    clock.current_time = lambda: clock._virtual_base  # type: ignore[method-assign]
    return clock


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
