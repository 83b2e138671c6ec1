"""Adding images: checked or not there, whatever the file, the server or the disk does."""

import fcntl
import functools
import gzip
import hashlib
import io
import resource
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.file_server import FileServer, make_certificate, serving
from xnode.core.faults import CallerFault, Fault, OperatorFault
from xnode.vm import cloud_images, download, image_adding, image_store, images, qcow2
from xnode.vm.cloud_images import CLOUD_IMAGES, CloudImage, find_checksum, make_checksum
from xnode.vm.download import open_client
from xnode.vm.image_adding import Order
from xnode.vm.images import Least

GIB = 1 << 30


def qcow2_head(size: int = 3 * GIB, backing: int = 0, features: int = 0, cipher: int = 0, version: int = 3) -> bytes:
    head = struct.pack(">4sIQIIQI", b"QFI\xfb", version, backing, 8 if backing else 0, 16, size, cipher)
    return head.ljust(72, b"\0") + struct.pack(">Q", features)


DISK = qcow2_head() + bytes(range(256)) * 4096


def order(source: str, data: bytes = DISK, **changes: object) -> Order:
    checksum = make_checksum("sha512", hashlib.sha512(data).hexdigest())
    return Order(source, "disk", checksum, images.host_architecture())._replace(**changes)


@functools.cache
def client() -> httpx.Client:
    """One for all, since loading the authorities takes a while."""
    return open_client()


@pytest.fixture(autouse=True, scope="module")
def _close_client() -> Iterator[None]:
    yield
    client().close()


def add(store: Path, wanted: Order) -> images.Image:
    return image_adding.add(client(), store, wanted, lambda _done, _total: None)


def refused(store: Path, wanted: Order) -> Fault:
    """The fault of an addition; no image is there after it, and nothing unfinished but what can be gone on with."""
    with pytest.raises((OperatorFault, CallerFault)) as caught:
        add(store, wanted)
    left = [path.name for path in store.iterdir() if not path.name.startswith(".partial-")] if store.exists() else []
    assert left == []
    return caught.value


def partials(store: Path) -> list[int]:
    return [path.stat().st_size for path in store.glob(".partial-*")]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as files:
        files.files["/disk"] = DISK
        yield files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DISK)
    return path


# from a file


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_file_with_its_checksum_is_added(store, file, algorithm):
    checksum = make_checksum(algorithm, hashlib.new(algorithm, DISK).hexdigest().upper())
    image = add(store, order(str(file), checksum=checksum))
    assert (image.kind, image.boots_itself, image.least) == ("disk", True, Least(512, 3))
    assert (image.directory / "base.qcow2").read_bytes() == DISK
    images.verify(images.open_image(store, "disk"))
    assert sorted(path.name for path in store.iterdir()) == ["disk", image.name]


def test_the_same_disk_has_one_name_wherever_it_is_from(store, file, server):
    first = add(store, order(str(file)))
    assert add(store, order(f"{server.url}/disk")) == first


def test_a_damaged_image_is_replaced_by_adding_it_again(store, file):
    damaged = add(store, order(str(file))).directory / "base.qcow2"
    damaged.write_bytes(DISK[:-1])
    images.verify(add(store, order(str(file))))


def test_a_file_with_another_checksum_is_refused(store, file):
    fault = refused(store, order(str(file), data=b"what its publisher had"))
    assert fault.code == "checksum_differs"
    assert hashlib.sha512(DISK).hexdigest() in str(fault)


def test_a_file_that_is_not_there_is_named(store, tmp_path):
    assert refused(store, order(str(tmp_path / "none"))).code == "image_not_copied"


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (qcow2_head(backing=104), "another file of this host"),
        (qcow2_head(features=4), "another file of this host"),
        (qcow2_head(cipher=1), "encrypted"),
        (qcow2_head(version=1), "version"),
        (qcow2_head(size=0), "0 bytes"),
        (qcow2_head(size=qcow2.VIRTUAL_BYTES_MAX + 1), "bytes"),
        (b"\xebraw disk".ljust(4096, b"\0"), "no qcow2"),
        (b"QFI\xfb", "no qcow2"),
    ],
)
def test_a_disk_that_can_not_be_trusted_or_used_is_refused(store, file, head, why):
    file.write_bytes(head)
    fault = refused(store, order(str(file), head))
    assert fault.code == "disk_unsuitable"
    assert why in str(fault)


def test_version_2_has_no_features(store, file):
    data = qcow2_head(version=2)[:72] + b"\xff" * 100
    file.write_bytes(data)
    assert add(store, order(str(file), data)).least.disk_gb == 3


@pytest.mark.parametrize("kind", ["", "../disk", "Disk", ".hidden", "a..b"])
def test_a_bad_name_is_refused(store, file, kind):
    assert refused(store, order(str(file), kind=kind)).code == "bad_image_name"


