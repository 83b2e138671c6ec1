"""What holds of a machine that runs: commands, logins, isolation. All share one, so nothing here boots."""

import os
import stat
from pathlib import Path

import pytest
import trio

from tests.support.qemu import new_consumer, new_spec, openssh
from xnode.core.faults import CallerFault, NotAllowed, NotFound, WrongState
from xnode.core.lease import EndProof
from xnode.core.machine import MachineStatus
from xnode.core.values import ZERO_HASH, Hash
from xnode.vm import qemu_process
from xnode.vm.limits import OUTPUT_BYTES_MAX
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


async def test_command_gives_its_exit_code_and_both_streams(shared):
    driver, at = shared
    result = await driver.execute(at.machine.spec.lease_hash, "echo out; echo err >&2; exit 3", 20)
    assert (result.exit_code, result.stdout, result.stderr, result.truncated) == (3, b"out\n", b"err\n", False)


async def test_command_text_reaches_the_shell_unchanged(shared):
    driver, at = shared
    result = await driver.execute(at.machine.spec.lease_hash, "printf '%s' 'it''s \"$HOME\" `x` \\ é'\n", 20)
    assert result.stdout == 'its "$HOME" `x` \\ é'.encode()


async def test_long_command_is_not_bound_by_the_ssh_servers_limit(shared):
    driver, at = shared
    result = await driver.execute(at.machine.spec.lease_hash, f": {'x' * 60_000}; echo done", 20)
    assert result.stdout == b"done\n"


async def test_command_that_takes_too_long_is_ended_with_all_it_started(shared):
    driver, at = shared
    result = await driver.execute(at.machine.spec.lease_hash, "echo early; sleep 4711 | cat & sleep 4712", 1.5)
    assert (result.exit_code, result.stdout) == (124, b"early\n")
    left = await driver.execute(at.machine.spec.lease_hash, "ps -o args | grep -c 'sleep 471[12]'", 20)
    assert left.stdout == b"0\n"


async def test_command_that_ignores_the_request_to_end_is_killed(shared):
    driver, at = shared
    result = await driver.execute(at.machine.spec.lease_hash, "trap '' TERM; while :; do sleep 4713; done", 1.0)
    assert result.exit_code == 124
    left = await driver.execute(at.machine.spec.lease_hash, "ps -o args | grep -c 'sleep 471[3]'", 20)
    assert left.stdout == b"0\n"


async def test_command_killed_by_a_signal_is_not_taken_for_a_timeout(shared):
    driver, at = shared
    result = await driver.execute(at.machine.spec.lease_hash, "kill -TERM $$", 20)
    assert result.exit_code == 143


async def test_output_is_cut_and_says_so(shared):
    driver, at = shared
    command = f"head -c {OUTPUT_BYTES_MAX + 1} /dev/zero; echo err >&2; exit 5"
    result = await driver.execute(at.machine.spec.lease_hash, command, 60)
    assert (len(result.stdout), result.stderr, result.truncated) == (OUTPUT_BYTES_MAX, b"err\n", True)
    assert result.exit_code == 5


async def test_commands_run_side_by_side(shared):
    driver, at = shared
    found = []

    async def run(number: int) -> None:
        found.append((await driver.execute(at.machine.spec.lease_hash, f"sleep 1; echo {number}", 30)).stdout)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(run, number)
    assert sorted(found) == [b"0\n", b"1\n", b"2\n", b"3\n"]


async def test_cancelled_command_leaves_the_machine_usable(shared):
    driver, at = shared
    with trio.move_on_after(0.5) as scope:
        await driver.execute(at.machine.spec.lease_hash, "sleep 3", 4)
    assert scope.cancelled_caught
    assert (await driver.execute(at.machine.spec.lease_hash, "echo here", 20)).stdout == b"here\n"


@pytest.mark.parametrize(("command", "timeout"), [("", 1), ("a\0b", 1), ("x" * 70_000, 1), ("true", 0), ("true", 9e9)])
async def test_senseless_command_is_the_callers_fault(shared, command, timeout):
    driver, at = shared
    with pytest.raises(CallerFault):
        await driver.execute(at.machine.spec.lease_hash, command, timeout)


async def test_consumer_logs_in_with_strict_host_key(shared, tmp_path):
    _, at = shared
    done = await openssh(tmp_path, at.machine, at.consumer, at.machine.host_key, ("id -un; hostname",))
    assert (done.returncode, done.stdout) == (0, f"root\n{at.machine.name}\n".encode()), done.stderr


async def test_other_key_is_refused(shared, tmp_path):
    _, at = shared
    done = await openssh(tmp_path, at.machine, new_consumer(), at.machine.host_key, ("true",))
    assert done.returncode == 255
    assert b"Permission denied" in done.stderr


async def test_wrong_host_key_is_noticed_by_the_client(shared, tmp_path):
    _, at = shared
    done = await openssh(tmp_path, at.machine, at.consumer, new_consumer().public_key, ("true",))
    assert done.returncode == 255
    assert b"Host key verification failed" in done.stderr


async def test_dial_reaches_the_ssh_server(shared):
    driver, at = shared
    async with await driver.dial_ssh(at.machine.spec.lease_hash) as stream:
        assert (await stream.receive_some(64)).startswith(b"SSH-2.0-")


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


async def test_start_and_create_again_change_nothing(shared):
    driver, at = shared
    process = qemu_of(at.machine)
    assert await driver.create(at.machine.spec) == at.machine
    assert await driver.start(at.machine.spec.lease_hash) == at.machine
    assert qemu_of(at.machine) == process


async def test_create_to_another_specification_is_refused(shared):
    driver, at = shared
    with pytest.raises(WrongState, match="another specification"):
        await driver.create(at.machine.spec._replace(memory_mb=4096))


async def test_only_the_proof_of_its_own_end_destroys_it(shared):
    driver, at = shared
    with pytest.raises(NotAllowed):
        await driver.destroy(at.machine.spec.lease_hash, EndProof(Hash(os.urandom(32)), ZERO_HASH, "settled"))
    (machine,) = await driver.refresh()
    assert machine.status is MachineStatus.RUNNING


async def test_unknown_lease_is_not_found(shared):
    driver, _ = shared
    lease_hash = new_spec(new_consumer()).lease_hash
    with pytest.raises(NotFound):
        await driver.start(lease_hash)
    with pytest.raises(NotFound):
        await driver.execute(lease_hash, "true", 1)
