"""Sets up the Lima driver's tests: the double of limactl with its guest, or whatever program LIMACTL names.

Where the tests run as root, limactl runs as the user `nobody`, who may not read the checkout: the program and its guest
are copied to where that user can.
"""

import os
import pwd
import shutil
import sys
from pathlib import Path
from typing import Final

from xnode.vm import cpio
from xnode.vm.guest import libraries, packages
from xnode.vm.guest.packages import Apt
from xnode.vm.guest.store import Build, build_once
from xnode.vm.images import Least

CHECKOUT: Final = Path(__file__).parents[2]
KIND: Final = "openssh"
UNPRIVILEGED: Final = "nobody"
# OpenSSH's own packages want more of Debian than its programs do.
PACKAGES: Final = ("openssh-server", "openssh-client")
PROGRAMS: Final = ("sshd", "ssh-keygen")
LEAST: Final = Least(memory_mb=256, disk_gb=1)
STORE: Final = CHECKOUT / ".cache" / "lima-guest"  # apart from the images that providers offer
PARTS: Final = ("tests/support/limactl", "xnode/__init__.py", "xnode/vm/__init__.py", "xnode/vm/cpio.py")
FILES: Final = {
    "etc/passwd": (b"root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\n", 0o644),
    "etc/group": (b"root:x:0:\nnogroup:x:65534:\n", 0o644),
    "etc/shells": (b"/bin/sh\n/bin/bash\n", 0o644),
    "bin/bash": (b'#!/bin/sh\nexec /bin/ash "$@"\n', 0o755),
    "usr/bin/sudo": (b'#!/bin/sh\n[ "$1" = -n ] && shift\nexec "$@"\n', 0o755),
}


def build_guest(tiny: Path) -> Path:
    """The double's guest: the tiny one with Debian's OpenSSH on top, built once; its init comes with the double."""
    closure = Apt(STORE / ".apt").closure(PACKAGES)
    debs = {name: package for name, package in closure.items() if name in PACKAGES or _is_library(name)}

    def make(work: Path, image: Path) -> None:
        tree = packages.unpack(Apt(STORE / ".apt").download(debs.values(), work / "debs"), work / "tree")
        shutil.copyfile(tiny / "vmlinuz", image / "vmlinuz")
        (image / "initrd").write_bytes((tiny / "initrd").read_bytes() + cpio.write_archive(_entries(tree)))

    return build_once(STORE, Build(f"{KIND}-{tiny.name.rpartition('-')[2]}", LEAST, debs), make, _say)


def _say(step: str) -> None:
    sys.stderr.write(step + "\n")


def _is_library(name: str) -> bool:
    return name.startswith(("lib", "zlib")) and "perl" not in name


def _entries(tree: Path) -> list[cpio.Entry]:
    programs = [libraries.find_program(tree, name) for name in PROGRAMS]
    return [
        cpio.directory("home"),
        *(cpio.regular(f"usr/sbin/{path.name}", path.read_bytes(), 0o755) for path in programs),
        *libraries.library_entries(tree, programs),
        *(cpio.regular(name, data, permissions) for name, (data, permissions) in FILES.items()),
    ]


def install(folder: Path, guest: Path) -> Path:
    """Puts the double and its guest into a folder that everybody can read; the program's path."""
    for part in PARTS:
        source, target = CHECKOUT / part, folder / "double" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    (folder / "guest").mkdir()
    for name in ("vmlinuz", "initrd"):
        shutil.copyfile(guest / name, folder / "guest" / name)
    program = folder / "limactl"
    load = f"import sys; sys.path.insert(0, {str(folder / 'double')!r}); sys.argv[0] = 'limactl'"
    run = "from tests.support.limactl.main import main; sys.exit(main(sys.argv[1:]))"
    program.write_text(
        f'#!/bin/sh\nexport LIMACTL_DOUBLE_GUEST="{folder}/guest"\nexec {_python()} -I -B -c "{load}; {run}" "$@"\n'
    )
    open_to_all(folder)
    return program


def open_to_all(folder: Path) -> None:
    """Everything below can be read, and the programs run, by everybody."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.name == "limactl" else 0o644)


def unprivileged() -> pwd.struct_passwd | None:
    """Whom limactl runs as where the tests run as root; None where they don't."""
    return pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None


def _python() -> str:
    """A Python that any user can start: ours may lie in a home directory that others can't enter."""
    candidates = (os.path.realpath(sys.executable), "/usr/local/bin/python3", "/usr/bin/python3")
    for name in candidates:
        path = Path(name)
        if path.exists() and (os.geteuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in path.parents)):
            return name
    raise FileNotFoundError(f"none of {candidates} can be started by the user {UNPRIVILEGED}")
