"""A network of whole nodes; a test that takes it takes `autojump_clock` too, by which its time is virtual."""

from pathlib import Path

import pytest
import trio

from tests.support.role_node import Village


@pytest.fixture
async def village(nursery: trio.Nursery, tmp_path: Path) -> Village:
    return Village(nursery, tmp_path)
