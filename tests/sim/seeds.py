"""The seeds that tests run, in parts for different processes; `scripts/sim --seeds 200` and more is for people."""

from typing import Final

from tests.sim.run import run_seed

SEEDS: Final = range(1, 201)  # among these each fault occurs, and each broken rule is found
GREEN_SEEDS: Final = range(1, 41)  # run whole at every change: a seed takes one to three seconds of a slow core
PARTS: Final = 4


def check_part(number: int) -> None:
    """Runs one part of the seeds; fails with the first broken run's report."""
    for seed in GREEN_SEEDS[number::PARTS]:
        result = run_seed(seed)
        assert result.broken is None, result.report()
