"""`scripts/bench vm`: from a confirmed lease to the first SSH command that has run, as ratios to the bare boot of the
same guest by a plain QEMU command line; in turns, on a network of five processes. Prints where the time goes.

The clock of a lease starts when its block is confirmed at the provider and ends when OpenSSH, through the tunnel of the
consumer's node, has run a command; it is started as soon as the lease request returns. Bare: from the start of QEMU
until OpenSSH has run the same command, tried from the moment when the guest says on its console that it is up; in a
cgroup like the others', so that a busy host treats all alike.
"""

import argparse
import itertools
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from tests.bench.rounds import ratio_of
from tests.support.devnet import IMAGES, http, running_devnet, wait_until
from tests.support.leasing import wait_for_state
from xnode.core.machine import MachineSpec
from xnode.core.values import NS, Hash
from xnode.vm import cgroups, images, machine_seed, ssh_keys
from xnode.vm.cgroups import Limit
from xnode.vm.limits import OVERHEAD_MB
from xnode_cmd.demo_login import ssh_words
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.devnet_plan import Plan, free_ports
from xnode_cmd.lease_keys import LeaseKeys
from xnode_cmd.ssh import find_login

MEMORY_MB: Final = 256
COLD_MEMORY_MB: Final = MEMORY_MB + 1
DURATION_S: Final = 20
PATIENCE_S: Final = 120.0
POLL_S: Final = 0.02
COLD_GOAL: Final = 1.3
POOL_GOAL: Final = 0.25
STEPS: Final = (
    "the provider begins",
    "the machine answers on SSH",
    "the acceptance is written",
    "it is confirmed at the consumer",
    "the lease request returns",
    "OpenSSH has run its command",
)
Times = list[float]  # seconds or moments, by step
OK: Final = 200


class Leased(NamedTuple):
    """A lease whose machine has run a command, and when its request returned and the command had run."""

    lease_hash: str
    returned: float
    done: float


def main(words: list[str]) -> None:
    """Prints medians in seconds, and the ratios of the rounds; each to the mean of the bare boots around it."""
    parser = argparse.ArgumentParser(prog="scripts/bench vm")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = max(2, parser.parse_args(words).rounds)
    bare, cold, pool = list[float](), list[Times](), list[Times]()
    with running_devnet(Plan(min_duration=DURATION_S), machine_pool=(f"tiny:1:{MEMORY_MB}:1:1",)) as network:
        before = boot_bare()
        for number in range(rounds):
            wait_until(lambda: stands_ready(network), PATIENCE_S, "the pool")
            leases = lease(network, COLD_MEMORY_MB), lease(network, MEMORY_MB)
            after = boot_bare()
            bare.append((before + after) / 2)
            cold.append(shares_of(network, leases[0]))
            pool.append(shares_of(network, leases[1]))
            before = after
            times = f"bare {bare[-1]:.2f} s, cold {sum(cold[-1]):.2f} s, from the pool {sum(pool[-1]):.2f} s"
            print(f"round {number + 1}: {times}; {load()}", flush=True)
    report("cold", bare, cold, COLD_GOAL)
    report("from the pool", bare, pool, POOL_GOAL)


def stands_ready(network: Devnet) -> bool:
    """Whether the provider's spare waits for a lease."""
    with http(network, "provider1") as client:
        return "xnode_pool_ready 1" in client.get("/metrics").text


