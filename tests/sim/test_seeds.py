"""The seeds that every change must pass, in parts that run in different processes (tests/conftest.py)."""

import pytest

from tests.sim.seeds import PARTS, check_part


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_seeds(part: int) -> None:
    check_part(part)
