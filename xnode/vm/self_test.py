"""One machine booted, logged in to and ended in a place of its own: what a host can really do (`xnode doctor`)."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import trio

from xnode.core.machine import MachineSpec, machine_name
from xnode.core.values import Hash
from xnode.vm import cgroups, ssh_keys
from xnode.vm.qemu import QemuDriver
from xnode.vm.qemu_settings import QemuSettings


async def boot_once(settings: QemuSettings, folder: Path) -> tuple[float, str]:
    """Seconds from nothing to a login, and what held the machine meanwhile; raises the driver's faults.

    It works in a new directory in `folder`, which it removes, and touches no other machine.
    """
    root = Path(await trio.to_thread.run_sync(lambda: tempfile.mkdtemp(prefix="doctor-", dir=folder)))
    key = ssh_keys.public_key_of(ssh_keys.new_seed(os.urandom))
    spec = MachineSpec(Hash(os.urandom(32)), 1, 128, 1, key, "")
    started = trio.current_time()
    try:
        async with QemuDriver.open(settings._replace(root=root), time.time_ns, os.urandom) as driver:
            try:
                await driver.create(spec)
                await driver.start(spec.lease_hash)
                return trio.current_time() - started, driver.limits
            finally:
                with trio.CancelScope(shield=True):
                    if driver.machines():
                        await driver.stop(spec.lease_hash)
    finally:
        cgroups.find().remove(machine_name(spec.lease_hash))
        shutil.rmtree(root)
