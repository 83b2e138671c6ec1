"""A spare of QEMU's becomes a lease's machine: whoever could log in before can't any more, and no two are alike."""

import os
from pathlib import Path

import pytest
import trio

from tests.support.qemu import Consumer, ended, new_consumer, new_spec, open_driver, openssh, settings
from xnode.core.faults import NotAllowed
from xnode.core.machine import NOBODY, Machine, MachineSpec, MachineStatus
from xnode.core.pool import SpareProof
from xnode.core.values import Hash
from xnode.vm import machine_files, qemu_process
from xnode.vm.driver import MOVED_IN
from xnode.vm.qemu import QemuDriver
from xnode.vm.state import machine_uuid

pytestmark = [pytest.mark.vm, pytest.mark.slow]

LOOK = "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; df -m /data | tail -n 1 | awk '{print $2}'"


def spare_spec() -> MachineSpec:
    return MachineSpec(Hash(os.urandom(32)), 1, 128, 1, NOBODY, "tiny")


async def boot(driver: QemuDriver) -> Machine:
    spec = spare_spec()
    await driver.create(spec)
    return await driver.start(spec.lease_hash)


async def look(driver: QemuDriver, machine: Machine) -> list[str]:
    done = await driver.execute(machine.spec.lease_hash, LOOK, 30)
    assert done.exit_code == 0, done.stderr
    return done.stdout.decode().split()


async def boot_two(driver: QemuDriver) -> tuple[Machine, Machine]:
    found: list[Machine] = []

    async def boot_one() -> None:
        found.append(await boot(driver))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(boot_one)
        nursery.start_soon(boot_one)
    return found[0], found[1]


async def test_a_spare_becomes_a_leases_machine(machines_root: Path, tmp_path: Path) -> None:
    async with open_driver(settings(machines_root)) as driver:
        spare, other = await boot_two(driver)
        booted_with, _ = machine_files.spare_keys(machine_files.directory_of(machines_root, spare.spec.lease_hash))
        before = await look(driver, spare)
        consumer = new_consumer()
        spec = new_spec(consumer)._replace(disk_gb=2)
        taken = await driver.take(spare.spec.lease_hash, spec)
        assert (taken.spec, taken.status) == (spec, MachineStatus.PROVISIONING)
        steps: list[str] = []
        machine = await driver.start(spec.lease_hash, steps.append)
        assert (machine.host_key, steps) == (spare.host_key, [MOVED_IN]), "it was not booted anew"
        after = await look(driver, machine)
        assert after[:3] == [machine.name, *before[1:3]], "the same guest, under its new name"
        assert int(after[3]) > 1.5 * int(before[3]), "its disk has grown"
        await check_logins(tmp_path, machine, consumer, Consumer(booted_with))
        assert other.host_key != spare.host_key
        assert not set((await look(driver, other))[:3]) & {*before[:3], *after[:3]}
        with pytest.raises(NotAllowed) as caught:
            await driver.destroy(spare.spec.lease_hash, SpareProof(spare.spec.lease_hash))
        assert caught.value.code == "not_a_spare"
        await check_power_cycle(driver, machine, consumer, tmp_path)
        await check_fall(driver, other, tmp_path)
        (machine,) = driver.machines()
        after = await look(driver, machine)
    async with open_driver(settings(machines_root)) as later:
        assert await later.adopt() == (machine,)
        assert (await look(later, machine))[:3] == after[:3]
        await later.destroy(spec.lease_hash, ended(spec.lease_hash))
    assert machine_files.machine_directories(machines_root) == []


async def check_power_cycle(driver: QemuDriver, machine: Machine, consumer: Consumer, folder: Path) -> None:
    """Off and on again it is still its consumer's: disk, name, host key and login."""
    lease_hash = machine.spec.lease_hash
    await driver.execute(lease_hash, "echo kept >/data/file; sync", 30)
    await driver.stop(lease_hash)
    again = await driver.start(lease_hash)
    assert (again.status, again.host_key) == (MachineStatus.RUNNING, machine.host_key)
    done = await openssh(folder, again, consumer, machine.host_key, ("hostname; cat /data/file",))
    assert done.stdout.decode().split() == [machine.name, "kept"], done.stderr


async def check_fall(driver: QemuDriver, spare: Machine, folder: Path) -> None:
    """One that falls while it becomes a lease's machine is made anew, with a host key of its own."""
    consumer = new_consumer()
    spec = new_spec(consumer)
    await driver.take(spare.spec.lease_hash, spec)
    running = qemu_process.find(machine_uuid(spare.spec.lease_hash))
    assert running is not None
    qemu_process.kill(running)
    machine = await driver.start(spec.lease_hash)
    assert (machine.status, machine.host_key == spare.host_key) == (MachineStatus.RUNNING, False)
    done = await openssh(folder, machine, consumer, machine.host_key, ("hostname",))
    assert done.stdout.decode().strip() == machine.name
    await driver.destroy(spec.lease_hash, ended(spec.lease_hash))


async def check_logins(folder: Path, machine: Machine, consumer: Consumer, provider: Consumer) -> None:
    done = await openssh(folder, machine, consumer, machine.host_key, ("cat /root/.ssh/authorized_keys",))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    refused = await openssh(folder, machine, provider, machine.host_key, ("true",))
    assert refused.returncode == 255
    assert b"Permission denied" in refused.stderr
