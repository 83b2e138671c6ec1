"""A machine's life with real QEMU: start, stop, crash, adoption, destruction, and every way in which a boot fails."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.support.qemu import CHECKOUT, ended, new_consumer, new_spec, open_driver, openssh, settings
from xnode.core.faults import CallerFault, MachineFault, OperatorFault, Unavailable, WrongState
from xnode.core.machine import MachineStatus
from xnode.vm import cpio, images, qemu_process, ssh_keys
from xnode.vm.limits import POWER_OFF_SECONDS
from xnode.vm.state import machine_uuid

pytestmark = [pytest.mark.vm, pytest.mark.slow]


def qemu_of(spec) -> qemu_process.Process | None:
    return qemu_process.find(machine_uuid(spec.lease_hash))


def kill_qemu(spec) -> None:
    os.kill(qemu_of(spec).pid, signal.SIGKILL)


async def until_qemu(spec, runs: bool) -> None:
    with trio.fail_after(10):
        while (qemu_of(spec) is not None) is not runs:  # noqa: ASYNC110 - a process
            await trio.sleep(0.02)


async def until_stopped(driver):
    with trio.fail_after(10):
        while (machines := await driver.refresh())[0].status is MachineStatus.RUNNING:  # noqa: ASYNC110 - a process
            await trio.sleep(0.05)
    return machines[0]


async def test_crashed_machine_starts_again_from_its_disk_and_stops_by_its_power_button(driver, tmp_path):
    consumer = new_consumer()
    spec = new_spec(consumer)
    made = await driver.create(spec)
    assert made.status is MachineStatus.PROVISIONING
    await driver.start(spec.lease_hash)
    await driver.execute(spec.lease_hash, "echo kept >/data/file; sync", 20)
    kill_qemu(spec)
    stopped = await until_stopped(driver)
    assert (stopped.status, stopped.ssh_port) == (MachineStatus.STOPPED, 0)
    assert "QEMU ended" in stopped.reason
    with pytest.raises(WrongState, match="start it first"):
        await driver.dial_ssh(spec.lease_hash)

    again = await driver.start(spec.lease_hash)
    assert (again.status, again.reason) == (MachineStatus.RUNNING, "")
    assert (await driver.execute(spec.lease_hash, "cat /data/file", 20)).stdout == b"kept\n"
    done = await openssh(tmp_path, again, consumer, made.host_key, ("true",))
    assert done.returncode == 0, done.stderr

    before = trio.current_time()
    stopped = await driver.stop(spec.lease_hash)
    assert trio.current_time() - before < POWER_OFF_SECONDS  # by the power button, not by patience running out
    assert (stopped.status, qemu_of(spec)) == (MachineStatus.STOPPED, None)
    assert await driver.stop(spec.lease_hash) == stopped


NODE = """
import os, sys, trio
from pathlib import Path
from tests.support.qemu import new_consumer, new_spec, open_driver, settings
async def main():
    async with open_driver(settings(Path(sys.argv[1]))) as driver:
        spec = new_spec(new_consumer())
        await driver.create(spec)
        await driver.start(spec.lease_hash)
        await driver.execute(spec.lease_hash, "echo before >/run/memory", 20)
        os.write(1, b"up")
        await trio.sleep_forever()
