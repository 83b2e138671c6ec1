"""The initrd's archive, byte by byte; that Linux unpacks it is shown by every boot."""

from xnode.vm import cpio


def test_archive_is_aligned_and_always_the_same():
    entries = [cpio.directory("a"), cpio.regular("a/b", b"12345", 0o600)]
    assert cpio.write_archive(entries) == cpio.write_archive(iter(entries))
    assert len(cpio.write_archive(entries)) % 512 == 0


def test_header_is_the_formats():
    archive = cpio.write_archive([cpio.regular("name", b"data", 0o640)])
    assert archive.startswith(b"070701" + b"00000001" + b"000081A0" + b"0" * 16 + b"00000001" + b"0" * 8 + b"00000004")
    assert archive[110:120] == b"name\0\0data"
    assert b"TRAILER!!!\0" in archive


def test_device_and_link_carry_their_numbers_and_target():
    device, link = cpio.character_device("dev/console", 5, 1), cpio.symlink("bin/sh", "busybox")
    assert (device.mode & 0o170000, device.device) == (0o020000, (5, 1))
    assert (link.mode & 0o170000, link.data) == (0o120000, b"busybox")
