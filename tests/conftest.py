"""What all tests share: property tests draw the same examples in every run, and no deadline reads a loaded machine.

`pytest --hypothesis-profile search` draws new ones, and more of them, to look for what the fixed ones miss.

`scripts/test` spreads the tests over a few processes, a file to each, but for two groups: all that boots machines runs
in one process, one after another, and so does all that runs whole networks, so that a small host is never asked for too
much at once. Those two take longest, mostly waiting, and come first.
"""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("xnode", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("xnode")

pytest_plugins = ["tests.support.devnet"]

TESTS = Path(__file__).parent
NETWORKS = frozenset({"document", "fuzz", "interop"})


def _group(path: Path) -> str:
    folders = path.relative_to(TESTS).parts[:-1]
    if folders == ("vm",):
        return "0 machines"
    return "1 networks" if folders and folders[0] in NETWORKS else f"2 {path}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Names each test's group, and brings the groups into their order."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item.path)))
    items.sort(key=lambda item: _group(item.path))
