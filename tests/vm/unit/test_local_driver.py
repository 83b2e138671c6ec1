"""What real drivers do without a guest: a machine of which there is the record only."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.support.qemu import ended, new_consumer, new_spec, open_driver, settings
from xnode.core.faults import MachineFault, NotAllowed
from xnode.core.machine import MachineSpec, MachineStatus
from xnode.core.values import Hash, PublicKey
from xnode.vm import host_room, state
from xnode.vm.host_room import Tenant
from xnode.vm.machine_files import directory_of
from xnode.vm.machine_keeper import Entry
from xnode.vm.state import Record

NO_PID = (1 << 22) + 1  # more than Linux gives
HOST_KEY = PublicKey(b"\3" * 32)


def leave(root: Path, status: MachineStatus = MachineStatus.PROVISIONING) -> MachineSpec:
    """A machine as an earlier run has left it; no process runs it."""
    spec = new_spec(new_consumer())
    directory = directory_of(root, spec.lease_hash)
    (directory / "run").mkdir(parents=True)
    state.save(directory, Record(spec, "tiny-0123", 128, HOST_KEY, "tcg", 10, status, 10))
    return spec


def names(root: Path) -> list[str]:
    """What is in the folder of machines."""
    return sorted(path.name for path in root.iterdir())


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def fail(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """The host's file system refuses this from now on."""
    module, _, name = call.rpartition(".")
    monkeypatch.setattr({"os": os, "shutil": shutil, "Path": Path}[module], name, refuse)


@pytest.mark.parametrize("status", [MachineStatus.STOPPED, MachineStatus.FAILED, MachineStatus.PROVISIONING])
async def test_stop_leaves_nothing_that_is_to_be_stopped(tmp_path: Path, status: MachineStatus) -> None:
    lease_hash = leave(tmp_path, status).lease_hash
    async with open_driver(settings(tmp_path)) as driver:
        await driver.adopt()
        after = (await driver.stop(lease_hash)).status
    assert after is (MachineStatus.FAILED if status is MachineStatus.FAILED else MachineStatus.STOPPED)
    assert state.load(directory_of(tmp_path, lease_hash)).status is after


@pytest.mark.parametrize("call", ["shutil.rmtree", "Path.rename"])
async def test_a_disk_that_refuses_keeps_the_machine_until_it_lets_it_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spec, other = leave(tmp_path), leave(tmp_path)
    async with open_driver(settings(tmp_path)) as driver:
        machine, _ = sorted(await driver.adopt(), key=lambda item: item.spec != spec)
        with monkeypatch.context() as broken:
            fail(broken, call)
            for _ in range(2):
                with pytest.raises(MachineFault, match="Read-only file system") as caught:
                    await driver.destroy(spec.lease_hash, ended(spec.lease_hash))
                assert caught.value.code == "host_failed"
                assert machine in driver.machines()
                assert machine in await driver.refresh()
        with pytest.raises(NotAllowed):
            await driver.destroy(spec.lease_hash, ended(other.lease_hash))
        await driver.destroy(spec.lease_hash, ended(spec.lease_hash))
        assert [item.spec for item in driver.machines()] == [other]
    assert names(tmp_path) == [other.lease_hash.hex()]


async def test_what_a_dead_run_left_and_the_disk_keeps_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec, gone = leave(tmp_path), leave(tmp_path).lease_hash
    directory_of(tmp_path, gone).rename(directory_of(tmp_path, gone).with_suffix(".gone"))
    async with open_driver(settings(tmp_path)) as driver:
        with monkeypatch.context() as broken:
            fail(broken, "shutil.rmtree")
            assert [item.spec for item in await driver.adopt()] == [spec]
            assert driver.damaged == ()
    assert "can't be removed" in caplog.text
    async with open_driver(settings(tmp_path)) as driver:
        assert [item.spec for item in await driver.adopt()] == [spec]
    assert names(tmp_path) == [spec.lease_hash.hex()]


async def test_a_machine_that_the_disk_does_not_let_adopt_is_told_and_the_others_are_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a spare, whose node died while it became a lease's machine."""
    specs = [leave(tmp_path), leave(tmp_path)]
    other = Hash(b"\0" * 32)  # is met first
    directory_of(tmp_path, specs[0].lease_hash).rename(directory_of(tmp_path, other))
    async with open_driver(settings(tmp_path)) as driver:
        with monkeypatch.context() as broken:
            fail(broken, "Path.rename")
            assert [item.spec for item in await driver.adopt()] == [specs[1]]
        (told,) = driver.damaged
        assert f"{directory_of(tmp_path, other)} can't be taken over (Read-only file system)" in told


async def test_a_disk_that_can_not_be_measured_hides_no_machines_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_hash = leave(tmp_path).lease_hash
    async with open_driver(settings(tmp_path)) as driver:
        await driver.adopt()
        await driver.refresh()
        room, entry = driver.room, driver._entries[lease_hash]
        entry.record = entry.record._replace(status=MachineStatus.RUNNING, pid=NO_PID, started_ticks=1)
        with monkeypatch.context() as broken:
            fail(broken, "os.statvfs")
            with pytest.raises(MachineFault) as caught:
                await driver.refresh()
            assert caught.value.code == "host_failed"
        assert driver.room == room
        assert [item.status for item in driver.machines()] == [MachineStatus.STOPPED]
        await driver.refresh()


async def test_what_a_guest_wrote_before_its_boot_failed_is_for_the_operator_s_log_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = leave(tmp_path)

    async def bring_up(*_: object) -> None:
        raise MachineFault("machine_exited", "QEMU ended", evidence="my-secret")

    async with open_driver(settings(tmp_path)) as driver:
        await driver.adopt()
        monkeypatch.setattr(driver, "_bring_up", bring_up)
        with pytest.raises(MachineFault) as caught:
            await driver.start(spec.lease_hash)
        assert [machine.reason for machine in driver.machines()] == ["QEMU ended"]
    assert f"{spec.lease_hash.hex()}: QEMU ended; its last words: my-secret" in caplog.text
    assert "my-secret" not in str(caught.value)


async def test_one_machine_that_can_not_be_looked_at_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leave(tmp_path), leave(tmp_path)
    seen = []
    async with open_driver(settings(tmp_path)) as driver:

        async def look_at(entry: Entry) -> None:
            seen.append(entry.lease_hash)
            if len(seen) == 1:
                refuse()

        await driver.adopt()
        monkeypatch.setattr(driver, "_look_at", look_at)
        await driver.refresh()
    assert len(set(seen)) == 2
    assert f"{seen[0].hex()} can't be looked at" in caplog.text


def test_a_disk_that_goes_while_it_is_measured_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine is renamed before it is removed."""
    monkeypatch.setattr(Path, "exists", lambda _: True)
    assert host_room.growth_bytes(Tenant(tmp_path / "disk", 1, 128, 0)) == 1 << 30
