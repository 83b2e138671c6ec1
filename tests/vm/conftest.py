"""One tiny image for all, and one machine that tests share: each finds it again by adopting."""

import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from tests.support.qemu import IMAGE_STORE, Consumer, ended, new_consumer, new_spec, open_driver, settings
from xnode.core.machine import Machine, MachineStatus
from xnode.vm.guest.build_tiny import build_tiny
from xnode.vm.qemu import QemuDriver
from xnode.vm.qemu_settings import QemuSettings


class Shared(NamedTuple):
    """The machine that nobody may stop."""

    machine: Machine
    consumer: Consumer
    settings: QemuSettings


@pytest.fixture(scope="session")
def tiny_image() -> Path:
    """Built once for each version of its packages; later runs find it."""
    return build_tiny(IMAGE_STORE, lambda step: sys.stderr.write(step + "\n"))


@pytest.fixture(scope="session")
def shared_machine(tiny_image, tmp_path_factory):
    using = settings(tmp_path_factory.mktemp("shared"))
    consumer = new_consumer()
    spec = new_spec(consumer)

    async def boot() -> Machine:
        async with open_driver(using) as driver:
            await driver.create(spec)
            return await driver.start(spec.lease_hash)

    async def destroy() -> None:
        async with open_driver(using) as driver:
            await driver.destroy(spec.lease_hash, ended(spec.lease_hash))

    try:
        yield Shared(trio.run(boot), consumer, using)
    finally:
        trio.run(destroy)


@pytest.fixture
async def shared(shared_machine) -> tuple[QemuDriver, Shared]:
    """A new driver that has adopted the shared machine, as after a restart of the node."""
    async with open_driver(shared_machine.settings) as driver:
        (machine,) = await driver.adopt()
        assert machine.status is MachineStatus.RUNNING
        yield driver, shared_machine._replace(machine=machine)


@pytest.fixture
async def machines_root(tiny_image, tmp_path):
    """A place for machines; those that a test leaves there are destroyed."""
    root = tmp_path / "machines"
    root.mkdir()
    try:
        yield root
    finally:
        with trio.CancelScope(shield=True):
            await destroy_all(root)


async def destroy_all(root: Path) -> None:
    async with open_driver(settings(root)) as driver:
        for machine in await driver.adopt():
            await driver.destroy(machine.spec.lease_hash, ended(machine.spec.lease_hash))


@pytest.fixture
async def driver(machines_root):
    """A driver with no machine."""
    async with open_driver(settings(machines_root)) as driver:
        yield driver
