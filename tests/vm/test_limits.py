"""What a machine may take of its host, and what it reaches: seen from inside a guest, and by the host's own records."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import trio

from tests.support.node_port import running_api
from tests.support.qemu import ended, new_consumer, new_spec
from xnode.api.settings import ApiSettings
from xnode.core.machine import machine_name
from xnode.vm import cgroups, qemu_process
from xnode.vm.cgroups import Limit
from xnode.vm.limits import OVERHEAD_MB
from xnode.vm.state import machine_uuid

pytestmark = [pytest.mark.vm, pytest.mark.slow]

MEMORY_FILES = ("memory.limit_in_bytes", "memory.max")


def groups_of(process: qemu_process.Process) -> list[Path]:
    """The folders of the process's groups that are ours."""
    found = []
    for line in Path(f"/proc/{process.pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            found.append(cgroups.ROOT / name / path.lstrip("/"))
    return [folder for folder in found if cgroups.PARENT in folder.parts and folder.exists()]


def host_addresses() -> list[str]:
    """Every IPv4 address that this host answers at, loopback included."""
    found = psutil.net_if_addrs().values()
    return sorted({item.address for items in found for item in items if item.family == socket.AF_INET})


async def ask(driver, machine, hosts: list[str], ports: list[int]) -> str:
    """What the guest hears from any of these; each is asked by TCP."""
    pairs = " ".join(f"{host},{port}" for host in hosts for port in ports)
    script = (
        f"for at in {pairs}; do "
        "(printf 'GET /health HTTP/1.0\\r\\n\\r\\n' | timeout 3 nc -w 2 ${at%,*} ${at#*,}) 2>&1 & done; wait; true"
    )
    return (await driver.execute(machine.spec.lease_hash, script, 60)).stdout.decode()


async def test_a_guest_reaches_neither_the_host_nor_its_networks_nor_other_machines(driver, tmp_path, machines_root):
    first, second = new_spec(new_consumer()), new_spec(new_consumer())
    for spec in (first, second):
        await driver.create(spec)
    async with trio.open_nursery() as nursery:
        for spec in (first, second):
            nursery.start_soon(driver.start, spec.lease_hash)
    machines = {machine.spec.lease_hash: machine for machine in driver.machines()}
    with running_api(tmp_path / "node", ApiSettings(port=0)) as node:
        assert "alive" in node.http.get("/health").text or node.http.get("/health").status_code == 200
        other = machines[second.lease_hash].ssh_port
        gateways = ["10.0.2.2", "10.0.2.3", "127.0.0.1", *host_addresses()]
        heard = await ask(driver, machines[first.lease_hash], gateways, [node.port, other])
        heard += await ask(
            driver, machines[first.lease_hash],
            ["169.254.169.254", "169.254.1.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "192.168.1.1", "100.64.0.1"],
            [80, 22, 53],
        )  # fmt: skip
        assert "HTTP" not in heard, heard
        assert "SSH-" not in heard, heard
    names = await driver.execute(first.lease_hash, "timeout 4 nslookup example.org 10.0.2.3 2>&1; true", 30)
    assert b"Name:" not in names.stdout
    assert (await driver.execute(first.lease_hash, "ip -6 addr show scope global", 30)).stdout == b""
    # and yet the machine itself answers, so the net is not just down
    assert (await driver.execute(first.lease_hash, "nc -w 3 127.0.0.1 22 </dev/null", 20)).stdout.startswith(b"SSH-")
    await check_separation(driver, machines_root, [first, second])
    for spec in (first, second):
        await driver.destroy(spec.lease_hash, ended(spec.lease_hash))
    assert cgroups.find().names().isdisjoint(machine_name(spec.lease_hash) for spec in (first, second))


async def check_separation(driver, root: Path, specs: list) -> None:
    """Each machine is in groups of its own with its limits, and can't read, signal or trace another."""
    processes = [qemu_process.find(machine_uuid(spec.lease_hash)) for spec in specs]
    found = cgroups.find()
    assert found.describe() in driver.limits
    if found.version:
        for spec, process in zip(specs, processes, strict=True):
            groups = groups_of(process)
            assert {group.name for group in groups} == {machine_name(spec.lease_hash)}
            files = [group / name for group in groups for name in MEMORY_FILES]
            limits = [int(file.read_text()) for file in files if file.exists()]
            assert limits == [(spec.memory_mb + OVERHEAD_MB) << 20]
    if os.geteuid() == 0:
        users = [(root / spec.lease_hash.hex() / "run").stat().st_uid for spec in specs]
        assert len(set(users)) == 2
        assert all(psutil.Process(item.pid).uids().real == uid for item, uid in zip(processes, users, strict=True))
        tried = as_user(users[0], root / specs[1].lease_hash.hex() / "run", processes[1].pid)
        assert tried == []


TRY = """
import json, os, sys
run, pid, uid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
done = []
for name, act in {
    "list": lambda: os.listdir(run),
    "initrd": lambda: open(run + "/initrd", "rb"),
    "disk": lambda: open(run + "/disk.qcow2", "rb+"),
    "record": lambda: open(run + "/../machine.json", "rb"),
    "signal": lambda: os.kill(pid, 0),
    "memory": lambda: open(f"/proc/{pid}/mem", "rb"),
}.items():
    try:
        act()
        done.append(name)
    except OSError:
        pass
print(json.dumps(done))
"""


def as_user(uid: int, run: Path, pid: int) -> list[str]:
    """What this user can do to another's machine."""
    command = [sys.executable, "-I", "-c", TRY, str(run), str(pid), str(uid)]
    done: list[str] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return done


def test_what_takes_more_memory_than_it_may_is_ended_by_its_group():
    found, name = cgroups.find(), f"test-{os.getpid()}"
    if not found.version:
        assert "no cgroups" in found.describe()
        return
    words = [sys.executable, "-c", "input(); data = bytearray(200 << 20); print(len(data))"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as greedy:
        found.put(name, greedy.pid, Limit(memory_mb=64, vcpus=1))
        out, _ = greedy.communicate(b"\n", timeout=30)
    assert (greedy.returncode, out) == (-signal.SIGKILL, b"")
    found.remove(name)
    assert name not in found.names()