# archives of image directories


def archive_of(members: dict[str, bytes], link: str = "") -> bytes:
    """The same bytes at every call: gzip would write the second it was called in."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo("./vmlinuz")
            info.type, info.linkname = tarfile.SYMTYPE, link
            tar.addfile(info)
    return gzip.compress(out.getvalue(), mtime=0)


def direct_members(tmp_path: Path) -> dict[str, bytes]:
    folder = tmp_path / "direct"
    folder.mkdir()
    for name in ("vmlinuz", "initrd"):
        (folder / name).write_bytes(name.encode())
    (folder / "manifest.json").write_bytes(images.render_manifest("tiny", Least(128), {}, folder))
    return {f"./{path.name}": path.read_bytes() for path in folder.iterdir()}


def test_an_archive_of_an_image_directory_is_added(store, file, tmp_path):
    data = archive_of(direct_members(tmp_path))
    file.write_bytes(data)
    image = add(store, order(str(file), data, kind="mine"))
    assert (image.boots_itself, image.base, image.least) == (False, "", Least(128))
    images.verify(images.open_image(store, "mine"))


def test_an_archive_with_anything_else_is_refused(store, file, tmp_path):
    members = direct_members(tmp_path)
    for bad in ({**members, "../vmlinuz": b""}, {**members, "boot/vmlinuz": b""}, {**members, "/initrd": b""}):
        file.write_bytes(archive_of(bad))
        assert refused(store, order(str(file), archive_of(bad))).code == "archive_unsuitable"
    del members["./vmlinuz"]
    data = archive_of(members, link="/etc/shadow")
    file.write_bytes(data)
    assert refused(store, order(str(file), data)).code == "archive_unsuitable"


def test_an_archive_whose_files_are_not_those_of_its_manifest_is_refused(store, file, tmp_path):
    data = archive_of({**direct_members(tmp_path), "./initrd": b"another"})
    file.write_bytes(data)
    with pytest.raises(Fault) as caught:
        add(store, order(str(file), data))
    assert caught.value.code == "image_damaged"
    assert list(store.iterdir()) == []


# from a URL


def test_a_url_is_fetched_and_checked(store, server):
    image = add(store, order(f"{server.url}/disk"))
    assert image.source == f"{server.url}/disk"
    assert partials(store) == []


def test_a_connection_that_ends_early_is_gone_on_with(store, server):
    server.cut_after = [100_000, 500_000]
    add(store, order(f"{server.url}/disk"))
    assert server.asked == ["", "bytes=100000-", "bytes=600000-"]


def test_a_later_run_goes_on_where_an_earlier_one_stopped(store, server):
    server.cut_after = [100_000, 0]
    assert refused(store, order(f"{server.url}/disk")).code == "download_failed"
    assert partials(store) == [100_000]
    add(store, order(f"{server.url}/disk"))
    assert server.asked[-1] == "bytes=100000-"


def test_a_server_without_ranges_sends_all_of_it_again(store, server):
    server.knows_ranges, server.cut_after = False, [100_000]
    add(store, order(f"{server.url}/disk"))
    assert server.asked == ["", "bytes=100000-"]


def test_what_is_longer_than_the_file_begins_anew(store, server):
    store.mkdir()
    wanted = order(f"{server.url}/disk")
    (store / f".partial-disk-{wanted.checksum.digest[:12]}").write_bytes(DISK + b"more")
    images.verify(add(store, wanted))


def test_what_arrives_wrong_is_not_kept(store, server):
    server.files["/disk"] = DISK[:-1] + b"!"
    assert refused(store, order(f"{server.url}/disk")).code == "checksum_differs"
    assert partials(store) == []


def test_what_is_left_of_an_older_file_of_that_name_goes(store, server):
    store.mkdir()
    (store / ".partial-disk-000000000000").write_bytes(b"old")
    add(store, order(f"{server.url}/disk"))
    assert partials(store) == []


def test_a_server_that_refuses_or_is_not_there_is_named(store, server):
    fault = refused(store, order(f"{server.url}/other"))
    assert (fault.code, "404" in str(fault)) == ("download_failed", True)
    fault = refused(store, order("http://127.0.0.1:9/disk"))
    assert "can't be reached" in str(fault)
    assert refused(store, order("ftp://127.0.0.1/disk")).code == "download_failed"
    assert partials(store) == []


def test_what_does_not_fit_on_the_disk_is_refused_before_it_comes(store, server, monkeypatch):
    server.claimed_length = 31 << 40
    assert refused(store, order(f"{server.url}/disk")).code == "download_failed"  # over the limit
    server.claimed_length = 0
    monkeypatch.setattr(download, "DISK_RESERVE_BYTES", 1 << 60)
    assert refused(store, order(f"{server.url}/disk")).code == "disk_full"
    assert partials(store) == []


@pytest.mark.parametrize("by_url", [True, False])
def test_a_disk_that_takes_no_more_leaves_nothing(store, server, file, by_url):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        fault = refused(store, order(f"{server.url}/disk" if by_url else str(file)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert fault.code == ("disk_full" if by_url else "image_not_copied")
    assert partials(store) == []


def test_two_at_once_do_not_write_to_one_file(store, server):
    store.mkdir()
    wanted = order(f"{server.url}/disk")
    with (store / f".partial-disk-{wanted.checksum.digest[:12]}").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert refused(store, wanted).code == "being_added"


def test_what_a_killed_addition_left_goes_with_the_next(store, file):
    (store / ".adding-dead").mkdir(parents=True)
    (store / ".adding-dead" / "arrived").write_bytes(b"half")
    with image_store.unfinished(store) as other:
        add(store, order(str(file)))
        assert other.exists(), "it is being worked on"
    assert not (store / ".adding-dead").exists()


# ready entries


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """The real entry debian-12, its publisher replaced by a server of ours."""
    certificate = make_certificate(tmp_path / "certificate.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(certificate) as files:
        entry = CLOUD_IMAGES["debian-12"]._replace(folder=f"{files.url}/latest/")
        monkeypatch.setitem(cloud_images.CLOUD_IMAGES, "debian-12", entry)
        name = entry.file_name("amd64")
        files.files[f"/latest/{name}"] = DISK
        files.files["/latest/SHA512SUMS"] = (
            f"{'0' * 128}  other.qcow2\n{hashlib.sha512(DISK).hexdigest()}  {name}\n".encode()
        )
        yield files


def ready(architecture: str = "amd64") -> Order:
    with open_client() as trusting:
        return image_adding.ready_order(trusting, "debian-12", architecture)


def test_a_ready_entry_is_added_by_the_checksum_that_its_publisher_gives(store, publisher):
    wanted = ready()
    with open_client() as trusting:
        image = image_adding.add(trusting, store, wanted, lambda _done, _total: None)
    assert (image.kind, image.architecture, image.least) == ("debian-12", "amd64", Least(512, 3))


def test_a_ready_entry_without_its_checksum_is_refused(publisher):
    with pytest.raises(OperatorFault, match="no checksum of debian-12-genericcloud-arm64"):
        ready("arm64")
    with pytest.raises(CallerFault, match="amd64 and arm64"):
        ready("riscv64")


def test_checksums_come_by_tls_only(publisher):
    with serving() as plain:
        plain.files["/sums"] = publisher.files["/latest/SHA512SUMS"]
        publisher.redirects["/latest/SHA512SUMS"] = f"{plain.url}/sums"
        with pytest.raises(OperatorFault, match="not served by TLS"):
            ready()


def test_a_publisher_that_nobody_vouches_for_is_refused(publisher, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(OperatorFault, match="CERTIFICATE_VERIFY_FAILED"):
        ready()


def test_a_host_without_a_way_there_is_told_what_to_do(publisher, monkeypatch):
    entry = CLOUD_IMAGES["debian-12"]._replace(folder="https://127.0.0.1:9/latest/")
    monkeypatch.setitem(cloud_images.CLOUD_IMAGES, "debian-12", entry)
    with pytest.raises(OperatorFault, match="--name debian-12 --sha512 CHECKSUM"):
        ready()


def test_a_checksum_file_has_its_limit(publisher):
    publisher.files["/latest/SHA512SUMS"] = b"0" * ((1 << 20) + 1)
    with pytest.raises(OperatorFault, match="more than 1048576 bytes"):
        ready()


@pytest.mark.parametrize("kind", CLOUD_IMAGES)
def test_ready_entries_are_published_by_tls_for_both_architectures(kind):
    entry: CloudImage = CLOUD_IMAGES[kind]
    assert images.check_name(kind) == kind
    for architecture in cloud_images.ARCHITECTURES:
        assert entry.url(architecture).startswith("https://")
        assert architecture in entry.url(architecture)
    assert entry.sums_url.startswith("https://")
    assert entry.sums in ("SHA256SUMS", "SHA512SUMS")


def test_both_forms_of_a_checksum_line_are_read():
    text = f"# a comment\n{'a' * 64} *disk.img\n{'b' * 64}  disk.img.manifest\n"
    assert find_checksum(text, "disk.img", "here").digest == "a" * 64
    assert find_checksum(text, "disk.img.manifest", "here") == make_checksum("sha256", "b" * 64)


@pytest.mark.parametrize("digest", ["", "xyz", "a" * 63, "a" * 128, "g" * 64])
def test_a_checksum_of_another_length_is_refused(digest):
    with pytest.raises(CallerFault, match="64 hexadecimal digits"):
        make_checksum("sha256", digest)
