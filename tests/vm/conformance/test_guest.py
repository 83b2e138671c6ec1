"""What holds of the guest behind a driver that runs: commands and logins. All share one machine; nothing here boots."""

import pytest
import trio

from tests.support.qemu import new_consumer, openssh
from xnode.core.faults import CallerFault
from xnode.vm.limits import OUTPUT_BYTES_MAX


async def test_command_gives_its_exit_code_and_both_streams(running):
    driver, at = running.driver, running
    result = await driver.execute(at.machine.spec.lease_hash, "echo out; echo err >&2; exit 3", 20)
    assert (result.exit_code, result.stdout, result.stderr, result.truncated) == (3, b"out\n", b"err\n", False)


async def test_command_text_reaches_the_shell_unchanged(running):
    driver, at = running.driver, running
    result = await driver.execute(at.machine.spec.lease_hash, "printf '%s' 'it''s \"$HOME\" `x` \\ é'\n", 20)
    assert result.stdout == 'its "$HOME" `x` \\ é'.encode()


async def test_long_command_is_not_bound_by_the_ssh_servers_limit(running):
    driver, at = running.driver, running
    result = await driver.execute(at.machine.spec.lease_hash, f": {'x' * 60_000}; echo done", 20)
    assert result.stdout == b"done\n"


async def test_command_that_takes_too_long_is_ended_with_all_it_started(running):
    driver, at = running.driver, running
    result = await driver.execute(at.machine.spec.lease_hash, "echo early; sleep 4711 | cat & sleep 4712", 1.5)
    assert (result.exit_code, result.stdout) == (124, b"early\n")
    left = await driver.execute(at.machine.spec.lease_hash, "pgrep -f 'sleep 471[12]' | wc -l", 20)
    assert left.stdout == b"0\n"


async def test_command_that_ignores_the_request_to_end_is_killed(running):
    driver, at = running.driver, running
    result = await driver.execute(at.machine.spec.lease_hash, "trap '' TERM; while :; do sleep 4713; done", 1.0)
    assert result.exit_code == 124
    left = await driver.execute(at.machine.spec.lease_hash, "pgrep -f 'sleep 471[3]' | wc -l", 20)
    assert left.stdout == b"0\n"


async def test_command_killed_by_a_signal_is_not_taken_for_a_timeout(running):
    driver, at = running.driver, running
    result = await driver.execute(at.machine.spec.lease_hash, "kill -TERM $$", 20)
    assert result.exit_code == 143


async def test_output_is_cut_and_says_so(running):
    driver, at = running.driver, running
    command = f"head -c {OUTPUT_BYTES_MAX + 1} /dev/zero; echo err >&2; exit 5"
    result = await driver.execute(at.machine.spec.lease_hash, command, 60)
    assert (len(result.stdout), result.stderr, result.truncated) == (OUTPUT_BYTES_MAX, b"err\n", True)
    assert result.exit_code == 5


async def test_commands_run_side_by_side(running):
    driver, at = running.driver, running
    found = []

    async def run(number: int) -> None:
        found.append((await driver.execute(at.machine.spec.lease_hash, f"sleep 1; echo {number}", 30)).stdout)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(run, number)
    assert sorted(found) == [b"0\n", b"1\n", b"2\n", b"3\n"]


async def test_cancelled_command_leaves_the_machine_usable(running):
    driver, at = running.driver, running
    with trio.move_on_after(0.5) as scope:
        await driver.execute(at.machine.spec.lease_hash, "sleep 3", 4)
    assert scope.cancelled_caught
    assert (await driver.execute(at.machine.spec.lease_hash, "echo here", 20)).stdout == b"here\n"


@pytest.mark.parametrize(("command", "timeout"), [("", 1), ("a\0b", 1), ("x" * 70_000, 1), ("true", 0), ("true", 9e9)])
async def test_senseless_command_is_the_callers_fault(running, command, timeout):
    driver, at = running.driver, running
    with pytest.raises(CallerFault):
        await driver.execute(at.machine.spec.lease_hash, command, timeout)


async def test_consumer_logs_in_with_strict_host_key(running, tmp_path):
    at = running
    done = await openssh(tmp_path, at.machine, at.consumer, at.machine.host_key, ("id -un; hostname",))
    assert (done.returncode, done.stdout) == (0, f"root\n{at.machine.name}\n".encode()), done.stderr


async def test_other_key_is_refused(running, tmp_path):
    at = running
    done = await openssh(tmp_path, at.machine, new_consumer(), at.machine.host_key, ("true",))
    assert done.returncode == 255
    assert b"Permission denied" in done.stderr


async def test_wrong_host_key_is_noticed_by_the_client(running, tmp_path):
    at = running
    done = await openssh(tmp_path, at.machine, at.consumer, new_consumer().public_key, ("true",))
    assert done.returncode == 255
    assert b"Host key verification failed" in done.stderr


async def test_dial_reaches_the_ssh_server(running):
    driver, at = running.driver, running
    async with await driver.dial_ssh(at.machine.spec.lease_hash) as stream:
        assert (await stream.receive_some(64)).startswith(b"SSH-2.0-")


async def test_guest_says_what_it_uses_of_memory_and_network(running):
    await running.driver.execute(running.machine.spec.lease_hash, "true", 30)
    figures = await running.driver.figures(running.machine.spec.lease_hash)
    assert 0 < figures.guest_memory_bytes < 1 << 30
    assert figures.network_received_bytes > 0
    assert figures.network_sent_bytes > 0


async def test_disk_outlives_a_reset(running):
    driver, lease_hash = running.driver, running.machine.spec.lease_hash
    await driver.execute(lease_hash, "mkdir -p /data; echo kept >/data/file; sync", 30)
    await driver.reset(lease_hash)
    assert (await driver.execute(lease_hash, "cat /data/file", 30)).stdout == b"kept\n"
