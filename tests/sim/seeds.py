"""The seeds that every change must pass, in parts that run in different processes."""

from typing import Final

from tests.sim.run import run_seed

SEEDS: Final = range(1, 201)
PARTS: Final = 4


def check_part(number: int) -> None:
    """Runs one part of the seeds; fails with the first broken run's report."""
    for seed in SEEDS[number::PARTS]:
        result = run_seed(seed)
        assert result.broken is None, result.report()
