"""A disk that boots itself, with real cloud-init: name, keys, host key and size come by the NoCloud seed."""

import stat
import sys

import pytest

from tests.support.qemu import IMAGE_STORE, new_consumer, new_spec, open_driver, openssh, settings
from xnode.core.machine import MachineStatus
from xnode.vm.guest.build_cloud import build_cloud
from xnode.vm.images import open_image

pytestmark = [pytest.mark.vm, pytest.mark.slow]

PATIENCE_SECONDS = 900.0  # a boot takes 50 to 90 s of one core under emulation; others may want the cores too
ASKED = "hostname; df -k / | tail -n 1; cloud-init query ds.meta_data.instance_id; id -un debian; ls /etc/ssh"


@pytest.fixture(scope="session")
def cloud_image():
    """About 75 seconds the first time."""
    return build_cloud(IMAGE_STORE, lambda step: sys.stderr.write(step + "\n"))


async def test_cloud_guest_takes_its_seed_and_is_the_same_after_a_restart(cloud_image, machines_root, tmp_path):
    image = open_image(IMAGE_STORE, "cloud")
    assert (image.boots_itself, image.name) == (True, cloud_image.name)
    consumer = new_consumer()
    spec = new_spec(consumer, image="cloud")._replace(memory_mb=512, disk_gb=3)
    async with open_driver(settings(machines_root)._replace(boot_timeout=PATIENCE_SECONDS)) as driver:
        await driver.create(spec)
        run = machines_root / spec.lease_hash.hex() / "run"
        assert sorted(path.name for path in run.iterdir()) == ["base.qcow2", "disk.qcow2", "seed.iso"]
        assert stat.S_IMODE((run / "seed.iso").stat().st_mode) == 0o600  # the host key is on it
        machine = await driver.start(spec.lease_hash)
        assert (machine.status, machine.image) == (MachineStatus.RUNNING, cloud_image.name)

        done = await openssh(tmp_path, machine, consumer, machine.host_key, ("id", "-un"))
        assert (done.returncode, done.stdout) == (0, b"root\n"), done.stderr
        refused = await openssh(tmp_path, machine, new_consumer(), machine.host_key, ("true",))
        assert refused.returncode == 255
        asked = await driver.execute(spec.lease_hash, ASKED + "; echo kept >/root/file; sync", 120)
        name, size, instance, user, *files = asked.stdout.decode().splitlines()
        assert (name, instance, user) == (machine.name, spec.lease_hash.hex(), "debian")
        assert int(size.split()[1]) > 2_500_000  # KiB: grown to the leased 3 GiB
        assert [name for name in files if name.startswith("ssh_host")] == [
            "ssh_host_ed25519_key",
            "ssh_host_ed25519_key.pub",
        ]

        await driver.stop(spec.lease_hash)
        await driver.start(spec.lease_hash)  # under the same host key, or it would not be up
        again = await driver.execute(spec.lease_hash, "cat /root/file; hostname", 120)
        assert again.stdout.decode().split() == ["kept", machine.name]
