"""Cgroups of both versions and none, as plain folders; on real ones in test_limits.py."""

import os
from pathlib import Path

import pytest

from xnode.core.faults import MachineFault
from xnode.vm import cgroups
from xnode.vm.cgroups import PARENT, Limit

LIMIT = Limit(memory_mb=400, vcpus=2)


@pytest.fixture
def own(tmp_path):
    """Writes what /proc/self/cgroup would say."""

    def write(*lines: str) -> Path:
        path = tmp_path / "own"
        path.write_text("".join(line + "\n" for line in lines))
        return path

    return write


def hierarchy(tmp_path: Path, *folders: str) -> Path:
    root = tmp_path / "cgroup"
    for folder in folders:
        (root / folder).mkdir(parents=True)
    return root


def test_version_2_is_held_by_one_group(tmp_path, own):
    root = hierarchy(tmp_path, "service")
    for name in ("cgroup.controllers", "cgroup.subtree_control"):
        (root / name).write_text("")
    found = cgroups.find(root, own("0::/service"))
    assert (found.version, found.describe()) == (2, "cgroups version 2: cpu and memory")
    assert (root / PARENT / "cgroup.subtree_control").read_text() == "+cpu +memory"
    found.put("m", 7, LIMIT)
    group = root / PARENT / "m"
    assert (group / "memory.max").read_text() == str(400 << 20)
    assert (group / "cpu.max").read_text() == "225000 100000"
    assert (group / "cpu.weight").read_text() == "200"
    assert (root / PARENT / "cpu.weight").read_text() == str(100 * (os.cpu_count() or 1))
    assert (group / "cgroup.procs").read_text() == "7"
    assert found.names() == {"m"}


def test_version_1_has_a_group_for_each_controller_below_our_own(tmp_path, own):
    root = hierarchy(tmp_path, "memory/box", "cpu")
    found = cgroups.find(root, own("4:memory:/box", "1:cpu,cpuacct:/", "0::/"))
    assert found.version == 1
    found.put("m", 7, LIMIT)
    assert (root / "memory" / "box" / PARENT / "m" / "memory.limit_in_bytes").read_text() == str(400 << 20)
    assert (root / "cpu" / PARENT / "m" / "cpu.cfs_quota_us").read_text() == "225000"
    assert (root / "cpu" / PARENT / "m" / "cpu.shares").read_text() == "2048"
    assert (root / "cpu" / PARENT / "cpu.shares").read_text() == str(1024 * (os.cpu_count() or 1))
    for controller in ("memory/box", "cpu"):
        assert (root / controller / PARENT / "m" / "cgroup.procs").read_text() == "7"


def test_no_cgroups_is_said_and_limits_nothing(tmp_path, own):
    for found in (cgroups.find(tmp_path / "none", own("0::/")), cgroups.find(tmp_path, tmp_path / "nowhere")):
        assert found.version == 0
        assert "no cgroups" in found.describe()
        found.put("m", 7, LIMIT)
        found.remove("m")
        assert found.names() == set()


def test_a_limit_that_can_not_be_set_is_a_named_fault(tmp_path, own):
    root = hierarchy(tmp_path, "memory", "cpu")
    found = cgroups.find(root, own("4:memory:/", "1:cpu:/"))
    (root / "memory" / PARENT / "m").write_text("in the way")
    with pytest.raises(MachineFault, match="limits of machine m") as caught:
        found.put("m", 7, LIMIT)
    assert caught.value.code == "limits_failed"


def test_a_group_that_is_not_empty_stays(tmp_path, own):
    root = hierarchy(tmp_path, "cpu")
    found = cgroups.find(root, own("1:cpu:/"))
    group = root / "cpu" / PARENT / "m"
    group.mkdir()
    found.remove("m")
    assert not group.exists()
    (group / "still here").mkdir(parents=True)
    (root / "cpu" / PARENT / "empty").mkdir()
    found.sweep()
    assert found.names() == {"m"}


def test_a_group_that_another_node_swept_is_made_again(tmp_path, own, monkeypatch):
    found = cgroups.find(hierarchy(tmp_path, "cpu"), own("1:cpu:/"))
    once = found._put
    calls = []

    def swept(*arguments) -> None:
        calls.append(arguments)
        if len(calls) < cgroups.PUT_ATTEMPTS:
            raise FileNotFoundError
        once(*arguments)

    monkeypatch.setattr(found, "_put", swept)
    found.put("m", 7, LIMIT)
    assert found.names() == {"m"}
    calls.clear()
    monkeypatch.setattr(cgroups, "PUT_ATTEMPTS", 1)
    monkeypatch.setattr(found, "_put", lambda *_: (tmp_path / "none").rmdir())
    with pytest.raises(MachineFault, match="again and again"):
        found.put("m", 7, LIMIT)
