"""Debian packages by apt, unprivileged: what the archive offers, what a package needs, its files in a directory.

Uses the machine's own apt sources and its package lists; `apt-get download` checks every file against them.
"""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from xnode.core.faults import OperatorFault

_HINT: Final = "run apt-get update, on Debian 12 or newer or Ubuntu 22.04 or newer"
_NAME: Final = re.compile(r"^[a-z0-9][a-z0-9+.-]+$")


class Package(NamedTuple):
    """A package that apt would install; `depends` are the names it needs, first alternatives only."""

    name: str
    version: str
    sha256: str
    depends: tuple[str, ...]


def show(names: Iterable[str]) -> dict[str, Package]:
    """What apt knows of these names; unknown and virtual ones are left out."""
    command = ["apt-cache", "show", "--no-all-versions", *sorted(names)]
    text = _run(command, may_fail=True)
    packages = (_parse(paragraph) for paragraph in text.split("\n\n") if paragraph.strip())
    return {package.name: package for package in packages}


def _parse(paragraph: str) -> Package:
    fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", paragraph, re.MULTILINE))
    needs = ", ".join(fields.get(name, "") for name in ("Pre-Depends", "Depends"))
    names = (word.split("|")[0].split("(")[0].split(":")[0].strip() for word in needs.split(","))
    depends = tuple(name for name in names if _NAME.match(name))
    return Package(fields["Package"], fields["Version"], fields["SHA256"], depends)


def closure(names: Iterable[str]) -> dict[str, Package]:
    """The packages and all that they need; raises OperatorFault(package_missing)."""
    found: dict[str, Package] = {}
    wanted = set(names)
    first = show(wanted)
    for name in wanted - first.keys():
        raise OperatorFault("package_missing", f"apt knows no package {name}: {_HINT}")
    layer = first
    while layer:
        found.update(layer)
        layer = show({name for package in layer.values() for name in package.depends} - found.keys())
        layer = {name: package for name, package in layer.items() if name not in found}
    return found


def download(packages: Iterable[Package], into: Path) -> list[Path]:
    """Fetches the .deb files of exactly these versions; raises OperatorFault(apt_failed)."""
    into.mkdir(parents=True, exist_ok=True)
    _run(["apt-get", "download", "-qq", *(f"{package.name}={package.version}" for package in packages)], cwd=into)
    return sorted(into.glob("*.deb"))


def unpack(files: Iterable[Path], into: Path) -> Path:
    """Unpacks .deb files over one another, without installing anything."""
    into.mkdir(parents=True, exist_ok=True)
    for file in files:
        _run(["dpkg-deb", "-x", str(file), str(into)])
    return into


def _run(command: list[str], cwd: Path | None = None, may_fail: bool = False) -> str:
    try:
        result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise OperatorFault("apt_missing", f"{command[0]} is needed to build a guest: {_HINT}") from error
    if result.returncode and not may_fail:
        complaint = result.stderr.strip()[-500:]
        raise OperatorFault("apt_failed", f"{command[0]} {command[1]} failed ({complaint}): {_HINT}")
    return result.stdout
