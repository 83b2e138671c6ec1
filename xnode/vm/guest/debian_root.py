"""A root file system installed by mmdebstrap from the machine's own apt sources, and disks made of it.

As root, or in one user namespace where we are not root. No mounts, no loop devices.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from xnode.core.faults import OperatorFault

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # mkfs.ext4 is in /sbin
_LEFT_OUT: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_TOOLS: Final = {"mmdebstrap": "mmdebstrap", "mkfs.ext4": "e2fsprogs", "qemu-img": "qemu-utils"}
_TOOLS_OF_OTHERS: Final = {"newuidmap": "uidmap"}  # for whoever is not root


def check_tools() -> None:
    """Raises OperatorFault(tool_missing) that names the package."""
    for tool, package in (_TOOLS if os.geteuid() == 0 else {**_TOOLS, **_TOOLS_OF_OTHERS}).items():
        if shutil.which(tool, path=_PATH) is None:
            raise OperatorFault("tool_missing", f"{tool} is needed to build this guest: install the package {package}")


def bootstrap(work: Path, included: Iterable[str], hooks: Iterable[str]) -> None:
    """Installs the packages into `work`/root.tar; each hook is a shell command or mmdebstrap's copy-in, copy-out."""
    suite, sources = apt_sources()
    command = [
        "mmdebstrap", "--mode=root" if os.geteuid() == 0 else "--mode=unshare", "--variant=minbase",
        "--skip=check/empty", f"--include={','.join(included)}", "--aptopt=Apt::Install-Recommends \"false\"",
        *(f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT), "--dpkgopt=force-unsafe-io",
        *(f"--customize-hook={hook}" for hook in hooks),
        suite, str(work / "root.tar"), "-",
    ]  # fmt: skip
    run(command, sources)


def apt_sources() -> tuple[str, str]:
    """The suite of the running system and its distribution's sources, as one-line entries."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
    suite, origin = release.get("VERSION_CODENAME", ""), release.get("ID", "").capitalize()
    form = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    listing = run(["apt-get", "indextargets", "--format", form, "Created-By: Packages", f"Origin: {origin}"])
    lines = sorted(set(listing.splitlines()))
    if not suite or not lines:
        raise OperatorFault("sources_missing", "apt has no sources of this distribution: run apt-get update")
    return suite, "\n".join(lines) + "\n"


def write_file_system(work: Path, total_bytes: int, offset_bytes: int = 0) -> Path:
    """The installed files as ext4 in a raw disk of this size, from this offset to its end."""
    raw, tree = work / "root.raw", work / "root"
    tree.mkdir()
    inside = [] if os.geteuid() == 0 else ["mmdebstrap", "--unshare-helper"]  # where the files have their owners
    run([*inside, "tar", "-xf", str(work / "root.tar"), "-C", str(tree), "--numeric-owner"])
    with raw.open("wb") as file:
        file.truncate(total_bytes)
    options = f"offset={offset_bytes},lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    size = f"{(total_bytes - offset_bytes) >> 10}k"
    label = ("-L", "guestroot", "-m", "0")
    run([*inside, "mkfs.ext4", "-q", "-F", *label, "-E", options, "-d", str(tree), str(raw), size])
    run([*inside, "rm", "-rf", str(tree)])
    return raw


def compress(raw: Path, disk: Path) -> None:
    """The same as a compressed qcow2."""
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd", str(raw), str(disk)])


def run(command: list[str], standard_input: str = "") -> str:
    """What a program wrote; raises OperatorFault(build_failed) with its complaint."""
    result = subprocess.run(
        command, input=standard_input, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": _PATH, "LANG": "C"},
    )  # fmt: skip
    if result.returncode:
        complaint = result.stderr.strip()[-800:]
        raise OperatorFault("build_failed", f"{command[0]} failed: {complaint}")
    return result.stdout
