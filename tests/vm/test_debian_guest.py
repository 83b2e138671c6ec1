"""The guest that consumers get: built from the host's own apt sources, with apt, SSH and SFTP, on a disk that grows."""

import os
import sys

import pytest

from tests.support.qemu import IMAGE_STORE, new_consumer, new_spec, openssh
from xnode.core.machine import MachineStatus
from xnode.vm.guest.build_debian import build_debian
from xnode.vm.images import open_image, verify

pytestmark = [pytest.mark.vm, pytest.mark.slow]


@pytest.fixture(scope="session")
def debian_image():
    """About a minute the first time."""
    return build_debian(IMAGE_STORE, lambda step: sys.stderr.write(step + "\n"))


async def test_debian_guest_from_build_to_scp_and_restart(debian_image, driver, tmp_path):
    verify(open_image(IMAGE_STORE, "debian"))
    consumer = new_consumer()
    spec = new_spec(consumer, image="debian")._replace(disk_gb=3)
    await driver.create(spec)
    machine = await driver.start(spec.lease_hash)
    assert (machine.status, machine.image) == (MachineStatus.RUNNING, debian_image.name)

    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(os.urandom(300_000))
    for words in ((str(sent), "guest:/root/kept"), ("guest:/root/kept", str(back))):
        done = await openssh(tmp_path, machine, consumer, machine.host_key, words, program="scp")
        assert done.returncode == 0, done.stderr
    assert back.read_bytes() == sent.read_bytes()

    command = "id -un; apt-get --version | head -c 3; echo; dpkg --audit; hostname"
    result = await driver.execute(spec.lease_hash, command + "; echo own >>.ssh/authorized_keys", 60)
    assert result.stdout.decode().split() == ["root", "apt", machine.name]
    size = await driver.execute(spec.lease_hash, "sleep 3; df -k / | tail -n 1", 60)
    assert int(size.stdout.split()[1]) > 2_500_000  # KiB: grown to the leased 3 GiB

    await driver.stop(spec.lease_hash)
    await driver.start(spec.lease_hash)
    result = await driver.execute(spec.lease_hash, "wc -c </root/kept; wc -l </root/.ssh/authorized_keys", 60)
    assert result.stdout.split() == [b"300000", b"3"]  # the consumer's line is kept, the lease's are not repeated
