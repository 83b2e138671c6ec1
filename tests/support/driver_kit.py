"""One way to each kind of machine driver, for the suite that all of them pass (tests/vm/conformance)."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from tests.support import qemu
from tests.support.fake_driver import Disk, FakeDriver
from xnode.core.machine import MachineSpec
from xnode.core.values import Hash
from xnode.vm.driver import Driver


class Kit(NamedTuple):
    """`open` gives a new driver over the same machines, as after a restart of the node; specs name `image`."""

    name: str
    image: str
    open: Callable[[], AbstractAsyncContextManager[Driver]]

    def new_spec(self, consumer: qemu.Consumer) -> MachineSpec:
        """A small machine of a lease of its own."""
        return MachineSpec(Hash(os.urandom(32)), 1, 128, 1, consumer.public_key, self.image)


@contextmanager
def fake_kit() -> Iterator[Kit]:
    """The simulator's: no guest behind it, so only the port's own rules can be held against it."""
    disk = Disk()
    disk.boot_seconds = 0.05

    @asynccontextmanager
    async def open_fake():
        yield FakeDriver(disk, time.time_ns)
        while disk.guests:
            await disk.guests.pop().aclose()

    yield Kit("fake", "", open_fake)


@contextmanager
def qemu_kit() -> Iterator[Kit]:
    """Tiny guests under emulation."""
    with tempfile.TemporaryDirectory(prefix="xnode-qemu-") as root:
        kit = Kit("qemu", "tiny", lambda: qemu.open_driver(qemu.settings(Path(root))))
        try:
            yield kit
        finally:
            trio.run(destroy_all, kit)


async def destroy_all(kit: Kit) -> None:
    """Whatever tests have left."""
    async with kit.open() as driver:
        for machine in await driver.adopt():
            await driver.destroy(machine.spec.lease_hash, qemu.ended(machine.spec.lease_hash))