def load() -> str:
    """What else the host does."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def boot_bare() -> float:
    """Seconds until a command has run in a guest that nobody but QEMU looks after."""
    with tempfile.TemporaryDirectory(prefix="xn-") as name:
        folder = Path(name)
        login, host, port = os.urandom(32), os.urandom(32), free_ports(1)[0]
        image = images.open_image(IMAGES, "tiny")
        spec = MachineSpec(Hash(os.urandom(32)), 1, MEMORY_MB, 1, ssh_keys.public_key_of(login), image.name)
        seeds = machine_seed.Seeds(os.urandom(32), host, os.urandom)
        initrd = (image.directory / images.INITRD).read_bytes() + machine_seed.archive(spec, seeds)
        (folder / "initrd").write_bytes(initrd)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", folder / "disk", "1G"], check=True)
        ssh = ssh_command(
            folder, login, ssh_keys.known_hosts_line("127.0.0.1", port, ssh_keys.public_key_of(host)), port
        )
        started = time.time()
        qemu = subprocess.Popen(qemu_words(image.directory / images.KERNEL, port), cwd=folder)
        cgroups.find().put(folder.name, qemu.pid, Limit(MEMORY_MB + OVERHEAD_MB, 1))
        try:
            return until_logged_in(folder / "console", ssh, qemu) - started
        finally:
            qemu.kill()
            qemu.wait()
            cgroups.find().remove(folder.name)


def qemu_words(kernel: Path, port: int) -> list[str]:
    """A plain command line; nothing in it that makes a boot slower than it need be."""
    return [
        "qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", str(MEMORY_MB),
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "file:console",
        "-kernel", str(kernel), "-initrd", "initrd", "-append", "console=ttyS0 quiet panic=-1",
        "-netdev", f"user,id=n0,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-pci,netdev=n0,romfile=",
        "-drive", "id=d0,if=none,format=qcow2,file=disk,discard=unmap", "-device", "virtio-blk-pci,drive=d0",
        "-device", "virtio-rng-pci",
    ]  # fmt: skip


def ssh_command(folder: Path, login: bytes, known_host: str, port: int) -> list[str]:
    """OpenSSH with the options of `xnode ssh`, but straight to the port."""
    (folder / "id").write_text(ssh_keys.openssh_private(login, os.urandom))
    (folder / "id").chmod(0o600)
    (folder / "known").write_text(known_host + "\n")
    options = {
        "IdentityFile": folder / "id", "IdentitiesOnly": "yes", "BatchMode": "yes", "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": folder / "known", "GlobalKnownHostsFile": "/dev/null", "UpdateHostKeys": "no",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "/dev/null", *words, "-p", str(port), "root@127.0.0.1", "true"]


def until_logged_in(console: Path, ssh: list[str], qemu: subprocess.Popen[bytes]) -> float:
    """When the command had run."""
    deadline = time.time() + PATIENCE_S
    while time.time() < deadline and qemu.poll() is None:
        if console.exists() and images.MARKER in console.read_bytes() and runs(ssh):
            return time.time()
        time.sleep(POLL_S)
    raise SystemExit(f"the bare guest did not come up within {PATIENCE_S:.0f} s")


def runs(ssh: list[str]) -> bool:
    """Whether a command that OpenSSH gives to a guest ends well."""
    return subprocess.run(ssh, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def lease(network: Devnet, memory_mb: int) -> Leased:
    """One, from its request to the end of a command."""
    consumer = network.access("consumer1")
    _, key = LeaseKeys(consumer.data_dir).make()
    sizes = {"vcpus": 1, "memory_mb": memory_mb, "disk_gb": 1, "duration": DURATION_S}
    with http(network, "consumer1") as client:
        answer = client.post("/lease/request", json={**sizes, "access_pub_key": key.hex()})
    returned = time.time()
    if answer.status_code != OK:
        raise SystemExit(answer.text)
    lease_hash = str(answer.json()["lease_hash"])
    if not runs([*ssh_words(find_login(consumer, lease_hash, None)), "true"]):
        raise SystemExit("OpenSSH did not get in")
    return Leased(lease_hash, returned, time.time())


def shares_of(network: Devnet, leased: Leased) -> Times:
    """The seconds of each of STEPS, once the lease is over."""
    lease_hash, returned, done = leased
    wait_for_state(network, lease_hash, "settled", PATIENCE_S)
    moments = [confirmed(network, "provider1", lease_hash), *noted(network, lease_hash), returned, done]
    return [after - before for before, after in itertools.pairwise(moments)]


def noted(network: Devnet, lease_hash: str) -> Times:
    """The steps that nodes tell; of each word the first."""
    provider = network.member("provider1")
    with http(network, provider.name) as client:
        lines = client.get(f"/leases/{lease_hash}/events").text.splitlines()
        chain = client.get(f"/accounts/{provider.account}/chain").json()
    steps = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    first = {item["step"]: item["time"] / NS for item in reversed(steps) if "time" in item}
    accept = next(
        str(item["hash"])
        for item in chain
        if (item["block"]["type"], item["block"].get("source")) == ("lease_accept", lease_hash)
    )
    return [first["booting"], first["machine_ready"], first["accepted"], confirmed(network, "consumer1", accept)]


def confirmed(network: Devnet, name: str, block: str) -> float:
    """When a node had a block confirmed."""
    with http(network, name) as client:
        return float(client.get(f"/blocks/{block}/times").json()["confirmed"]) / NS


def report(kind: str, bare: list[float], leases: list[Times], goal: float) -> None:
    """The ratio of one kind of lease to the bare boot, and the shares of its steps."""
    ratio = ratio_of([sum(shares) / yardstick for shares, yardstick in zip(leases, bare, strict=True)])
    print(f"{kind}: {ratio} of the bare boot ({median(bare):.2f} s); the goal is at most {goal}")
    for step, seconds in zip(STEPS, zip(*leases, strict=True), strict=True):
        print(f"  {step:<34} {median(seconds):6.2f} s")
