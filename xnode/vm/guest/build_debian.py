"""Builds the Debian guest: a slim Debian (or Ubuntu, where the host is one) with apt, SSH, SFTP; about 40 seconds.

Needs mmdebstrap, e2fsprogs and qemu-img, and root or user namespaces. The archive is the machine's own apt sources. The
root disk is an ext4 file system without a partition table, compressed; machines get an overlay of their own size.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from xnode.core.faults import OperatorFault
from xnode.vm import cpio
from xnode.vm.cpio import Entry
from xnode.vm.guest import kernel, packages
from xnode.vm.guest.build_tiny import busybox_entries
from xnode.vm.guest.packages import Apt
from xnode.vm.guest.store import Build, build_once

KIND: Final = "debian"
_INCLUDED: Final = ("dropbear-bin", "openssh-sftp-server", "iproute2", "procps", "ca-certificates", "e2fsprogs")
_LEAST_MEMORY_MB: Final = 256
_ROOT_BYTES: Final = 960 << 20  # below the smallest disk a lease can ask for; the guest grows it to its own disk
_HERE: Final = Path(__file__).parent
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # mkfs.ext4 is in /sbin
_LEFT_OUT: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_INITRD_FOLDERS: Final = ("bin", "lib", "lib/guest-modules", "proc", "sys", "dev", "root")
_POWER_COMMANDS: Final = {"poweroff": "USR2", "halt": "USR2", "reboot": "TERM"}
_TOOLS: Final = {"mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs", "qemu-img": "qemu-utils"}
_TOOLS_OF_OTHERS: Final = {"newuidmap": "uidmap"}  # for whoever is not root


def build_debian(store: Path, report: Callable[[str], None]) -> Path:
    """Builds it into the store, or finds it there; returns the image's directory. Raises OperatorFault."""
    for tool, package in (_TOOLS if os.geteuid() == 0 else {**_TOOLS, **_TOOLS_OF_OTHERS}).items():
        if shutil.which(tool, path=_PATH) is None:
            raise OperatorFault("tool_missing", f"{tool} is needed to build this guest: install the package {package}")
    apt = Apt(store / ".apt")
    boot_debs = {**kernel.kernel_packages(apt), **apt.closure(("busybox-static",))}

    def make(work: Path, image: Path) -> None:
        report("downloading the kernel")
        _build(apt.download(boot_debs.values(), work / "debs"), work, image, report)

    build = Build(KIND, _LEAST_MEMORY_MB, {**boot_debs, **apt.closure(_INCLUDED)})
    return build_once(store, build, make, report)


def _build(files: list[Path], work: Path, image: Path, report: Callable[[str], None]) -> None:
    tree = packages.unpack(files, work / "tree")
    found = kernel.find_kernel(tree)
    (image / "vmlinuz").write_bytes(found.image.read_bytes())
    (image / "initrd").write_bytes(cpio.write_archive(initrd_entries(tree, found)))
    report("installing the root file system")
    _bootstrap(work)
    report("writing the disk")
    _write_disk(work, image / "root.qcow2")


def initrd_entries(tree: Path, found: kernel.Kernel) -> list[Entry]:
    """Busybox, the modules and the script that goes on to the root disk."""
    busybox = busybox_entries(tree)[0]  # the links are made at boot
    return [
        *(cpio.directory(name) for name in _INITRD_FOLDERS),
        cpio.character_device("dev/console", 5, 1),
        busybox,
        *kernel.module_entries(found, "lib/guest-modules"),
        cpio.regular("init", (_HERE / "debian-initrd.sh").read_bytes(), 0o755),
    ]


def _bootstrap(work: Path) -> None:
    """Installs the root file system and packs it into an ext4 image, in one user namespace where we are not root."""
    suite, sources = apt_sources()
    additions = shlex.join(map(str, _write_additions(work / "additions")))
    command = [
        "mmdebstrap", "--mode=root" if os.geteuid() == 0 else "--mode=unshare", "--variant=minbase",
        "--skip=check/empty", f"--include={','.join(_INCLUDED)}", "--aptopt=Apt::Install-Recommends \"false\"",
        *(f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT), "--dpkgopt=force-unsafe-io",
        f"--customize-hook=copy-in {additions} /usr/local/sbin",
        "--customize-hook=rm -f \"$1\"/etc/hostname \"$1\"/etc/resolv.conf",
        suite, str(work / "root.tar"), "-",
    ]  # fmt: skip
    _run(command, sources)


def apt_sources() -> tuple[str, str]:
    """The suite of the running system and its distribution's sources, as one-line entries."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
    suite, origin = release.get("VERSION_CODENAME", ""), release.get("ID", "").capitalize()
    form = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    listing = _run(["apt-get", "indextargets", "--format", form, "Created-By: Packages", f"Origin: {origin}"])
    lines = sorted(set(listing.splitlines()))
    if not suite or not lines:
        raise OperatorFault("sources_missing", "apt has no sources of this distribution: run apt-get update")
    return suite, "\n".join(lines) + "\n"


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


def _write_disk(work: Path, disk: Path) -> None:
    raw = work / "root.raw"
    tree = work / "root"
    tree.mkdir()
    inside = [] if os.geteuid() == 0 else ["mmdebstrap", "--unshare-helper"]  # where the files have their owners
    _run([*inside, "tar", "-xf", str(work / "root.tar"), "-C", str(tree), "--numeric-owner"])
    with raw.open("wb") as file:
        file.truncate(_ROOT_BYTES)
    options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    label = ("-L", "guestroot", "-m", "0")
    _run([*inside, "mkfs.ext4", "-q", "-F", *label, "-E", options, "-d", str(tree), str(raw)])
    _run([*inside, "rm", "-rf", str(tree)])
    _run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd", str(raw), str(disk)])


def _run(command: list[str], standard_input: str = "") -> str:
    result = subprocess.run(
        command, input=standard_input, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": _PATH, "LANG": "C"},
    )  # fmt: skip
    if result.returncode:
        complaint = result.stderr.strip()[-800:]
        raise OperatorFault("build_failed", f"{command[0]} failed: {complaint}")
    return result.stdout
