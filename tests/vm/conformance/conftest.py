"""The drivers that the suite is held against, and for each one machine that runs while its tests do."""

from typing import NamedTuple

import pytest
import trio

from tests.support.driver_kit import Kit, fake_kit, qemu_kit
from tests.support.qemu import Consumer, ended, new_consumer
from xnode.core.machine import Machine, MachineStatus
from xnode.vm.driver import Driver

REAL = [pytest.param("qemu", marks=[pytest.mark.vm, pytest.mark.slow])]


class Running(NamedTuple):
    """A machine that nobody may stop, and a driver that has adopted it."""

    driver: Driver
    machine: Machine
    consumer: Consumer


@pytest.fixture(scope="session", params=["fake", *REAL])
def kit(request):
    if request.param == "fake":
        with fake_kit() as kit:
            yield kit
    else:
        request.getfixturevalue("tiny_image")
        with qemu_kit() as kit:
            yield kit


@pytest.fixture(scope="session")
def booted(kit: Kit):
    """The shared machine's consumer and lease."""
    consumer = new_consumer()
    spec = kit.new_spec(consumer)

    async def boot() -> None:
        async with kit.open() as driver:
            await driver.create(spec)
            await driver.start(spec.lease_hash)

    async def destroy() -> None:
        async with kit.open() as driver:
            await driver.adopt()
            await driver.destroy(spec.lease_hash, ended(spec.lease_hash))

    trio.run(boot)
    try:
        yield consumer, spec
    finally:
        trio.run(destroy)


@pytest.fixture
async def driver(kit: Kit):
    """A new driver that has adopted what is there."""
    async with kit.open() as driver:
        await driver.adopt()
        yield driver


@pytest.fixture
def running(driver: Driver, booted) -> Running:
    consumer, spec = booted
    (machine,) = (item for item in driver.machines() if item.spec == spec)
    assert machine.status is MachineStatus.RUNNING
    return Running(driver, machine, consumer)
