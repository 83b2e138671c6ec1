"""What somebody is told who waits for a lease: each step once, on a line that says something."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ledger import NOW, public_key_of
from tests.support.node_port import Running, running_api
from xnode.core.lease import LeaseState
from xnode.roles.lease_log import Step
from xnode_cmd.lease_progress import Watch
from xnode_cmd.node_access import NodeAccess

KEY = public_key_of("alice-access")
STEPS = (
    Step(NOW, "requested", f"2 XUSD in escrow for {'ab' * 32}, image tiny", 2_100),
    Step(NOW + 1, "lease_confirmed", "the network has decided for it", 180),
    Step(NOW + 2, "provider_booted", "", 3_400),
    Step(NOW + 3, "accepted", "the machine answers on SSH", 9_000),
)
TOLD = [
    "lease {}",
    "requested: 2 XUSD in escrow for abababababab, image tiny (2.1 s)",
    "lease confirmed: the network has decided for it (0.2 s)",
    "provider booted (3.4 s)",
]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with running_api(tmp_path / "node") as running:
        yield running


@pytest.mark.slow
def test_each_step_is_told_once(running: Running, tmp_path: Path) -> None:
    lease_hash = running.node.leases[LeaseState.CREATED]
    running.node.steps[lease_hash] = STEPS
    access, lines = NodeAccess(tmp_path, str(running.http.base_url)), list[str]()
    watch = Watch(access, KEY.hex(), lines.append)
    with access.client() as client:
        for _ in range(2):
            watch.look(client)
    deadline = time.monotonic() + 10
    while len(lines) < len(TOLD) and time.monotonic() < deadline:
        time.sleep(0.02)
    watch.say("the machine answers on SSH")
    watch.end()
    told = [re.sub(r"^\[ *[0-9.]+ s\] ", "", line) for line in lines]
    assert told == [TOLD[0].format(lease_hash.hex()[:12]), *TOLD[1:], "the machine answers on SSH"]
