"""What holds of a machine that runs: commands, logins, isolation. All share one, so nothing here boots."""

import os
import stat
from pathlib import Path

import pytest
import trio

from xnode.vm import qemu_process
from xnode.vm.machine_users import UID_FIRST
from xnode.vm.state import machine_uuid

pytestmark = [pytest.mark.vm, pytest.mark.slow]


def qemu_of(machine) -> qemu_process.Process:
    process = qemu_process.find(machine_uuid(machine.spec.lease_hash))
    assert process is not None
    return process


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def proc_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def test_qemu_has_no_rights(shared):
    _, at = shared
    found = proc_status(qemu_of(at.machine).pid)
    uid = (at.settings.root / at.machine.spec.lease_hash.hex() / "run").stat().st_uid
    assert uid == os.geteuid() if os.geteuid() else uid >= UID_FIRST
    assert found["Uid"].split() == [str(uid)] * 4
    assert (found["CapEff"], found["NoNewPrivs"], found["Seccomp"]) == ("0" * 16, "1", "2")
    assert "0" not in found["Groups"].split()


async def test_guest_reaches_no_service_of_the_host(shared):
    driver, at = shared
    sockets = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = sockets[0].socket.getsockname()[1]
    asked = []

    async def answer(stream) -> None:
        asked.append(stream)
        await stream.send_all(b"secret of the host\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, sockets)
        command = f"for host in 10.0.2.2 10.0.2.3 127.0.0.1; do nc -w 2 $host {port} </dev/null; done"
        result = await driver.execute(at.machine.spec.lease_hash, command, 30)
        nursery.cancel_scope.cancel()
    assert b"secret" not in result.stdout
    assert asked == []


async def test_no_secret_is_in_the_command_line_or_readable_by_others(shared):
    _, at = shared
    directory = at.settings.root / at.machine.spec.lease_hash.hex()
    secret = (directory / "provider_key").read_bytes()
    arguments = command_line(qemu_of(at.machine).pid)
    record = (directory / "machine.json").read_text()
    assert secret not in arguments
    assert secret.hex() not in arguments.decode() + record
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in (directory, *directory.rglob("*"))}
    shared_files = {"vmlinuz"}  # the image's, the same for all
    open_to_others = {name for name, mode in modes.items() if mode & 0o077} - shared_files
    assert open_to_others == set()


async def test_disk_has_the_leased_size_and_is_mounted(shared):
    driver, at = shared
    command = "cat /sys/block/vda/size; grep -c ' /data ' /proc/mounts"
    result = await driver.execute(at.machine.spec.lease_hash, command, 20)
    assert result.stdout == f"{(1 << 30) // 512}\n1\n".encode()


async def test_who_logs_in_is_told_what_outlives_a_reboot(shared):
    driver, at = shared
    result = await driver.execute(at.machine.spec.lease_hash, "cat /etc/motd", 20)
    assert b"only what is in /data" in result.stdout
