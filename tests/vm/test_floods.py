"""A guest that floods its console or its disk, and a host whose disk runs full: bounded, named, and gone on from."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.support.qemu import ended, new_consumer, new_spec, open_driver, settings
from xnode.core.faults import Unavailable
from xnode.core.machine import MachineStatus
from xnode.vm import console

pytestmark = [pytest.mark.vm, pytest.mark.slow]

MIB = 1 << 20


async def until(look, expected, seconds: float = 60) -> None:
    """Looks at the machines, every now and then, until something is as expected."""
    with trio.fail_after(seconds):
        while await look() != expected:  # noqa: ASYNC110 - what is waited for fires nothing
            await trio.sleep(0.2)


async def test_a_guest_that_floods_its_console_and_its_disk_is_bounded(driver, machines_root, monkeypatch):
    monkeypatch.setattr(console.trim, "__defaults__", (64 << 10,))
    spec = new_spec(new_consumer())
    await driver.create(spec)
    await driver.start(spec.lease_hash)
    run = machines_root / spec.lease_hash.hex() / "run"
    await driver.execute(spec.lease_hash, "yes flood >/dev/ttyS0 & echo $! >/run/flood", 20)
    with trio.fail_after(60):
        while (run / "console").stat().st_size <= 64 << 10:  # noqa: ASYNC110 - a file
            await trio.sleep(0.1)
    await driver.refresh()
    assert (run / "console").stat().st_size < 64 << 10, "it is emptied at the next look"
    await driver.execute(spec.lease_hash, "kill $(cat /run/flood)", 20)

    past_its_end = "dd if=/dev/zero of=/dev/vda bs=1M seek=1020 count=8 conv=notrunc 2>&1; sync"
    result = await driver.execute(spec.lease_hash, past_its_end, 60)
    assert b"No space left" in result.stdout
    assert (run / "disk.qcow2").stat().st_blocks * 512 < 1100 * MIB
    (machine,) = await driver.refresh()
    assert machine.status is MachineStatus.RUNNING, "a full disk is the guest's own affair"


@pytest.fixture
def small_host(tiny_image, tmp_path) -> Iterator[Path]:
    """A file system of its own for the machines, to be made smaller later; only root may mount one."""
    root = tmp_path / "host"
    root.mkdir()
    mount(root, "size=1500m")
    try:
        yield root
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)


def mount(root: Path, options: str) -> None:
    words = ["mount", "-t", "tmpfs", "-o", options, "none", root]
    subprocess.run(words, check=True, capture_output=True)


def used_mib(root: Path) -> int:
    host = os.statvfs(root)
    return (host.f_blocks - host.f_bfree) * host.f_frsize // MIB


async def test_a_host_disk_that_runs_full_refuses_the_new_and_holds_the_old_until_there_is_room(small_host):
    using = settings(small_host)._replace(disk_reserve_bytes=128 * MIB)
    async with open_driver(using) as driver:
        spec = new_spec(new_consumer())
        await driver.create(spec)
        await driver.start(spec.lease_hash)
        await driver.execute(spec.lease_hash, "echo kept >/data/file; sync", 20)
        with pytest.raises(Unavailable, match="1 GiB of disk asked, 0 left") as caught:
            await driver.create(new_spec(new_consumer()))
        assert caught.value.code == "disk_full"
        try:
            await check_full(driver, spec.lease_hash, small_host)
        finally:
            mount(small_host, "remount,size=1500m")
            await driver.destroy(spec.lease_hash, ended(spec.lease_hash))


async def check_full(driver, lease_hash, root: Path) -> None:
    mount(root, f"remount,size={used_mib(root) + 8}m")  # somebody else has taken the rest
    write = "head -c 33554432 /dev/urandom >/data/big; sync; echo done >/run/done"

    async def status() -> tuple[MachineStatus, str]:
        (machine,) = await driver.refresh()
        return machine.status, machine.reason

    await driver.execute(lease_hash, f"({write}) >/dev/null 2>&1 &", 20)
    await until(status, (MachineStatus.PAUSED, "QEMU: io-error"))
    assert driver.room.disk_gb == 0
    mount(root, "remount,size=1500m")
    await until(status, (MachineStatus.RUNNING, ""))
    kept = "while [ ! -e /run/done ]; do sleep 1; done; cat /data/file; wc -c </data/big"
    assert (await driver.execute(lease_hash, kept, 60)).stdout == b"kept\n33554432\n"
