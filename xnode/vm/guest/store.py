"""Putting a built image into the store: named for what went into it, whole or not there, built once."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from xnode.vm import cpio, images
from xnode.vm.guest.packages import Package

_HERE: Final = Path(__file__).parent
_DIGEST_CHARACTERS: Final = 12


class Build(NamedTuple):
    """What an image is made of: `packages` by name, exact versions."""

    kind: str
    least_memory_mb: int
    packages: dict[str, Package]

    @property
    def name(self) -> str:
        """`kind-digest`: the digest covers the packages and all of this folder, so the same input has one name."""
        digest = hashlib.sha256(self.kind.encode())
        for source in (*sorted(_HERE.glob("*.py")), *sorted(_HERE.glob("*.sh")), Path(cpio.__file__)):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
        for _, package in sorted(self.packages.items()):
            digest.update(f"{package.name} {package.version} {package.sha256}\n".encode())
        return f"{self.kind}-{digest.hexdigest()[:_DIGEST_CHARACTERS]}"


def build_once(store: Path, build: Build, make: Callable[[Path, Path], None], report: Callable[[str], None]) -> Path:
    """The image's directory; `make(work, image)` fills it unless the store has it. Two at once do no harm."""
    final = store / build.name
    if (final / images.MANIFEST).exists():
        report(f"{build.name} is in the store")
    else:
        store.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{build.kind}-", dir=store))
        try:
            _make(work, final, build, make)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    _point(store / build.kind, final.name)
    return final


def _make(work: Path, final: Path, build: Build, make: Callable[[Path, Path], None]) -> None:
    image = work / "image"
    image.mkdir(mode=0o755)
    make(work, image)
    versions = {name: package.version for name, package in build.packages.items()}
    manifest = images.render_manifest(build.kind, build.least_memory_mb, versions, image)
    (image / images.MANIFEST).write_bytes(manifest)
    for path in image.iterdir():
        path.chmod(0o644)
    shutil.rmtree(final, ignore_errors=True)  # what is there has no manifest: an image that somebody took apart
    os.replace(image, final)


def _point(link: Path, name: str) -> None:
    """Makes the kind's name lead to this image."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.symlink_to(name)
    os.replace(temporary, link)
