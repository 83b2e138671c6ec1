"""What a machine uses, from what the guest and the host say; and its console in pieces."""

import os

import pytest

from xnode.core.faults import MachineFault
from xnode.vm import console, guest_figures, host_figures
from xnode.vm.limits import CONSOLE_PART_BYTES_MAX

SAID = b"""MemTotal:         239412 kB
MemFree:          200000 kB
MemAvailable:     210412 kB
Inter-|   Receive                                                |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:    5000       1 0 0 0 0 0 0    5000       1 0 0 0 0 0 0
  eth0:   12345     100 0 0 0 0 0 0   54321     100 0 0 0 0 0 0
  eth1:       5       1 0 0 0 0 0 0       7       1 0 0 0 0 0 0
"""


def test_guest_tells_its_memory_and_all_its_network_but_the_loopback():
    assert guest_figures.parse(SAID) == (29_000 << 10, 12_350, 54_328)


@pytest.mark.parametrize(
    "said", [b"", b"nonsense\n", b"MemTotal: 5 kB\n", b"MemTotal: 5 kB\nMemAvailable: 9 kB\n", b"\xff" * 99]
)
def test_guest_that_talks_nonsense_tells_nothing(said):
    assert guest_figures.parse(said) == guest_figures.NOTHING


def test_host_tells_the_process_and_the_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(8192))
    found = host_figures.measure(os.getpid(), disk, (3, 4))
    assert found.cpu_ns > 0
    assert found.memory_bytes > 1 << 20
    assert found.disk_bytes >= 8192
    assert (found.disk_read_bytes, found.disk_written_bytes) == (3, 4)
    with pytest.raises(MachineFault, match="just ended"):
        host_figures.measure(os.getpid(), tmp_path / "none", (0, 0))


def test_console_is_read_from_either_end_and_in_pieces(tmp_path):
    path = tmp_path / "console"
    assert console.read_part(path, 5) == (b"", 0)
    path.write_bytes(b"abcdef")
    assert console.read_part(path, 0) == (b"abcdef", 6)
    assert console.read_part(path, 6) == (b"", 6)
    assert console.read_part(path, -2) == (b"ef", 6)
    assert console.read_part(path, -99) == (b"abcdef", 6)
    assert console.read_part(path, 7) == (b"abcdef", 6)  # it was emptied meanwhile
    path.write_bytes(bytes(CONSOLE_PART_BYTES_MAX + 1))
    assert console.read_part(path, 0).position == CONSOLE_PART_BYTES_MAX
