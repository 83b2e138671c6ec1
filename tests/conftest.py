"""What all tests share: property tests draw the same examples in every run, and no deadline reads a loaded machine.

`pytest --hypothesis-profile search` draws new ones, and more of them, to look for what the fixed ones miss.

`scripts/test` spreads the tests over a few processes, a file to each, but for three groups: all that boots machines
runs in one process, one after another, so do the drivers' own tests, and so does all that runs whole networks: a small
host is never asked for too much at once. Those three take longest, mostly waiting, and come first. The simulator's
seeds come last, a part to each process that is free: then nothing else competes with them, and all end together.
"""

from pathlib import PurePosixPath

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("xnode", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("xnode")

pytest_plugins = ["tests.support.devnet"]

NETWORKS = frozenset({"document", "fuzz", "interop"})


def _group(nodeid: str) -> str:
    path = PurePosixPath(nodeid.split("::")[0])
    folders = path.parts[1:-1]
    if folders == ("vm", "conformance"):
        return "0 drivers"
    if folders == ("vm",):
        return "0 machines"
    if folders and folders[0] in NETWORKS:
        return "1 networks"
    return f"3 {nodeid}" if path.match("sim/test_seeds.py") else f"2 {path}"


class GroupScheduling(LoadScopeScheduling):
    """A group stays in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    """How the tests are shared out where there are several processes."""
    return GroupScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Brings the groups into their order."""
    items.sort(key=lambda item: _group(item.nodeid))
