"""Putting a built image into the store: named for what went into it, whole or not there, built once."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from xnode.vm import cpio, image_store, images
from xnode.vm.guest.packages import Package
from xnode.vm.images import Least

_HERE: Final = Path(__file__).parent
_DIGEST_CHARACTERS: Final = 12


class Build(NamedTuple):
    """What an image is made of: `packages` by name, exact versions."""

    kind: str
    least: Least
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
        image_store.point(store / build.kind, final.name)
        return final
    with image_store.unfinished(store) as work:
        image = work / "image"
        image.mkdir()
        make(work, image)
        versions = {name: package.version for name, package in build.packages.items()}
        manifest = images.render_manifest(build.kind, build.least, {"versions": versions}, image)
        (image / images.MANIFEST).write_bytes(manifest)
        return image_store.install(store, image, build.name, build.kind).directory
