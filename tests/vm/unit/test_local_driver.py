"""What real drivers do without a guest: a machine of which there is the record only."""

from pathlib import Path

import pytest

from tests.support.qemu import new_consumer, new_spec, open_driver, settings
from xnode.core.machine import MachineSpec, MachineStatus
from xnode.core.values import PublicKey
from xnode.vm import machine_files, state
from xnode.vm.state import Record

HOST_KEY = PublicKey(b"\3" * 32)


def leave(root: Path, status: MachineStatus = MachineStatus.PROVISIONING) -> MachineSpec:
    """A machine as an earlier run has left it; no process runs it."""
    spec = new_spec(new_consumer())
    directory = machine_files.directory_of(root, spec.lease_hash)
    (directory / "run").mkdir(parents=True)
    state.save(directory, Record(spec, "tiny-0123", 128, HOST_KEY, "tcg", 10, status, 10))
    return spec


@pytest.mark.parametrize("status", [MachineStatus.STOPPED, MachineStatus.FAILED, MachineStatus.PROVISIONING])
async def test_stop_leaves_nothing_that_is_to_be_stopped(tmp_path: Path, status: MachineStatus) -> None:
    lease_hash = leave(tmp_path, status).lease_hash
    async with open_driver(settings(tmp_path)) as driver:
        await driver.adopt()
        after = (await driver.stop(lease_hash)).status
    assert after is (MachineStatus.FAILED if status is MachineStatus.FAILED else MachineStatus.STOPPED)
    assert state.load(machine_files.directory_of(tmp_path, lease_hash)).status is after
