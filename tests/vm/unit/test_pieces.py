"""The small pieces of the driver: the accelerator's judgement, QEMU's monitor text, consoles, files, processes."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import asyncssh
import pytest

from tests.support.qemu import new_consumer
from xnode.core.faults import MachineFault, OperatorFault, Unavailable
from xnode.vm import accelerator, console, host_room, images, machine_files, qemu_process, qmp, shell
from xnode.vm.asyncio_thread import open_asyncio_thread
from xnode.vm.boot import Boot
from xnode.vm.host_room import HostLimits
from xnode.vm.qemu_process import Identity, Process

USERNET = """VLAN -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   21       127.0.0.1 40000       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  12       127.0.0.1 39583       10.0.2.15    22     0     0
"""


@pytest.mark.parametrize(("speed", "expected"), [(0, "tcg"), (1.2e6, "tcg"), (50e6, "tcg"), (2e9, "kvm")])
def test_kvm_only_where_it_is_fast(speed, expected):
    assert accelerator.judge(speed).accelerator == expected


async def test_operator_chooses_the_accelerator_or_is_told_what_there_is():
    assert (await accelerator.choose("tcg", Identity(0, 0))).accelerator == "tcg"
    with pytest.raises(OperatorFault, match="kvm, tcg"):
        await accelerator.choose("hvf", Identity(0, 0))


def test_forwarded_port_is_read_from_the_monitor():
    assert qmp.parse_forward(USERNET) == 39583
    assert qmp.parse_forward("nothing") == 0


async def test_dead_monitor_is_a_named_fault(tmp_path):
    async with open_asyncio_thread() as thread:
        with pytest.raises(MachineFault) as caught:
            await thread.run(qmp.status, tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("qmp_failed", True)


async def test_closed_thread_refuses():
    async with open_asyncio_thread() as thread:
        pass
    with pytest.raises(Unavailable):
        await thread.run(qmp.status, Path("/"))


def test_console_is_untrusted_text(tmp_path):
    (tmp_path / "console").write_bytes(b"\x1b[2J" + b"old\n" * 3000 + b"last \xff\x00line\r\n")
    assert console.last_lines(tmp_path).endswith("old | last line")
    assert not console.has_booted(tmp_path)
    (tmp_path / "console").write_bytes(b"x\n" + images.MARKER + b"\n")
    assert console.has_booted(tmp_path)


def test_console_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(images.MARKER)
    (tmp_path / "console").symlink_to("secret")
    assert (console.has_booted(tmp_path), console.last_lines(tmp_path)) == (False, "nothing")


def test_qemus_own_words_stand_in_for_an_empty_console(tmp_path):
    (tmp_path / "qemu.err").write_bytes(b"qemu: no such machine\n")
    assert console.last_lines(tmp_path) == "qemu: no such machine"


def test_panic_is_found_with_its_reason(tmp_path):
    assert console.panic(tmp_path) == ""
    (tmp_path / "console").write_bytes(b"[1] Kernel panic - not syncing: VFS\r\n[2] CPU 0\n")
    assert console.panic(tmp_path) == "Kernel panic - not syncing: VFS"


@pytest.mark.parametrize(
    ("written", "code"),
    [
        (b"root password: hunter2\n", "machine_exited"),
        (b"[1] Kernel panic - not syncing: hunter2\n", "guest_panicked"),
        (b"", "qemu_exited"),
    ],
)
async def test_a_boot_s_fault_keeps_the_console_for_the_operator(tmp_path, written, code):
    (tmp_path / "console").write_bytes(written)
    (tmp_path / "qemu.err").write_bytes(b"qemu: hunter2\n")
    async with open_asyncio_thread() as thread:
        with pytest.raises(MachineFault) as caught:
            await Boot(thread, tmp_path, Process(0, 0)).forwarded_port("any")
    assert (caught.value.code, "hunter2" in caught.value.evidence) == (code, True)
    assert "hunter2" not in str(caught.value)


def test_long_console_is_emptied(tmp_path):
    (tmp_path / "console").write_bytes(bytes((1 << 20) + 1))
    console.trim(tmp_path / "console")
    assert (tmp_path / "console").read_bytes() == b""


def test_process_is_known_by_its_start_time():
    own = Process(os.getpid(), qemu_process.started_ticks(os.getpid()))
    assert qemu_process.is_alive(own)
    assert not qemu_process.is_alive(own._replace(started_ticks=own.started_ticks + 1))
    assert not qemu_process.is_alive(Process(0, 0))
    qemu_process.kill(own._replace(started_ticks=1))  # another process of the same number: not killed


def test_ended_child_is_reaped():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process(child.pid, qemu_process.started_ticks(child.pid))
    qemu_process.kill(process)
    while qemu_process.is_alive(process):
        pass
    assert not Path(f"/proc/{child.pid}").exists()
    child.stdin.close()
    child.returncode = 0  # reaped behind its back
    qemu_process.kill(process)  # already gone


def test_what_machines_may_yet_take_is_not_free(tmp_path):
    everything = HostLimits(tmp_path, 9, 0, 0)
    limits = HostLimits(tmp_path, 9, 1 << 30, 100)
    empty = host_room.look(everything, [])
    assert empty.machines == 9
    assert empty.disk_gb == host_room.free_bytes(tmp_path) >> 30
    (tmp_path / "disk.qcow2").write_bytes(bytes(1 << 20))
    tenant = host_room.Tenant(tmp_path / "disk.qcow2", 2, 700, 0)
    assert host_room.growth_bytes(tenant) == (2 << 30) - (1 << 20)
    taken = host_room.look(limits, [tenant, tenant])
    assert taken.machines == 7
    assert empty.disk_gb - taken.disk_gb in (4, 5, 6)
    assert abs(empty.memory_mb - taken.memory_mb - 100 - 2 * (700 + taken.overhead_mb)) < 600  # others use it too
    grown = host_room.look(limits, [tenant._replace(pid=os.getpid())])
    assert grown.memory_mb > taken.memory_mb
    none = host_room.look(everything, [tenant._replace(disk_gb=10**6, memory_mb=10**9)] * 9)
    assert (none.machines, none.memory_mb, none.disk_gb) == (0, 0, 0)


def test_sweep_removes_the_unfinished_only(tmp_path):
    for name in ("a" * 64, "b" * 64 + ".new", "c" * 64 + ".gone"):
        (tmp_path / name / "run").mkdir(parents=True)
    machine_files.sweep(tmp_path)
    assert machine_files.machine_directories(tmp_path) == [tmp_path / ("a" * 64)]


def test_address_does_not_show_its_secret():
    assert "seed" not in repr(shell.Address(22, new_consumer().public_key, b"secret"))


@pytest.mark.parametrize("banner", [b"SSH-2.0-\xff\xfe\r\n", b"SSH-1.0-old\r\n"])
async def test_a_guest_that_talks_no_ssh_is_a_named_fault(banner):
    """Its root can put anything on the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(banner)
                while connection.recv(1000):
                    pass

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        address = shell.Address(server.getsockname()[1], new_consumer().public_key, bytes(range(32)))
        async with open_asyncio_thread() as asyncio_thread:
            with pytest.raises(MachineFault) as caught:
                await asyncio_thread.run(shell.connect, address)
        thread.join(5)
    assert caught.value.code == "ssh_unreachable"


def test_what_a_guest_s_server_says_is_evidence_only():
    said = shell.unreachable(asyncssh.DisconnectError(asyncssh.DISC_BY_APPLICATION, "call this number"))
    assert str(said) == "the machine can't be reached by SSH (DisconnectError)"
    assert said.evidence == "call this number"
    refused = shell.unreachable(ConnectionRefusedError(111, "Connection refused"))
    assert str(refused) == "the machine can't be reached by SSH (ConnectionRefusedError: Connection refused)"
    assert refused.evidence == ""
