"""Adding an image to the store from a file or a URL, against a checksum that the operator or its publisher gave.

What is added is a qcow2 disk that boots itself and takes its seed by cloud-init, or a tar archive of an image directory
as scripts/build-guest makes it. It is in the store whole and checked, or not at all.
"""

import fcntl
import hashlib
import os
import shutil
import tarfile
from pathlib import Path
from typing import Final, NamedTuple

import httpx

from xnode.core.faults import OperatorFault
from xnode.vm import image_store, images, qcow2
from xnode.vm.cloud_images import CLOUD_IMAGES, Checksum, find_checksum
from xnode.vm.download import FILE_BYTES_MAX, Report, fetch_file, fetch_text
from xnode.vm.images import BASE_DISK, FILES, MANIFEST, Image, Least

MEMORY_MB_DEFAULT: Final = 512  # what a cloud image needs at least, where nobody has said
_PARTIAL: Final = ".partial-"
_DIGEST_CHARACTERS: Final = 12
_GIB: Final = 1 << 30
_CHUNK_BYTES: Final = 1 << 20


class Order(NamedTuple):
    """What to add: `source` is a URL or a path, `kind` the name that leases will use."""

    source: str
    kind: str
    checksum: Checksum
    architecture: str
    least_memory_mb: int = MEMORY_MB_DEFAULT


def ready_order(client: httpx.Client, kind: str, architecture: str) -> Order:
    """The order for a ready entry, its checksum fetched from its publisher; raises OperatorFault, CallerFault."""
    entry = CLOUD_IMAGES[kind]
    url = entry.url(architecture)
    try:
        sums = fetch_text(client, entry.sums_url)
    except OperatorFault as fault:
        message = (
            f"{fault}. Without a way there, fetch {url} and its line of {entry.sums_url} elsewhere, then: "
            f"xnode image add FILE --name {kind} --{entry.sums[:6].lower()} CHECKSUM"
        )
        raise OperatorFault(fault.code, message) from fault
    checksum = find_checksum(sums, entry.file_name(architecture), entry.sums_url)
    return Order(url, kind, checksum, architecture, entry.least_memory_mb)


def add(client: httpx.Client, store: Path, order: Order, report: Report) -> Image:
    """Adds it and returns it; raises OperatorFault, CallerFault (see the parts)."""
    images.check_name(order.kind)
    with image_store.unfinished(store) as work:
        arrived = work / "arrived"
        if is_url(order.source):
            _download(client, store, order, arrived, report)
        else:
            _copy(Path(order.source), arrived, report)
            _check(arrived, order)
        made = work / "image"
        made.mkdir()
        try:
            _unpack(arrived, made, order)
            return image_store.install(store, made, _name(made, order.kind), order.kind)
        except (OSError, tarfile.TarError) as error:
            raise OperatorFault("image_not_added", f"{store} can't take {order.source}: {error}") from error


def is_url(source: str) -> bool:
    """Whether it is fetched, or else read here."""
    return "://" in source


def _download(client: httpx.Client, store: Path, order: Order, arrived: Path, report: Report) -> None:
    """Goes on with what an earlier run left of the same file; what turns out wrong is not kept."""
    partial = store / f"{_PARTIAL}{order.kind}-{order.checksum.digest[:_DIGEST_CHARACTERS]}"
    for other in store.glob(f"{_PARTIAL}{order.kind}-*"):
        if other != partial:
            other.unlink()
    with partial.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OperatorFault("being_added", f"{order.kind} is being added by another process") from error
        try:
            fetch_file(client, order.source, partial, report)
            _check(partial, order)
        except OperatorFault as fault:
            if fault.code != "download_failed" or not partial.stat().st_size:
                partial.unlink()
            raise
        partial.rename(arrived)


def _copy(source: Path, arrived: Path, report: Report) -> None:
    try:
        total, done = source.stat().st_size, 0
        with source.open("rb") as reading, arrived.open("wb") as writing:
            while chunk := reading.read(_CHUNK_BYTES):
                writing.write(chunk)
                done += len(chunk)
                report(done, total)
    except OSError as error:
        message = f"{source} can't be copied into the store ({error.strerror})"
        raise OperatorFault("image_not_copied", message) from error


def _check(path: Path, order: Order) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, order.checksum.algorithm).hexdigest()
    if found != order.checksum.digest:
        message = (
            f"{order.source} has the {order.checksum.algorithm} {found}, not {order.checksum.digest}: "
            "it is damaged, another file, or was replaced since the checksum was published"
        )
        raise OperatorFault("checksum_differs", message)


def _unpack(arrived: Path, made: Path, order: Order) -> None:
    """Makes the image's files in `made`."""
    with arrived.open("rb") as file:
        magic = file.read(len(qcow2.MAGIC))
    if magic != qcow2.MAGIC and tarfile.is_tarfile(arrived):
        _extract(arrived, made)
        images.verify(images.open_image(made.parent, made.name))
        return
    disk_gb = -(-qcow2.virtual_bytes(arrived) // _GIB)
    arrived.rename(made / BASE_DISK)
    about = {"architecture": order.architecture, "source": order.source, "published": str(order.checksum)}
    least = Least(order.least_memory_mb, disk_gb)
    (made / MANIFEST).write_bytes(images.render_manifest(order.kind, least, about, made))


def _extract(archive: Path, made: Path) -> None:
    """The plain files of an image directory and nothing else; raises OperatorFault(archive_unsuitable)."""
    with tarfile.open(archive) as tar:
        for member in tar:
            name = os.path.normpath(member.name)
            if member.isdir() and name == ".":
                continue
            if not member.isfile() or name not in (*FILES, MANIFEST) or member.size > FILE_BYTES_MAX:
                message = f"the archive holds {member.name!r}; it may hold {', '.join((*FILES, MANIFEST))} only"
                raise OperatorFault("archive_unsuitable", message)
            content = tar.extractfile(member)
            assert content is not None  # it is a plain file
            with content, (made / name).open("wb") as file:
                shutil.copyfileobj(content, file)


def _name(made: Path, kind: str) -> str:
    """`kind-digest`: the same files have the same name, wherever they are from."""
    checksums = images.open_image(made.parent, made.name).checksums
    text = "".join(f"{name} {checksum}\n" for name, checksum in sorted(checksums.items()))
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]}"
