"""A machine's directory, made whole before it gets its name and renamed before it goes.

    <root>/<lease hash>/machine.json    the record            (the node's, 0600)
    <root>/<lease hash>/provider_key    32 bytes, the node's own login (0600)
    <root>/<lease hash>/spare_keys      of a spare, and until its first lease has it: 64 bytes, the login that it was
                                        booted with and its SSH host key (0600)
    <root>/<lease hash>/run/            QEMU's working directory and all that it may touch: vmlinuz, initrd with the
                                        keys (0600), root.qcow2, disk.qcow2, console, qmp.sock, qemu.err; of an image
                                        that boots itself seed.iso with the keys (0600) and base.qcow2 instead

All of it blocks: call it in a worker thread.
"""

import os
from pathlib import Path
from typing import Final

from xnode.core.values import Hash
from xnode.vm import machine_seed, state
from xnode.vm.durable import create_file, link_or_copy, remove_tree, sync_directory
from xnode.vm.images import INITRD, Image
from xnode.vm.machine_seed import Seeds
from xnode.vm.qemu_command import SEED
from xnode.vm.qemu_process import Identity
from xnode.vm.state import Record

PROVIDER_KEY: Final = "provider_key"
SPARE_KEYS: Final = "spare_keys"
_SEED_BYTES: Final = 32
UNFINISHED: Final = ".new"
_GOING: Final = ".gone"


def directory_of(root: Path, lease_hash: Hash) -> Path:
    """Where the machine of a lease lives."""
    return root / lease_hash.hex()


def run_directory(root: Path, lease_hash: Hash) -> Path:
    """What belongs to its QEMU."""
    return directory_of(root, lease_hash) / "run"


def prepare(root: Path, record: Record, image: Image, seeds: Seeds, resolver: str = "") -> Path:
    """Makes everything but the disk and the record under an unfinished name, which it returns."""
    unfinished = directory_of(root, record.spec.lease_hash).with_suffix(UNFINISHED)
    remove_tree(unfinished)
    run = unfinished / "run"
    run.mkdir(parents=True, mode=0o700)
    unfinished.chmod(0o700)
    create_file(unfinished / PROVIDER_KEY, seeds.provider)
    if record.spec.is_spare:
        create_file(unfinished / SPARE_KEYS, seeds.provider + seeds.host)
    if image.boots_itself:
        create_file(run / SEED, machine_seed.disk(record.spec, seeds, resolver))
    else:
        create_file(run / INITRD, (image.directory / INITRD).read_bytes() + machine_seed.archive(record.spec, seeds))
    for name in image.checksums.keys() - {INITRD}:
        _share(image.directory / name, run / name)
    return unfinished


def _share(source: Path, target: Path) -> None:
    """Links a file of the image, never changing its owner or mode, which all machines share."""
    if source.stat().st_mode & 0o004:
        link_or_copy(source, target)
    else:  # the operator's umask hid the image from the user that QEMU runs as
        create_file(target, source.read_bytes(), 0o644)


def hand_over(directory: Path, user: Identity) -> None:
    """Gives QEMU's user what is the machine's own; the shared files stay the store's."""
    if os.geteuid() != 0:
        return
    run = directory / "run"
    for path in (run, run / INITRD, run / SEED):
        if path.exists():
            os.chown(path, user.uid, user.gid)


def publish(unfinished: Path) -> Path:
    """Gives a finished directory its name, durably."""
    if (unfinished / "run").exists():
        sync_directory(unfinished / "run")
    sync_directory(unfinished)
    final = unfinished.with_suffix("")
    unfinished.rename(final)
    sync_directory(final.parent)
    return final


def rename(root: Path, directory: Path, lease_hash: Hash) -> None:
    """Gives a spare's directory the name of its lease, durably; its QEMU works on in it."""
    directory.rename(directory_of(root, lease_hash))
    sync_directory(root)


def turn(root: Path, spare: Hash, record: Record) -> None:
    """Makes a spare's directory that of its lease; where the record can't be written it is the spare's again."""
    directory, final = directory_of(root, spare), directory_of(root, record.spec.lease_hash)
    rename(root, directory, record.spec.lease_hash)
    try:
        state.save(final, record)
    except OSError:
        rename(root, final, spare)
        raise


def spare_keys(directory: Path) -> tuple[bytes, bytes]:
    """The seeds of the login that a spare was booted with and of its host key; empty where it has arrived."""
    path = directory / SPARE_KEYS
    keys = path.read_bytes() if path.exists() else b""
    return keys[:_SEED_BYTES], keys[_SEED_BYTES:]


def reseed(directory: Path, record: Record, image: Image, seeds: Seeds, user: Identity) -> None:
    """Makes the next boot of a former spare give it the lease's name and keys. Reads nothing of `run`: it is QEMU's."""
    fresh = directory / INITRD
    create_file(fresh, (image.directory / INITRD).read_bytes() + machine_seed.archive(record.spec, seeds))
    if os.geteuid() == 0:
        os.chown(fresh, user.uid, user.gid)
    fresh.rename(directory / "run" / INITRD)
    sync_directory(directory / "run")


def remove(root: Path, lease_hash: Hash) -> None:
    """Removes a machine's directory; if the node dies meanwhile, `sweep` finishes it."""
    directory = directory_of(root, lease_hash)
    going = directory.with_suffix(_GOING)
    remove_tree(going)
    if directory.exists():
        directory.rename(going)
        sync_directory(root)
        remove_tree(going)


def sweep(root: Path) -> list[tuple[Path, OSError]]:
    """Removes what an earlier run was making or removing when it died: never a machine with its name. Returns what the
    host did not let go."""
    kept = []
    for path in root.iterdir():
        if path.suffix in (UNFINISHED, _GOING):
            try:
                remove_tree(path)
            except OSError as error:
                kept.append((path, error))
    return kept


def machine_directories(root: Path) -> list[Path]:
    """The directories of finished machines, sorted."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.suffix)
