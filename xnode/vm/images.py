"""The image store: one directory an image, named for its content, found by its kind through a link.

    <store>/tiny -> tiny-4f0c2a9d11e3/      vmlinuz  initrd  [root.qcow2]  manifest.json

The manifest names the kind, the package versions it was built from and the SHA-256 of each file; `verify` holds the
files against it. The builders are in `xnode/vm/guest/`, run by `scripts/build-guest`.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Final, NamedTuple

from xnode.core.faults import CallerFault, MachineFault, OperatorFault

KERNEL: Final = "vmlinuz"
INITRD: Final = "initrd"
ROOT_DISK: Final = "root.qcow2"
MANIFEST: Final = "manifest.json"
MARKER: Final = b"XNODE-GUEST-READY"  # what every image's init writes to the console once it starts its SSH server
_FORMAT: Final = 1
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)
_NAME_CHARACTERS_MAX: Final = 64
_MANIFEST_BYTES_MAX: Final = 1 << 20
_BUILD_HINT: Final = "build it with scripts/build-guest"


class Image(NamedTuple):
    """An image that was found; `checksums` maps file names to SHA-256 in hex."""

    directory: Path
    name: str
    kind: str
    least_memory_mb: int
    checksums: dict[str, str]

    @property
    def has_root_disk(self) -> bool:
        """Whether machines get an overlay over a root disk, or else an empty disk of their own."""
        return ROOT_DISK in self.checksums


def open_image(store: Path, name: str) -> Image:
    """Finds an image by kind or full name; raises CallerFault(bad_image_name), OperatorFault(image_missing) or
    MachineFault(image_damaged). Reads the manifest only."""
    if len(name) > _NAME_CHARACTERS_MAX or not _NAME.fullmatch(name):
        raise CallerFault("bad_image_name", "an image name is lower-case words and digits joined by hyphens")
    directory = (store / name).resolve()
    path = directory / MANIFEST
    try:
        with path.open("rb") as file:
            data = file.read(_MANIFEST_BYTES_MAX)
    except OSError as error:
        raise OperatorFault("image_missing", f"there is no image {name!r} in {store}: {_BUILD_HINT}") from error
    return _parse(directory, data)


def _parse(directory: Path, data: bytes) -> Image:
    try:
        plain = json.loads(data)
        if plain["format"] != _FORMAT:
            raise ValueError("another manifest format")
        sums = {str(name): str(file["sha256"]) for name, file in plain["files"].items()}
        if not {KERNEL, INITRD} <= sums.keys() <= {KERNEL, INITRD, ROOT_DISK}:
            raise ValueError("its files must be a kernel, an initrd and at most a root disk")
        return Image(directory, directory.name, str(plain["kind"]), int(plain["least_memory_mb"]), sums)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"the manifest of image {directory} is damaged ({error}): remove it and {_BUILD_HINT}"
        raise MachineFault("image_damaged", message) from error


def verify(image: Image) -> None:
    """Holds every file against the manifest; raises MachineFault(image_damaged). Reads all of it: use a thread."""
    for name, expected in image.checksums.items():
        try:
            found = sha256_of(image.directory / name)
        except OSError as error:
            found = str(error)
        if found != expected:
            path = image.directory / name
            message = f"{path} is not the file of its manifest: remove {image.directory} and {_BUILD_HINT}"
            raise MachineFault("image_damaged", message)


def fingerprint(image: Image) -> tuple[tuple[str, int, int, int], ...]:
    """What changes when a file is replaced or written to (name, inode, size, mtime): spares a second `verify`."""
    stats = [(name, (image.directory / name).stat()) for name in image.checksums]
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def render_manifest(kind: str, least_memory_mb: int, versions: dict[str, str], directory: Path) -> bytes:
    """The manifest of the files in `directory`; the same input gives the same bytes."""
    present = [name for name in (KERNEL, INITRD, ROOT_DISK) if (directory / name).exists()]
    files = {
        name: {"sha256": sha256_of(directory / name), "bytes": (directory / name).stat().st_size} for name in present
    }
    manifest = {
        "format": _FORMAT, "kind": kind, "least_memory_mb": least_memory_mb, "versions": versions, "files": files,
    }  # fmt: skip
    return json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n"


def sha256_of(path: Path) -> str:
    """A file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
