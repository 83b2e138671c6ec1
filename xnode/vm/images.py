"""An image: one directory of the image store, named for its content, found by its kind through a link.

    <store>/tiny      -> tiny-4f0c2a9d11e3/         vmlinuz  initrd  manifest.json      all of it in memory
    <store>/debian    -> debian-08c3e5d1f7a2/       the same and root.qcow2             its own kernel, a root disk
    <store>/debian-12 -> debian-12-77ab0e4c9d15/    base.qcow2  manifest.json           boots itself, with cloud-init

The manifest names the kind, where the image is from and the SHA-256 of each file; `verify` holds the files against it.
Images come from the builders in `xnode/vm/guest/` (`scripts/build-guest`) and from `image_adding`.
"""

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from xnode.core.faults import CallerFault, MachineFault, OperatorFault

KERNEL: Final = "vmlinuz"
INITRD: Final = "initrd"
ROOT_DISK: Final = "root.qcow2"
BASE_DISK: Final = "base.qcow2"  # a whole disk with its own boot loader and cloud-init
FILES: Final = (KERNEL, INITRD, ROOT_DISK, BASE_DISK)
MANIFEST: Final = "manifest.json"
MARKER: Final = b"XNODE-GUEST-READY"  # what every guest writes to its console about when it starts its SSH server
AMD64: Final = "amd64"
_FORMAT: Final = 1
_NAME: Final = re.compile(r"[a-z][a-z0-9]*([-.][a-z0-9]+)*", re.ASCII)
_NAME_CHARACTERS_MAX: Final = 64
_MANIFEST_BYTES_MAX: Final = 1 << 20
_GET_HINT: Final = "add it with `xnode image add` or build it with scripts/build-guest"
_SHAPES: Final = ({KERNEL, INITRD}, {KERNEL, INITRD, ROOT_DISK}, {BASE_DISK})


class Least(NamedTuple):
    """The smallest machine that an image fits, in MiB and GiB."""

    memory_mb: int
    disk_gb: int = 1


class Image(NamedTuple):
    """An image that was found; `checksums` maps file names to SHA-256 in hex, `source` says where it is from."""

    directory: Path
    name: str
    kind: str
    least: Least
    checksums: dict[str, str]
    architecture: str = AMD64  # as the distributions call it
    source: str = ""

    @property
    def base(self) -> str:
        """The file over which machines get an overlay; "" where they get an empty disk of their own."""
        return next((name for name in (ROOT_DISK, BASE_DISK) if name in self.checksums), "")

    @property
    def boots_itself(self) -> bool:
        """Whether it has its own boot loader and takes what is new from a seed disk, by cloud-init."""
        return BASE_DISK in self.checksums


def check_name(name: str) -> str:
    """Returns an image's kind or name; raises CallerFault(bad_image_name)."""
    if len(name) > _NAME_CHARACTERS_MAX or not _NAME.fullmatch(name):
        message = "an image name is lower-case words and digits joined by hyphens or dots"
        raise CallerFault("bad_image_name", message)
    return name


def open_image(store: Path, name: str) -> Image:
    """Finds an image by kind or full name; raises CallerFault(bad_image_name), OperatorFault(image_missing) or
    MachineFault(image_damaged). Reads the manifest only."""
    directory = (store / check_name(name)).resolve()
    path = directory / MANIFEST
    try:
        with path.open("rb") as file:
            data = file.read(_MANIFEST_BYTES_MAX)
    except OSError as error:
        raise OperatorFault("image_missing", f"there is no image {name!r} in {store}: {_GET_HINT}") from error
    return _parse(directory, data)


def _parse(directory: Path, data: bytes) -> Image:
    try:
        plain = json.loads(data)
        if plain["format"] != _FORMAT:
            raise ValueError("another manifest format")
        sums = {str(name): str(file["sha256"]) for name, file in plain["files"].items()}
        if set(sums) not in _SHAPES:
            raise ValueError("its files must be a kernel, an initrd and at most a root disk, or one disk that boots")
        least = Least(int(plain["least_memory_mb"]), int(plain.get("least_disk_gb", 1)))
        architecture, source = str(plain.get("architecture", AMD64)), str(plain.get("source", ""))
        return Image(directory, directory.name, str(plain["kind"]), least, sums, architecture, source)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"the manifest of image {directory} is damaged ({error}): remove it and {_GET_HINT}"
        raise MachineFault("image_damaged", message) from error


def host_architecture() -> str:
    """What guests of this host must be made for, as the distributions call it."""
    machine = platform.machine()
    return {"x86_64": AMD64, "aarch64": "arm64"}.get(machine, machine)


def verify(image: Image) -> None:
    """Holds every file against the manifest; raises MachineFault(image_damaged). Reads all of it: use a thread."""
    for name, expected in image.checksums.items():
        try:
            found = sha256_of(image.directory / name)
        except OSError as error:
            found = str(error)
        if found != expected:
            path = image.directory / name
            message = f"{path} is not the file of its manifest: remove {image.directory} and {_GET_HINT}"
            raise MachineFault("image_damaged", message)


def fingerprint(image: Image) -> tuple[tuple[str, int, int, int], ...]:
    """What changes when a file is replaced or written to (name, inode, size, mtime): spares a second `verify`."""
    stats = [(name, (image.directory / name).stat()) for name in image.checksums]
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def render_manifest(kind: str, least: Least, about: Mapping[str, object], directory: Path) -> bytes:
    """The manifest of the files in `directory`; `about` may name versions, architecture and source."""
    files = {
        name: {"sha256": sha256_of(directory / name), "bytes": (directory / name).stat().st_size}
        for name in FILES
        if (directory / name).exists()
    }
    manifest = {
        **about, "format": _FORMAT, "kind": kind, "least_memory_mb": least.memory_mb, "least_disk_gb": least.disk_gb,
        "files": files,
    }  # fmt: skip
    return json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n"


def sha256_of(path: Path) -> str:
    """A file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
