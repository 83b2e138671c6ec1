"""Builds the cloud guest: a disk that boots itself and takes its seed by cloud-init, as distributions publish them.

It is what tests have in place of those: Debian's cloud-init, systemd, OpenSSH, GRUB and a partition that grows, but
none of the rest, so that it boots in about a minute under emulation. Needs what the Debian guest needs; 75 seconds.
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from xnode.core.faults import OperatorFault
from xnode.vm import cpio
from xnode.vm.guest import debian_root, kernel, packages
from xnode.vm.guest.build_debian import initrd_entries
from xnode.vm.guest.packages import Apt
from xnode.vm.guest.store import Build, build_once
from xnode.vm.images import BASE_DISK, Least

KIND: Final = "cloud"
_INCLUDED: Final = (
    "systemd-sysv", "udev", "cloud-init", "openssh-server", "cloud-guest-utils", "e2fsprogs", "fdisk", "iproute2",
    "grub-common", "grub-pc-bin",
)  # fmt: skip
_SEED_MODULES: Final = ("cdrom", "isofs")  # the seed disk's file system
_LEAST: Final = Least(memory_mb=384)
_SECTOR_BYTES: Final = 512
_PARTITION_AT: Final = 2048  # sectors; the boot loader lies before it
_DISK_SECTORS: Final = 1000 << 11  # 1000 MiB
_BOOT_CODE_BYTES: Final = 440
_PARTITION: Final = struct.Struct("<B3sB3sII")  # active, first CHS, type, last CHS, first sector, sectors
_NO_CHS: Final = b"\xfe\xff\xff"
_LINUX: Final = 0x83
_HERE: Final = Path(__file__).parent


def build_cloud(store: Path, report: Callable[[str], None]) -> Path:
    """Builds it into the store, or finds it there; returns the image's directory. Raises OperatorFault."""
    debian_root.check_tools()
    apt = Apt(store / ".apt")
    boot_debs = {**kernel.kernel_packages(apt), **apt.closure(("busybox-static",))}

    def make(work: Path, image: Path) -> None:
        report("downloading the kernel")
        _build(apt.download(boot_debs.values(), work / "debs"), work, image, report)

    build = Build(KIND, _LEAST, {**boot_debs, **apt.closure(_INCLUDED)})
    return build_once(store, build, make, report)


def _build(files: list[Path], work: Path, image: Path, report: Callable[[str], None]) -> None:
    tree = packages.unpack(files, work / "tree")
    found = kernel.find_kernel(tree, _SEED_MODULES)
    boot = work / "boot"
    boot.mkdir()
    (boot / "vmlinuz").write_bytes(found.image.read_bytes())
    (boot / "initrd").write_bytes(cpio.write_archive(initrd_entries(tree, found, "cloud-initrd.sh")))
    report("installing the root file system")
    hooks = (
        f"copy-in {boot}/vmlinuz {boot}/initrd /boot",
        f'sh {_HERE}/cloud-setup.sh "$1"',
        f"copy-out /boot/boot.img /boot/core.img {boot}",
    )
    debian_root.bootstrap(work, _INCLUDED, hooks)
    report("writing the disk")
    raw = debian_root.write_file_system(work, _DISK_SECTORS * _SECTOR_BYTES, _PARTITION_AT * _SECTOR_BYTES)
    with raw.open("r+b") as disk:
        disk.write(boot_sectors((boot / "boot.img").read_bytes(), (boot / "core.img").read_bytes()))
    debian_root.compress(raw, image / BASE_DISK)


def boot_sectors(first: bytes, core: bytes) -> bytes:
    """What lies before the partition: GRUB's first sector with the partition table, then the rest of GRUB."""
    sector = bytearray(first[:_BOOT_CODE_BYTES].ljust(_SECTOR_BYTES, b"\0"))
    sectors = _DISK_SECTORS - _PARTITION_AT
    sector[446:462] = _PARTITION.pack(0x80, _NO_CHS, _LINUX, _NO_CHS, _PARTITION_AT, sectors)
    sector[510:] = b"\x55\xaa"
    if len(sector) + len(core) > _PARTITION_AT * _SECTOR_BYTES:
        raise OperatorFault("build_failed", f"GRUB has {len(core)} bytes, which do not fit before the partition")
    return bytes(sector) + core
