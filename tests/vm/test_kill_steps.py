"""The node is killed at each step of provisioning: the next run finds what is there, goes on, leaves nothing over."""

import signal
import sys
from pathlib import Path

import pytest
import trio

from tests.support.qemu import CHECKOUT, Consumer, ended, new_spec, open_driver, settings
from xnode.core.machine import MachineSpec, MachineStatus, machine_name
from xnode.core.values import Hash
from xnode.vm import cgroups, qemu_process
from xnode.vm.state import machine_uuid

pytestmark = [pytest.mark.vm, pytest.mark.slow]

CONSUMER = Consumer(bytes(31) + b"\1")

STEPS = {
    "its files are made": ("xnode.vm.machine_files", "prepare"),
    "its disk is made": ("xnode.vm.machine_maker.MachineMaker", "_make_disk"),
    "its record is written": ("xnode.vm.state", "save"),
    "it has its name": ("xnode.vm.machine_files", "publish"),
    "QEMU runs": ("xnode.vm.qemu", "spawn"),
    "its limits are set": ("xnode.vm.cgroups.Cgroups", "put"),
    "the provider has logged in": ("xnode.vm.boot.Boot", "up"),
}
UNFINISHED = ("its files are made", "its disk is made", "its record is written")
BOOTED = ("QEMU runs", "its limits are set", "the provider has logged in")

# Dies by SIGKILL as soon as the named function has returned.
NODE = """
import importlib, inspect, os, signal, sys, trio
from pathlib import Path
from tests.support.qemu import Consumer, new_spec, open_driver, settings
from xnode.core.values import Hash
root, lease_hash, place, name = sys.argv[1:]
try:
    home = importlib.import_module(place)
except ModuleNotFoundError:
    module, _, owner = place.rpartition(".")
    home = getattr(importlib.import_module(module), owner)
act = getattr(home, name)
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def then_die(*args, **options):
    act(*args, **options)
    die()
async def then_die_too(*args, **options):
    await act(*args, **options)
    die()
setattr(home, name, then_die_too if inspect.iscoroutinefunction(act) else then_die)
async def main():
    spec = new_spec(Consumer(bytes(31) + b"\\1"))._replace(lease_hash=Hash(bytes.fromhex(lease_hash)))
    async with open_driver(settings(Path(root))) as driver:
        await driver.create(spec)
        await driver.start(spec.lease_hash)
trio.run(main)
"""


def qemu_of(lease_hash: Hash) -> qemu_process.Process | None:
    return qemu_process.find(machine_uuid(lease_hash))


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def die_at(step: str, root: Path, lease_hash: Hash) -> None:
    """A node that dies there."""
    words = [sys.executable, "-c", NODE, str(root), lease_hash.hex(), *STEPS[step]]
    done = await trio.run_process(words, cwd=CHECKOUT, check=False, capture_stderr=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("step", STEPS)
async def test_a_node_killed_at_this_step_goes_on(step: str, machines_root: Path, shared_machine) -> None:
    neighbour = qemu_of(shared_machine.machine.spec.lease_hash)
    spec: MachineSpec = new_spec(CONSUMER)
    await die_at(step, machines_root, spec.lease_hash)
    with trio.move_on_after(10 if step in BOOTED else 0):
        while qemu_of(spec.lease_hash) is None:  # noqa: ASYNC110 - prlimit becomes QEMU within milliseconds
            await trio.sleep(0.05)
    left = qemu_of(spec.lease_hash)
    assert (left is not None) == (step in BOOTED)
    async with open_driver(settings(machines_root)) as driver:
        found = await driver.adopt()
        if step in UNFINISHED:
            assert (found, names(machines_root)) == ((), []), "what was being made is gone"
        else:
            assert [machine.status for machine in found] == [MachineStatus.PROVISIONING]
        await driver.create(spec)
        if step in BOOTED:  # the others begin anew, as every machine does
            machine = await driver.start(spec.lease_hash)
            assert (machine.status, qemu_of(spec.lease_hash)) == (MachineStatus.RUNNING, left), "the same QEMU"
            assert (await driver.execute(spec.lease_hash, "hostname", 20)).stdout.decode().strip() == machine.name
        await driver.destroy(spec.lease_hash, ended(spec.lease_hash))
        with trio.fail_after(10):
            while machine_name(spec.lease_hash) in cgroups.find().names():  # until init has asked for QEMU's end
                await driver.refresh()
                await trio.sleep(0.2)
    assert (qemu_of(spec.lease_hash), names(machines_root)) == (None, [])
    assert neighbour is not None
    assert qemu_of(shared_machine.machine.spec.lease_hash) == neighbour
