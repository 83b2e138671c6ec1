"""Real machines for tests: specs, settings, and OpenSSH's own client."""

import os
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import trio

from xnode.core.lease import EndProof
from xnode.core.machine import Machine, MachineSpec
from xnode.core.values import ZERO_HASH, Hash, PublicKey
from xnode.vm import ssh_keys
from xnode.vm.qemu import QemuDriver
from xnode.vm.qemu_settings import QemuSettings

CHECKOUT = Path(__file__).parents[2]
IMAGE_STORE = CHECKOUT / ".cache" / "images"
_SSH_SECONDS = 60


class Consumer(NamedTuple):
    """The holder of an access key."""

    seed: bytes

    @property
    def public_key(self) -> PublicKey:
        return ssh_keys.public_key_of(self.seed)


def new_consumer() -> Consumer:
    return Consumer(os.urandom(32))


def new_spec(consumer: Consumer, image: str = "tiny") -> MachineSpec:
    """The least machine that a lease can ask for."""
    return MachineSpec(Hash(os.urandom(32)), 1, 128, 1, consumer.public_key, image)


def settings(root: Path, store: Path = IMAGE_STORE) -> QemuSettings:
    """Emulation only: a KVM that is not real would hang."""
    return QemuSettings(root, store, default_image="tiny", accelerator="tcg")


def open_driver(using: QemuSettings):
    """An async context manager."""
    return QemuDriver.open(using, time.time_ns, os.urandom)


def ended(lease_hash: Hash) -> EndProof:
    return EndProof(lease_hash, ZERO_HASH, "settled")


async def openssh(
    folder: Path, machine: Machine, key: Consumer, host_key: PublicKey, command: tuple[str, ...], program: str = "ssh"
) -> subprocess.CompletedProcess[bytes]:
    """Runs OpenSSH's ssh (command: words for the guest) or scp (command: SOURCE TARGET, `guest:` is the machine)."""
    identity, known_hosts, config = folder / "id", folder / "known_hosts", folder / "config"
    identity.write_text(ssh_keys.openssh_private(key.seed, os.urandom))
    identity.chmod(0o600)
    known_hosts.write_text(ssh_keys.known_hosts_line("127.0.0.1", machine.ssh_port, host_key) + "\n")
    config.write_text(
        f"Host guest\n HostName 127.0.0.1\n Port {machine.ssh_port}\n User root\n IdentityFile {identity}\n"
        f" IdentitiesOnly yes\n BatchMode yes\n StrictHostKeyChecking yes\n UserKnownHostsFile {known_hosts}\n"
        f" GlobalKnownHostsFile /dev/null\n ConnectTimeout 30\n"
    )
    target = ("guest",) if program == "ssh" else ()
    with trio.fail_after(_SSH_SECONDS):
        return await trio.run_process(
            (program, "-F", str(config), *target, *command), check=False, capture_stdout=True, capture_stderr=True
        )
