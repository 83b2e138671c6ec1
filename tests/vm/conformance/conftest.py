"""The drivers that the suite is held against, and for each one machine that runs while its tests do."""

import os
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from tests.support.driver_kit import Kit, fake_kit, lima_kit, qemu_kit
from tests.support.lima_double import build_guest
from tests.support.qemu import Consumer, ended, new_consumer
from xnode.core.machine import Machine, MachineStatus
from xnode.vm.driver import Driver

HERE = Path(__file__).parent
QEMU, LIMA = (pytest.param(name, marks=[pytest.mark.vm, pytest.mark.slow]) for name in ("qemu", "lima"))


class Running(NamedTuple):
    """A machine that nobody may stop, and a driver that has adopted it."""

    driver: Driver
    machine: Machine
    consumer: Consumer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All drivers keep the port; those with a guest are asked about it; limactl is asked where Lima is behind."""
    if "kit" in metafunc.fixturenames:
        module = metafunc.module.__name__.rpartition(".")[2]
        drivers = {"test_port": ["fake", QEMU, LIMA], "test_guest": [QEMU, LIMA], "test_limactl": [LIMA]}[module]
        metafunc.parametrize("kit", drivers, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One driver after another, so that none is set up twice."""
    places = [place for place, item in enumerate(items) if item.path.parent == HERE]
    ordered = sorted((items[place] for place in places), key=lambda item: item.callspec.params["kit"])
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


@pytest.fixture(scope="session")
def kit(request):
    with _kit(request) as kit:
        yield kit


def _kit(request):
    if request.param == "fake":
        return fake_kit()
    if request.param == "lima":
        real = "LIMACTL" in os.environ
        return lima_kit(None if real else build_guest(request.getfixturevalue("tiny_image")))
    request.getfixturevalue("tiny_image")
    return qemu_kit()


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
