"""The guest's kernel and the modules that its initrd must load, whatever the distribution calls and compresses them."""

import gzip
import lzma
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from xnode.core.faults import OperatorFault
from xnode.vm import cpio
from xnode.vm.cpio import Entry
from xnode.vm.guest.packages import Apt, Package

# Debian's cloud kernel, Ubuntu's virtual one, then what any of them has. All are empty packages that need the real one.
_META_PACKAGES: Final = ("linux-image-cloud-amd64", "linux-image-virtual", "linux-image-generic", "linux-image-amd64")
_VERSIONED: Final = re.compile(r"^linux-(image|modules)-(unsigned-)?[0-9]")
# In the order in which they must be loaded (insmod resolves nothing); a kernel may have any of them built in.
_NEEDED: Final = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
    "failover", "net_failover", "virtio_net", "virtio_blk",
)  # fmt: skip
_USEFUL: Final = ("virtio-rng", "button", "evdev", "crc16", "mbcache", "jbd2", "ext4")
_OPTIONAL: Final = frozenset({"virtio_pci_legacy_dev", "virtio_pci_modern_dev", "failover", "net_failover", *_USEFUL})


class Kernel(NamedTuple):
    """An unpacked kernel: its image and the module files to load, in order."""

    image: Path
    modules: tuple[Path, ...]


def kernel_packages(apt: Apt) -> dict[str, Package]:
    """The versioned packages behind the first meta package that apt knows; raises OperatorFault(package_missing)."""
    known = apt.show(_META_PACKAGES)
    for meta in _META_PACKAGES:
        layer = {name for name in known[meta].depends if _VERSIONED.match(name)} if meta in known else set()
        images = apt.show(layer)
        if images:
            modules = {name for package in images.values() for name in package.depends if _VERSIONED.match(name)}
            return {**images, **apt.show(modules)}
    raise OperatorFault("package_missing", f"apt knows none of {', '.join(_META_PACKAGES)}: run apt-get update")


def find_kernel(tree: Path, wanted: tuple[str, ...] = ()) -> Kernel:
    """The kernel in an unpacked tree, with modules `wanted` besides; raises OperatorFault(kernel_unsuitable)."""
    images = sorted(tree.glob("boot/vmlinuz-*"))
    folders = sorted([*tree.glob("lib/modules/*/kernel"), *tree.glob("usr/lib/modules/*/kernel")])
    if not images or not folders:
        raise OperatorFault("kernel_unsuitable", "the kernel packages hold no kernel or no modules")
    found = {path.name.split(".")[0]: path for path in folders[0].rglob("*.ko*")}
    built_in = (folders[0].parent / "modules.builtin").read_text().split()
    present = {Path(line).name.split(".")[0] for line in built_in}
    missing = {*_NEEDED, *wanted} - found.keys() - present - _OPTIONAL
    if missing:
        raise OperatorFault("kernel_unsuitable", f"the kernel has no {', '.join(sorted(missing))}")
    return Kernel(images[0], tuple(found[name] for name in (*_NEEDED, *_USEFUL, *wanted) if name in found))


def module_entries(kernel: Kernel, folder: str) -> list[Entry]:
    """The modules, unpacked, named so that their alphabetical order is the loading order."""
    return [
        cpio.regular(f"{folder}/{number:02d}-{path.name.split('.')[0]}.ko", _read_module(path))
        for number, path in enumerate(kernel.modules)
    ]


def _read_module(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    return _unpack_zstd(path) if path.suffix == ".zst" else data


def _unpack_zstd(path: Path) -> bytes:
    if shutil.which("zstd") is None:
        raise OperatorFault("zstd_missing", "the kernel's modules are packed with zstd: install the package zstd")
    return subprocess.run(["zstd", "-dcq", str(path)], capture_output=True, check=True).stdout
