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


class Apt:
    """Apt's read-only side, with a package cache of its own in `folder`: a fresh one costs a second for each call."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._options = ("-o", f"Dir::Cache::pkgcache={folder}/packages.bin", "-o", "Dir::Cache::srcpkgcache=")

    def show(self, names: Iterable[str]) -> dict[str, Package]:
        """What apt knows of these names; unknown and virtual ones are left out."""
        if not (wanted := sorted(names)):
            return {}
        text = _run(["apt-cache", *self._options, "show", "--no-all-versions", *wanted], may_fail=True)
        packages = (_parse(paragraph) for paragraph in text.split("\n\n") if paragraph.strip())
        return {package.name: package for package in packages}

    def closure(self, names: Iterable[str]) -> dict[str, Package]:
        """The packages and all that they need; raises OperatorFault(package_missing)."""
        found: dict[str, Package] = {}
        wanted = set(names)
        layer = self.show(wanted)
        if missing := wanted - layer.keys():
            raise OperatorFault("package_missing", f"apt knows no package {', '.join(sorted(missing))}: {_HINT}")
        while layer:
            found.update(layer)
            needed = {name for package in layer.values() for name in package.depends}
            layer = {name: package for name, package in self.show(needed - found.keys()).items() if name not in found}
        return found

    def download(self, packages: Iterable[Package], into: Path) -> list[Path]:
        """Fetches the .deb files of exactly these versions; raises OperatorFault(apt_failed)."""
        into.mkdir(parents=True, exist_ok=True)
        versions = (f"{package.name}={package.version}" for package in packages)
        _run(["apt-get", *self._options, "download", "-qq", *versions], cwd=into)
        return sorted(into.glob("*.deb"))


def _parse(paragraph: str) -> Package:
    fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", paragraph, re.MULTILINE))
    needs = ", ".join(fields.get(name, "") for name in ("Pre-Depends", "Depends"))
    names = (word.split("|")[0].split("(")[0].split(":")[0].strip() for word in needs.split(","))
    depends = tuple(name for name in names if _NAME.match(name))
    return Package(fields["Package"], fields["Version"], fields["SHA256"], depends)


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
        raise OperatorFault("apt_failed", f"{command[0]} failed ({complaint}): {_HINT}")
    return result.stdout
