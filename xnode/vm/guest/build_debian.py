"""Builds the Debian guest: a slim Debian (or Ubuntu, where the host is one) with apt, SSH, SFTP; about 40 seconds.

Needs mmdebstrap, e2fsprogs and qemu-img, and root or user namespaces. The archive is the machine's own apt sources. The
root disk is an ext4 file system without a partition table, compressed; machines get an overlay of their own size.
"""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Final

from xnode.vm import cpio
from xnode.vm.cpio import Entry
from xnode.vm.guest import debian_root, kernel, packages
from xnode.vm.guest.build_tiny import busybox_entries
from xnode.vm.guest.packages import Apt
from xnode.vm.guest.store import Build, build_once
from xnode.vm.images import Least

KIND: Final = "debian"
_INCLUDED: Final = ("dropbear-bin", "openssh-sftp-server", "iproute2", "procps", "ca-certificates", "e2fsprogs")
_LEAST_MEMORY_MB: Final = 256
_ROOT_BYTES: Final = 960 << 20  # below the smallest disk a lease can ask for; the guest grows it to its own disk
_HERE: Final = Path(__file__).parent
_INITRD_FOLDERS: Final = ("bin", "lib", "lib/guest-modules", "proc", "sys", "dev", "root")
_POWER_COMMANDS: Final = {"poweroff": "USR2", "halt": "USR2", "reboot": "TERM"}


def build_debian(store: Path, report: Callable[[str], None]) -> Path:
    """Builds it into the store, or finds it there; returns the image's directory. Raises OperatorFault."""
    debian_root.check_tools()
    apt = Apt(store / ".apt")
    boot_debs = {**kernel.kernel_packages(apt), **apt.closure(("busybox-static",))}

    def make(work: Path, image: Path) -> None:
        report("downloading the kernel")
        _build(apt.download(boot_debs.values(), work / "debs"), work, image, report)

    build = Build(KIND, Least(_LEAST_MEMORY_MB), {**boot_debs, **apt.closure(_INCLUDED)})
    return build_once(store, build, make, report)


def _build(files: list[Path], work: Path, image: Path, report: Callable[[str], None]) -> None:
    tree = packages.unpack(files, work / "tree")
    found = kernel.find_kernel(tree)
    (image / "vmlinuz").write_bytes(found.image.read_bytes())
    (image / "initrd").write_bytes(cpio.write_archive(initrd_entries(tree, found, "debian-initrd.sh")))
    report("installing the root file system")
    additions = shlex.join(map(str, _write_additions(work / "additions")))
    hooks = (f"copy-in {additions} /usr/local/sbin", 'rm -f "$1"/etc/hostname "$1"/etc/resolv.conf')
    debian_root.bootstrap(work, _INCLUDED, hooks)
    report("writing the disk")
    raw = debian_root.write_file_system(work, _ROOT_BYTES)
    debian_root.compress(raw, image / "root.qcow2")


def initrd_entries(tree: Path, found: kernel.Kernel, script: str) -> list[Entry]:
    """Busybox, the modules and the script (a file of this folder) that goes on to the root disk."""
    busybox = busybox_entries(tree)[0]  # the links are made at boot
    return [
        *(cpio.directory(name) for name in _INITRD_FOLDERS),
        cpio.character_device("dev/console", 5, 1),
        busybox,
        *kernel.module_entries(found, "lib/guest-modules"),
        cpio.regular("init", (_HERE / script).read_bytes(), 0o755),
    ]


def _write_additions(folder: Path) -> list[Path]:
    """The programs of ours in the guest: its init, and commands that tell it to power off."""
    folder.mkdir()
    (folder / "guest-init").write_bytes((_HERE / "debian-init.sh").read_bytes())
    for name, signal in _POWER_COMMANDS.items():
        (folder / name).write_text(f"#!/bin/sh\nexec kill -{signal} 1\n")
    programs = sorted(folder.iterdir())
    for program in programs:
        program.chmod(0o755)
    return programs