trio.run(main)
"""


async def test_machine_outlives_a_killed_node_and_is_adopted(machines_root):
    root = machines_root
    node = await trio.lowlevel.open_process(
        [sys.executable, "-c", NODE, str(root)], stdout=subprocess.PIPE, cwd=CHECKOUT
    )
    assert await node.stdout.receive_some(2) == b"up"
    node.kill()
    await node.wait()
    (root / f"{'ab' * 32}.new").mkdir()  # what it was making when it died
    (root / f"{'cd' * 32}.gone").mkdir()  # and what it was removing
    async with open_driver(settings(root)) as driver:
        (machine,) = await driver.adopt()
        lease_hash = machine.spec.lease_hash
        assert machine.status is MachineStatus.RUNNING
        assert (await driver.execute(lease_hash, "cat /run/memory", 20)).stdout == b"before\n"
        assert sorted(path.name for path in root.iterdir()) == [lease_hash.hex()]
    await node.stdout.aclose()

    kill_qemu(machine.spec)  # while no node runs
    await until_qemu(machine.spec, runs=False)
    async with open_driver(settings(root)) as driver:
        (machine,) = await driver.adopt()
        assert (machine.status, machine.reason) == (MachineStatus.STOPPED, "its QEMU ended while the node was away")
        await driver.destroy(lease_hash, ended(lease_hash))


async def test_two_machines_at_once_and_destroy_leaves_nothing(driver, tmp_path):
    specs = [new_spec(new_consumer()) for _ in range(2)]
    for spec in specs:
        await driver.create(spec)
    async with trio.open_nursery() as nursery:
        for spec in specs:
            nursery.start_soon(driver.start, spec.lease_hash)
    names = [(await driver.execute(spec.lease_hash, "hostname", 20)).stdout.decode().strip() for spec in specs]
    assert sorted(names) == sorted(machine.name for machine in driver.machines())
    ports = [machine.ssh_port for machine in driver.machines()]
    assert len(set(ports)) == 2
    for spec in specs:
        await driver.destroy(spec.lease_hash, ended(spec.lease_hash))
        await driver.destroy(spec.lease_hash, ended(spec.lease_hash))
    assert [qemu_of(spec) for spec in specs] == [None, None]
    assert list((tmp_path / "machines").iterdir()) == []
    assert driver.machines() == ()
    for port in ports:
        with pytest.raises(OSError, match=r"."):
            await trio.open_tcp_stream("127.0.0.1", port)


async def test_stop_interrupts_a_boot(driver):
    spec = new_spec(new_consumer())
    await driver.create(spec)
    async with trio.open_nursery() as nursery:

        async def boot() -> None:
            with pytest.raises(WrongState, match="told to stop"):
                await driver.start(spec.lease_hash)

        nursery.start_soon(boot)
        await until_qemu(spec, runs=True)
        await driver.destroy(spec.lease_hash, ended(spec.lease_hash))
    assert qemu_of(spec) is None


async def test_a_look_that_began_before_its_machine_was_destroyed_changes_nothing(driver):
    spec = new_spec(new_consumer())
    await driver.create(spec)
    entry = driver._entries[spec.lease_hash]
    entry.record = entry.record._replace(status=MachineStatus.RUNNING, pid=1 << 22, started_ticks=1)
    await driver.destroy(spec.lease_hash, ended(spec.lease_hash))
    await driver._look(entry)
    assert entry.record.status is MachineStatus.RUNNING


@pytest.fixture
def broken_store(tiny_image, tmp_path):
    """Makes stores whose image `tiny` is altered: more archive behind the initrd, and a manifest that agrees."""

    def make(*entries: cpio.Entry) -> Path:
        store = tmp_path / "store"
        image = store / "tiny"
        shutil.copytree(tiny_image, image)
        with (image / "initrd").open("ab") as file:
            file.write(cpio.write_archive(entries))
        manifest = images.render_manifest("tiny", images.Least(128), {}, image)
        (image / "manifest.json").write_bytes(manifest)
        return store

    return make


async def boot_fault(using) -> MachineFault:
    """The fault of a boot that must fail, after which nothing runs, and destroying is possible."""
    spec = new_spec(new_consumer())
    async with open_driver(using) as driver:
        await driver.create(spec)
        with pytest.raises(MachineFault) as caught:
            await driver.start(spec.lease_hash)
        (machine,) = driver.machines()
        assert (machine.status, machine.reason, qemu_of(spec)) == (MachineStatus.FAILED, str(caught.value), None)
        await driver.destroy(spec.lease_hash, ended(spec.lease_hash))
    return caught.value


async def test_guest_that_panics_is_named_soon(broken_store, machines_root):
    store = broken_store(cpio.regular("init", b"#!/bin/sh\necho about to fail\n", 0o755))
    fault = await boot_fault(settings(machines_root, store))
    assert fault.code == "guest_panicked"
    assert "Attempted to kill init" in fault.evidence


async def test_guest_that_powers_off_is_named_soon(broken_store, machines_root):
    script = b"#!/bin/sh\nmount -t proc proc /proc\necho no reason to live\npoweroff -f\n"
    fault = await boot_fault(settings(machines_root, broken_store(cpio.regular("init", script, 0o755))))
    assert fault.code == "machine_exited"
    assert "no reason to live" in fault.evidence


async def test_guest_that_never_gets_ready_runs_out_of_time(broken_store, machines_root):
    store = broken_store(cpio.regular("init", b"#!/bin/sh\necho waiting for nothing\nsleep 9999\n", 0o755))
    fault = await boot_fault(settings(machines_root, store)._replace(boot_timeout=30.0))
    assert fault.code == "boot_timeout"
    assert "waiting for nothing" in fault.evidence


async def test_guest_without_ssh_server_is_named(broken_store, machines_root):
    store = broken_store(cpio.regular("usr/sbin/dropbear", b"#!/bin/sh\nexit 1\n", 0o755))
    fault = await boot_fault(settings(machines_root, store)._replace(login_timeout=2.0))
    assert fault.code == "ssh_unreachable"


async def test_guest_with_another_host_key_is_not_logged_in_to(broken_store, machines_root):
    other = cpio.regular("other_key", ssh_keys.dropbear_private(bytes(32)), 0o600)
    init = (CHECKOUT / "xnode/vm/guest/tiny-init.sh").read_text()
    changed = init.replace("rm -r /seed\n", "rm -r /seed\ncp /other_key /etc/dropbear/host_key\n")
    assert changed != init
    store = broken_store(other, cpio.regular("init", changed.encode(), 0o755))
    fault = await boot_fault(settings(machines_root, store))
    assert fault.code == "wrong_host_key"


async def test_damaged_image_is_named_before_anything_is_made(broken_store, machines_root):
    store = broken_store()
    with (store / "tiny" / "initrd").open("r+b") as file:
        file.seek(4_000_000)
        file.write(b"!")
    async with open_driver(settings(machines_root, store)) as driver:
        with pytest.raises(MachineFault) as caught:
            await driver.create(new_spec(new_consumer()))
        assert caught.value.code == "image_damaged"
        assert "scripts/build-guest" in str(caught.value)
        assert driver.machines() == ()
    assert list(machines_root.iterdir()) == []


async def test_image_damaged_after_its_first_use_is_noticed(broken_store, machines_root):
    store = broken_store()
    async with open_driver(settings(machines_root, store)) as driver:
        first = new_spec(new_consumer())
        await driver.create(first)
        (store / "tiny" / "initrd").write_bytes(b"")
        with pytest.raises(MachineFault, match="not the file of its manifest"):
            await driver.create(new_spec(new_consumer()))
        await driver.destroy(first.lease_hash, ended(first.lease_hash))


async def test_missing_image_tells_the_operator_what_to_run(tmp_path):
    async with open_driver(settings(tmp_path / "machines", tmp_path)) as driver:
        with pytest.raises(OperatorFault, match="scripts/build-guest"):
            await driver.create(new_spec(new_consumer()))
        with pytest.raises(CallerFault):
            await driver.create(new_spec(new_consumer(), image="../tiny"))


@pytest.mark.parametrize("key", [b"\1" + bytes(31), b"\xff" * 32])
async def test_weak_access_key_is_refused(driver, key):
    with pytest.raises(CallerFault) as caught:
        await driver.create(new_spec(new_consumer())._replace(access_key=key))
    assert caught.value.code == "bad_access_key"


async def test_host_without_room_refuses(driver):
    with pytest.raises(Unavailable) as caught:
        await driver.create(new_spec(new_consumer())._replace(disk_gb=10**6))
    assert caught.value.code == "disk_full"


async def test_as_many_machines_as_allowed(machines_root):
    async with open_driver(settings(machines_root)._replace(max_machines=1)) as driver:
        spec = new_spec(new_consumer())
        await driver.create(spec)
        with pytest.raises(Unavailable) as caught:
            await driver.create(new_spec(new_consumer()))
        assert caught.value.code == "machines_full"
        await driver.destroy(spec.lease_hash, ended(spec.lease_hash))


async def test_unreadable_record_is_reported_and_never_removed(machines_root):
    spec = new_spec(new_consumer())
    async with open_driver(settings(machines_root)) as driver:
        await driver.create(spec)
    record = machines_root / spec.lease_hash.hex() / "machine.json"
    record.write_bytes(b"{")
    async with open_driver(settings(machines_root)) as driver:
        assert await driver.adopt() == ()
        assert str(record) in driver.damaged[0]
        with pytest.raises(MachineFault):
            await driver.create(spec)
        assert record.exists()
        await driver.destroy(spec.lease_hash, ended(spec.lease_hash))
        assert not record.exists()
