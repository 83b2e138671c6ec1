"""The node as its API sees it: what is nobody's lease is nobody's machine."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from tests.support.store import GENESIS
from xnode.core.faults import NotFound
from xnode.core.machine import ExecResult
from xnode.core.values import Hash
from xnode.service import NodeService, Published

LEASED, SPARE = Hash(b"l" * 32), Hash(b"s" * 32)


def machine(lease_hash: Hash) -> Any:
    return SimpleNamespace(spec=SimpleNamespace(lease_hash=lease_hash))


class Driver:
    """Runs a leased machine and a spare."""

    async def execute(self, lease_hash: Hash, command: str, timeout: float) -> ExecResult:
        return ExecResult(0, lease_hash, b"", 1, False)


async def test_a_spare_is_no_machine_to_run_commands_in() -> None:
    roles = SimpleNamespace(
        author=SimpleNamespace(address=b"a" * 32), driver=Driver(), machines=lambda: (machine(LEASED),)
    )
    async with trio.open_nursery() as nursery:
        service = NodeService(GENESIS, cast(Any, roles), nursery, Published)
        assert (await service.execute(LEASED, "true", 1)).stdout == LEASED
        with pytest.raises(NotFound) as caught:
            await service.execute(SPARE, "true", 1)
    assert caught.value.code == "vm_unknown"
