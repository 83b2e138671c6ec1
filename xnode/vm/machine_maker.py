"""Makes a machine's directory from an image and a spec: durable and complete, or not there."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import trio

from xnode.core.faults import CallerFault, MachineFault, OperatorFault
from xnode.core.keys import is_valid_point
from xnode.core.machine import MachineSpec, MachineStatus
from xnode.vm import image_store, images, machine_files, ssh_keys, state
from xnode.vm.durable import remove_tree
from xnode.vm.images import Image
from xnode.vm.limits import DISK_GB_MIN
from xnode.vm.machine_seed import Seeds
from xnode.vm.qemu_command import disk_command
from xnode.vm.qemu_process import Identity
from xnode.vm.state import Record


class MachineMaker:
    """Knows the image store; an image is verified once, and again when its files have changed."""

    def __init__(self, root: Path, store: Path, random: Callable[[int], bytes], resolver: str = "") -> None:
        self._root = root
        self._store = store
        self._random = random
        self._resolver = resolver
        self._verified: dict[str, object] = {}

    async def make(self, spec: MachineSpec, image_name: str, accelerator: str, user: Identity, now: int) -> Record:
        """Makes it; `now` in ns. Raises OperatorFault, MachineFault or CallerFault (see images.py)."""
        check_access_key(spec)
        image = await trio.to_thread.run_sync(self._open, image_name)
        if spec.is_spare and image.boots_itself:
            message = f"image {image_name} boots itself, by cloud-init, and can't be booted before it is leased"
            raise OperatorFault("no_pool", message)
        if max(spec.disk_gb, DISK_GB_MIN) < image.least.disk_gb:
            message = f"image {image_name} needs a disk of at least {image.least.disk_gb} GiB"
            raise CallerFault("disk_too_small", message)
        provider_seed, host_seed = ssh_keys.new_seed(self._random), ssh_keys.new_seed(self._random)
        record = Record(
            spec, image.name, max(spec.memory_mb, image.least.memory_mb), ssh_keys.public_key_of(host_seed),
            accelerator, now, MachineStatus.PROVISIONING, now, uid=user.uid, boots_itself=image.boots_itself,
        )  # fmt: skip
        unfinished = machine_files.directory_of(self._root, spec.lease_hash).with_suffix(".new")
        try:
            await trio.to_thread.run_sync(self._prepare, record, image, user, provider_seed, host_seed)
            await self._make_disk(unfinished / "run", spec.disk_gb, image, user)
            await trio.to_thread.run_sync(self._publish, unfinished, record)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(remove_tree, unfinished)
            raise
        return record

    async def renew(self, record: Record, user: Identity, now: int) -> Record:
        """Makes the machine of a spare's lease anew, as if there had been no spare, in its place."""
        await trio.to_thread.run_sync(machine_files.remove, self._root, record.spec.lease_hash)
        return await self.make(record.spec, record.image, record.accelerator, user, now)

    def new_login(self) -> bytes:
        """A fresh key of the provider's."""
        return ssh_keys.new_seed(self._random)

    async def full_name(self, image: str) -> str:
        """See `Driver.full_image`."""
        return (await trio.to_thread.run_sync(images.open_image, self._store, image)).name

    async def reseed(self, record: Record, provider_seed: bytes, host_seed: bytes, user: Identity) -> None:
        """See `machine_files.reseed`."""
        directory = machine_files.directory_of(self._root, record.spec.lease_hash)
        image = await trio.to_thread.run_sync(self._open, record.image)
        seeds = Seeds(provider_seed, host_seed, self._random)
        await trio.to_thread.run_sync(machine_files.reseed, directory, record, image, seeds, user)

    def _open(self, name: str) -> Image:
        image = images.open_image(self._store, name)
        if image.architecture != images.host_architecture():
            message = f"image {image.name} is for {image.architecture}, this host is {images.host_architecture()}"
            raise OperatorFault("image_architecture", message + ": add the image that is made for it")
        if self._verified.get(image.name) is None or self._verified[image.name] != _fingerprint(image):
            images.verify(image)
            self._verified[image.name] = _fingerprint(image)
        return image

    def _prepare(self, record: Record, image: Image, user: Identity, provider_seed: bytes, host_seed: bytes) -> None:
        seeds = Seeds(provider_seed, host_seed, self._random)
        with image_store.locked(self._store, alone=False):
            images.open_image(self._store, image.name)  # nobody has removed it meanwhile
            unfinished = machine_files.prepare(self._root, record, image, seeds, self._resolver)
        machine_files.hand_over(unfinished, user)

    async def _make_disk(self, run: Path, disk_gb: int, image: Image, user: Identity) -> None:
        argv = disk_command(max(disk_gb, DISK_GB_MIN), image.base)
        try:
            result = await trio.run_process(
                argv, cwd=run, check=False, stdout=subprocess.DEVNULL, capture_stderr=True, umask=0o077,
                **user.popen_arguments(),
            )  # fmt: skip
        except OSError as error:
            raise OperatorFault("qemu_missing", f"{argv[0]} can't be started ({error}): install qemu-utils") from error
        if result.returncode:
            complaint = result.stderr.decode(errors="replace").strip()
            raise MachineFault("disk_failed", f"{argv[0]} could not make the disk: {complaint}")

    def _publish(self, unfinished: Path, record: Record) -> None:
        state.save(unfinished, record)
        machine_files.publish(unfinished)


def check_access_key(spec: MachineSpec) -> None:
    """Raises CallerFault(bad_access_key): most texts of 32 bytes are no key, and some would let anybody in."""
    if not spec.is_spare and not is_valid_point(spec.access_key):
        raise CallerFault("bad_access_key", "the access key is no ed25519 public key")


def _fingerprint(image: Image) -> object:
    try:
        return images.fingerprint(image)
    except OSError:
        return None  # a file is missing: `verify` says which
