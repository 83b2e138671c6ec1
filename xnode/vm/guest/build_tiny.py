"""Builds the tiny guest: busybox and dropbear in an initrd of 9 MB, unprivileged, in about 5 seconds.

It is for tests and the demo: no package manager, and only /data, the machine's disk, outlives a restart.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from xnode.vm import cpio
from xnode.vm.cpio import Entry
from xnode.vm.guest import kernel, libraries, packages
from xnode.vm.guest.packages import Apt
from xnode.vm.guest.store import Build, build_once
from xnode.vm.images import Least

KIND: Final = "tiny"
_PROGRAM_PACKAGES: Final = ("busybox-static", "dropbear-bin", "e2fsprogs")
_LEAST_MEMORY_MB: Final = 128
_HERE: Final = Path(__file__).parent
_FOLDERS: Final = (
    "bin", "sbin", "usr", "usr/bin", "usr/sbin", "lib", "lib64", libraries.LIBRARY_FOLDER, "lib/guest-modules",
    "etc", "proc", "sys", "dev", "run", "tmp", "var",
)  # fmt: skip
_ACCOUNTS: Final = {
    "etc/passwd": (b"root:x:0:0:root:/root:/bin/sh\n", 0o644),
    "etc/shadow": (b"root:*:1::::::\n", 0o600),
    "etc/group": (b"root:x:0:\n", 0o644),
    "etc/shells": (b"/bin/sh\n", 0o644),
    "etc/hosts": (b"127.0.0.1 localhost\n", 0o644),
}


def build_tiny(store: Path, report: Callable[[str], None]) -> Path:
    """Builds it into the store, or finds it there; returns the image's directory. Raises OperatorFault."""
    apt = Apt(store / ".apt")
    debs = {**kernel.kernel_packages(apt), **apt.closure(_PROGRAM_PACKAGES)}

    def make(work: Path, image: Path) -> None:
        report(f"downloading {len(debs)} packages")
        _build(apt.download(debs.values(), work / "debs"), work, image, report)

    return build_once(store, Build(KIND, Least(_LEAST_MEMORY_MB), debs), make, report)


def _build(files: list[Path], work: Path, image: Path, report: Callable[[str], None]) -> None:
    report("unpacking")
    tree = packages.unpack(files, work / "tree")
    found = kernel.find_kernel(tree)
    report("writing the initrd")
    (image / "vmlinuz").write_bytes(found.image.read_bytes())
    (image / "initrd").write_bytes(cpio.write_archive(tiny_entries(tree, found)))


def tiny_entries(tree: Path, found: kernel.Kernel) -> list[Entry]:
    """The whole file system."""
    programs = [libraries.find_program(tree, name) for name in ("dropbear", "mke2fs", "resize2fs")]
    return [
        *(cpio.directory(name) for name in _FOLDERS),
        cpio.directory("root", 0o700),
        cpio.character_device("dev/console", 5, 1),
        *busybox_entries(tree),
        *(cpio.regular(f"usr/sbin/{path.name}", path.read_bytes(), 0o755) for path in programs),
        *libraries.library_entries(tree, programs),
        *kernel.module_entries(found, "lib/guest-modules"),
        *(cpio.regular(name, data, permissions) for name, (data, permissions) in _ACCOUNTS.items()),
        cpio.regular("init", (_HERE / "tiny-init.sh").read_bytes(), 0o755),
    ]


def busybox_entries(tree: Path) -> list[Entry]:
    """Busybox and a link for each of its commands; it is static, so it runs here to name them."""
    busybox = libraries.find_program(tree, "busybox")
    listing = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, check=True).stdout
    links = [cpio.symlink(f"bin/{name}", "busybox") for name in listing.split() if name != "busybox"]
    return [cpio.regular("bin/busybox", busybox.read_bytes(), 0o755), *links]
