"""Programs with the shared libraries that they need, taken from an unpacked tree, never from the host."""

import re
import subprocess
from pathlib import Path
from typing import Final

from xnode.core.faults import OperatorFault
from xnode.vm import cpio
from xnode.vm.cpio import Entry

LOADER: Final = "lib64/ld-linux-x86-64.so.2"
LIBRARY_FOLDER: Final = "lib/x86_64-linux-gnu"
_LINE: Final = re.compile(r"^\s*\S+ => (\S+) \(", re.MULTILINE)


def find_program(tree: Path, name: str) -> Path:
    """A program of the tree, wherever its distribution puts it; raises OperatorFault(program_missing)."""
    for folder in ("bin", "sbin", "usr/bin", "usr/sbin"):
        path = tree / folder / name
        if path.is_file():
            return path
    raise OperatorFault("program_missing", f"the packages hold no {name}")


def library_entries(tree: Path, programs: list[Path]) -> list[Entry]:
    """The loader and every library that the programs need, by the tree's own loader."""
    loaders = sorted(path for path in tree.rglob("ld-linux-x86-64.so.2") if not path.is_symlink())
    if not loaders:
        raise OperatorFault("program_missing", "the packages hold no loader for x86-64")
    libraries = {path.name: path for program in programs for path in _needed(tree, loaders[0], program)}
    libraries.pop(loaders[0].name, None)
    entries = [cpio.regular(LOADER, loaders[0].read_bytes(), 0o755)]
    return entries + [
        cpio.regular(f"{LIBRARY_FOLDER}/{name}", path.resolve().read_bytes())
        for name, path in sorted(libraries.items())
    ]


def _needed(tree: Path, loader: Path, program: Path) -> list[Path]:
    folders = [str(tree / folder) for folder in (LIBRARY_FOLDER, f"usr/{LIBRARY_FOLDER}")]
    command = [str(loader), "--inhibit-cache", "--library-path", ":".join(folders), "--list", str(program)]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    paths = [Path(name) for name in _LINE.findall(listing.stdout)]
    outside = [path for path in paths if not path.is_relative_to(tree)]
    if listing.returncode or outside:
        message = f"{program.name} needs libraries that its packages do not name: {outside}"
        raise OperatorFault("library_missing", message)
    return paths
