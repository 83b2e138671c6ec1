"""A network of whole nodes; a test that takes it takes `autojump_clock` too, by which its time is virtual."""

from pathlib import Path

import pytest
import trio

from tests.support.role_node import Village


@pytest.fixture
async def village(nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Village:
    """Trio shuffles the tasks that are ready at once; here by a seed, so that a story is the same in every run."""
    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    trio._core._run._r.seed(1)
    return Village(nursery, tmp_path)
