"""The seeds that tests run, in parts for different processes; `scripts/sim --seeds 10000` is for people."""

from typing import Final

from tests.sim.run import run_seed

SEEDS: Final = range(1, 201)  # all run at every change; among these each fault occurs, and each broken rule is found
PARTS: Final = 8


def check_part(number: int) -> None:
    """Runs one part of the seeds; fails with the first broken run's report."""
    for seed in SEEDS[number::PARTS]:
        result = run_seed(seed)
        assert result.broken is None, result.report()
