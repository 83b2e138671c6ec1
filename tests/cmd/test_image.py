"""`xnode image`: what an operator sees of the image store."""

import hashlib
import json
import struct
from pathlib import Path

import pytest

from tests.support.command import Ended, invoke

DISK = struct.pack(">4sIQIIQI", b"QFI\xfb", 3, 0, 0, 16, 2 << 30, 0).ljust(112, b"\0")
SHA256 = hashlib.sha256(DISK).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    path.write_bytes(DISK)
    return path


def image(tmp_path: Path, *words: str | Path) -> Ended:
    return invoke("image", *words, "--data-dir", tmp_path / "node")


def test_an_image_comes_is_shown_checked_and_goes(tmp_path: Path, file: Path) -> None:
    added = image(tmp_path, "add", file, "--name", "mine", "--sha256", SHA256)
    assert added.status == 0, added.err
    assert "at least 512 MB memory, 2 GB disk" in added.out
    assert "mine" in image(tmp_path, "list").out
    (row,) = json.loads(image(tmp_path, "list", "--json").out)
    assert (row["name"], row["disk_gb"], row["source"]) == ("mine", 2, str(file))
    assert image(tmp_path, "verify").out == f"{row['image']}: whole\n"
    (tmp_path / "node" / "images" / "mine" / "base.qcow2").write_bytes(b"damaged")
    ended = image(tmp_path, "verify", "mine")
    assert (ended.status, "not the file of its manifest" in ended.out) == (1, True)
    assert image(tmp_path, "remove", "mine").out == f"removed {row['image']}\n"
    assert "xnode image add" in image(tmp_path, "list").out


@pytest.mark.parametrize(
    "words", [(), ("--name", "mine"), ("--sha256", SHA256), ("--name", "a", "--sha256", SHA256, "--sha512", "0")]
)
def test_a_file_needs_a_name_and_one_checksum(tmp_path: Path, file: Path, words: tuple[str, ...]) -> None:
    ended = image(tmp_path, "add", file, *words)
    assert (ended.status, "--sha256 and --sha512" in ended.err) == (1, True)
    assert not (tmp_path / "node").exists()


def test_an_unknown_entry_is_told_which_there_are(tmp_path: Path) -> None:
    assert "debian-12, debian-13, ubuntu-22.04, ubuntu-24.04" in image(tmp_path, "add", "debian-11").err


def test_ready_entries_are_shown_with_the_source_of_their_checksums(tmp_path: Path) -> None:
    rows = json.loads(image(tmp_path, "list", "--ready", "--json").out)
    assert [row["name"] for row in rows] == ["debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04"]
    assert all(row["checksums"].endswith(("/SHA256SUMS", "/SHA512SUMS")) for row in rows)


def test_another_store_can_be_named(tmp_path: Path, file: Path) -> None:
    added = image(tmp_path, "add", file, "--name", "mine", "--sha256", SHA256, "--store", tmp_path / "store")
    assert added.status == 0, added.err
    assert (tmp_path / "store" / "mine").exists()
