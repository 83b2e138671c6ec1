"""One way to each kind of machine driver, for the suite that all of them pass (tests/vm/conformance)."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from tests.support import lima_double, qemu
from tests.support.fake_driver import Disk, FakeDriver
from xnode.core.machine import MachineSpec
from xnode.core.values import Hash
from xnode.vm.driver import Driver
from xnode.vm.lima import LimaDriver
from xnode.vm.lima_settings import LimaSettings


class Kit(NamedTuple):
    """`open` gives a new driver over the same machines, as after a restart of the node; specs name `image`."""

    name: str
    image: str
    open: Callable[[], AbstractAsyncContextManager[Driver]]
    lima: LimaSettings | None = None

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


@contextmanager
def lima_kit(guest: Path | None) -> Iterator[Kit]:
    """What LIMACTL names, with the image at LIMA_IMAGE; or else the double, with this guest behind it."""
    with tempfile.TemporaryDirectory(prefix="xl-") as name:  # short: Lima's sockets lie below it
        folder = Path(name)
        folder.chmod(0o755)
        user = lima_double.unprivileged()
        home = folder / "home"
        home.mkdir(mode=0o700)
        if user is not None:
            os.chown(home, user.pw_uid, user.pw_gid)
        settings = LimaSettings(
            root=folder / "machines",
            home=home,
            image=os.environ.get("LIMA_IMAGE", ""),
            limactl=os.environ.get("LIMACTL", ""),
            user=user.pw_name if user is not None else "",
            accelerator="tcg" if guest is not None else "",
            boot_timeout=600.0,
        )
        if guest is not None:
            program = lima_double.install(folder / "lima", guest)
            settings = settings._replace(limactl=str(program), image=str(folder / "lima" / "guest" / "initrd"))
        kit = Kit("lima", "", lambda: LimaDriver.open(settings, time.time_ns, os.urandom), settings)
        try:
            yield kit
        finally:
            trio.run(destroy_all, kit)


async def destroy_all(kit: Kit) -> None:
    """Whatever tests have left."""
    async with kit.open() as driver:
        for machine in await driver.adopt():
            await driver.destroy(machine.spec.lease_hash, qemu.ended(machine.spec.lease_hash))
