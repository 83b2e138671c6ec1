"""A seed says everything: two runs of it are equal to the last message, in one process or in two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.run import run_seed

ROOT = Path(__file__).parents[2]
PROGRAM = "from tests.sim.run import run_seed; print(run_seed({seed}).digest)"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 7])
def test_the_same_seed_is_the_same_run(seed: int) -> None:
    first, second = run_seed(seed), run_seed(seed)
    assert first == second
    assert first.digest != run_seed(seed + 1).digest


@pytest.mark.slow
def test_the_same_seed_is_the_same_run_in_another_process() -> None:
    """Also where sets of bytes have another order."""
    digests = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        words = [sys.executable, "-c", PROGRAM.format(seed=6)]
        done = subprocess.run(words, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300)
        digests.add(done.stdout)
    assert len(digests) == 1
