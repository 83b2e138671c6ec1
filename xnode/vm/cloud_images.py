"""Ready entries for the cloud images that the distributions publish, and the checksum files that they publish beside.

The checksum is taken from there over TLS when an image is added, since the files are replaced every few weeks.
"""

import re
from typing import Final, NamedTuple

from xnode.core.faults import CallerFault, OperatorFault
from xnode.vm.images import AMD64

ARCHITECTURES: Final = (AMD64, "arm64")
_LINE: Final = re.compile(r"([0-9a-f]{64}|[0-9a-f]{128}) [ *](\S+)")
_ALGORITHMS: Final = {64: "sha256", 128: "sha512"}


class Checksum(NamedTuple):
    """What a file must have; `digest` in hex."""

    algorithm: str
    digest: str

    def __str__(self) -> str:
        """`sha256:0123...`."""
        return f"{self.algorithm}:{self.digest}"


class CloudImage(NamedTuple):
    """One distribution's image: where it is, and where its checksum; `file` names it for an architecture."""

    title: str
    folder: str
    file: str
    sums: str
    least_memory_mb: int = 512

    def url(self, architecture: str) -> str:
        """Of the disk; raises CallerFault(bad_architecture)."""
        if architecture not in ARCHITECTURES:
            raise CallerFault("bad_architecture", f"this image is published for {' and '.join(ARCHITECTURES)} only")
        return self.folder + self.file_name(architecture)

    def file_name(self, architecture: str) -> str:
        """As it stands in the checksum file."""
        return self.file.format(architecture)

    @property
    def sums_url(self) -> str:
        """Of the checksum file."""
        return self.folder + self.sums


def _debian(number: int, name: str) -> CloudImage:
    folder = f"https://cloud.debian.org/images/cloud/{name}/latest/"
    file = f"debian-{number}-genericcloud-{{}}.qcow2"
    return CloudImage(f"Debian {number} ({name})", folder, file, "SHA512SUMS")


def _ubuntu(number: str, name: str) -> CloudImage:
    folder = f"https://cloud-images.ubuntu.com/releases/{name}/release/"
    return CloudImage(f"Ubuntu {number} ({name})", folder, f"ubuntu-{number}-server-cloudimg-{{}}.img", "SHA256SUMS")


CLOUD_IMAGES: Final = {
    "debian-12": _debian(12, "bookworm"),
    "debian-13": _debian(13, "trixie"),
    "ubuntu-22.04": _ubuntu("22.04", "jammy"),
    "ubuntu-24.04": _ubuntu("24.04", "noble"),
}


def make_checksum(algorithm: str, digest: str) -> Checksum:
    """A checksum from text; raises CallerFault(bad_checksum)."""
    digest = digest.strip().lower()
    if not re.fullmatch("[0-9a-f]+", digest, re.ASCII) or _ALGORITHMS.get(len(digest)) != algorithm:
        raise CallerFault("bad_checksum", f"a {algorithm} checksum has {int(algorithm[3:]) // 4} hexadecimal digits")
    return Checksum(algorithm, digest)


def find_checksum(sums: str, file_name: str, url: str) -> Checksum:
    """The checksum of a file in the text of SHA256SUMS or SHA512SUMS; raises OperatorFault(checksum_missing)."""
    for line in sums.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match and match[2] == file_name:
            return Checksum(_ALGORITHMS[len(match[1])], match[1])
    raise OperatorFault("checksum_missing", f"{url} names no checksum of {file_name}: add it by its URL and --sha512")
