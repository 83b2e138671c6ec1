"""A provider with real machines in a network of whole nodes in this process: whatever goes wrong with one lease ends in
a named state, its consumer is told why, what it held is free again, and the neighbour's machine runs on untouched."""

import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.support.ledger import DAY
from tests.support.qemu import new_consumer, open_driver, settings
from tests.support.role_node import FORM, Village, until
from xnode.core.faults import Fault
from xnode.core.lease import LeaseState, Resources
from xnode.core.machine import MachineStatus
from xnode.core.market import GuestImage
from xnode.core.values import Hash
from xnode.vm import cpio, images, qemu_process
from xnode.vm.qemu import QemuDriver
from xnode.vm.state import machine_uuid

pytestmark = [pytest.mark.vm, pytest.mark.slow]

LEAST = Resources(1, 128, 1)
ROOM = Resources(2, 256, 2)
BOOT_S = 120
RESTARTED = ["booting", "disk_made", "booted", "ssh_answered", "machine_ready"]


class Market:
    """One provider, bob, with a driver of real machines, and one consumer, alice."""

    def __init__(self, village: Village, driver: QemuDriver, store: Path) -> None:
        self.village = village
        self.driver = driver
        self.store = store

    async def lease(self) -> Hash:
        """A day's lease of the least machine."""
        form = FORM._replace(
            resources=LEAST, duration=DAY, timeout=float(BOOT_S), access_pub_key=new_consumer().public_key
        )
        return await self.village.nodes["alice"].roles.consumer.request(form)

    async def refused(self) -> str:
        """Why a lease is not to be had, as its consumer is told; afterwards nothing is held for it any more."""
        with pytest.raises(Fault) as caught:
            await self.lease()
        bob = self.village.nodes["bob"].roles
        await until(lambda: len(self.driver.machines()) == 1, 30, "the end of the failed machine")
        assert bob.offering is not None
        capacity = bob.offering._capacity
        await until(lambda: capacity.available(bob.offering.ad().timestamp) == LEAST, 30, "the capacity")  # type: ignore[union-attr]
        assert len(self.village.nodes["alice"].leases(LeaseState.CREATED)) == 0
        return str(caught.value)

    def alter_image(self, *entries: cpio.Entry) -> None:
        """More archive behind the initrd, and a manifest that agrees."""
        image = self.store / "tiny"
        with (image / "initrd").open("ab") as file:
            file.write(cpio.write_archive(entries))
        (image / "manifest.json").write_bytes(images.render_manifest("tiny", images.Least(128), {}, image))


@asynccontextmanager
async def open_market(root: Path, tiny_image: Path, machines_root: Path) -> AsyncIterator[Market]:
    """Real time, real machines, a network in memory."""
    store = root / "store"
    shutil.copytree(tiny_image, store / "tiny")
    using = settings(machines_root, store)._replace(login_timeout=2.0)
    async with open_driver(using) as driver, trio.open_nursery() as nursery:
        village = Village(nursery, root)
        village.drivers["bob"] = driver
        await village.start("bob", capacity=ROOM, images=(GuestImage("tiny", 128, 1),))
        await village.start_market("alice")
        yield Market(village, driver, store)
        nursery.cancel_scope.cancel()


def qemu_of(lease_hash: Hash) -> qemu_process.Process | None:
    return qemu_process.find(machine_uuid(lease_hash))


async def test_what_goes_wrong_with_one_lease_is_told_and_touches_no_other(
    tmp_path: Path, tiny_image: Path, machines_root: Path
) -> None:
    async with open_market(tmp_path, tiny_image, machines_root) as market:
        driver = market.driver
        neighbour = await market.lease()
        process = qemu_of(neighbour)
        assert process is not None
        await driver.execute(neighbour, "echo kept >/data/file; sync", 20)

        whole = (market.store / "tiny" / "initrd").read_bytes()
        (market.store / "tiny" / "initrd").write_bytes(whole[:-1])
        assert "not the file of its manifest" in await market.refused()

        (market.store / "tiny" / "initrd").write_bytes(whole)
        market.alter_image(cpio.regular("usr/sbin/dropbear", b"#!/bin/sh\nexit 1\n", 0o755))
        assert "SSH" in await market.refused()

        market.alter_image(cpio.regular("init", b"#!/bin/sh\necho about to fail\n", 0o755))
        assert "kernel gave up" in await market.refused()

        driver._host_limits = driver._host_limits._replace(disk_reserve_bytes=1 << 60)
        await driver.refresh()
        assert "host is full beyond its reserve" in await market.refused()

        assert qemu_of(neighbour) == process
        assert (await driver.execute(neighbour, "cat /data/file", 20)).stdout == b"kept\n"
        await check_restart(market, neighbour, process)


async def check_restart(market: Market, lease_hash: Hash, process: qemu_process.Process) -> None:
    """QEMU is killed: the provider boots the machine again, from the same disk, and says so in the lease's events."""
    os.kill(process.pid, signal.SIGKILL)
    driver = market.driver

    def runs() -> bool:
        (machine,) = driver.machines()
        return machine.status is MachineStatus.RUNNING and qemu_of(lease_hash) not in (None, process)

    await until(runs, BOOT_S, "the machine after its QEMU was killed")
    assert (await driver.execute(lease_hash, "cat /data/file", 20)).stdout == b"kept\n"
    assert market.village.nodes["bob"].steps(lease_hash)[-5:] == RESTARTED
