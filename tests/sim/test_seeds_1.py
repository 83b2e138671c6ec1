"""Part 1 of the seeds that every change must pass; each part is a file, so that they run in different processes."""

import pytest

from tests.sim.seeds import check_part


@pytest.mark.slow
def test_seeds() -> None:
    check_part(0)
