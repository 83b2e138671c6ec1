"""The machines of a local network are found among all processes, with a program of QEMU's name that only sleeps."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from xnode.config import DataDir
from xnode.vm.qemu_command import PROGRAM, Guest, qemu_command
from xnode_cmd.devnet_process import end_machines, running_machines


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "provider1")


@pytest.fixture
def machine(data_dir: DataDir) -> Iterator[subprocess.Popen[bytes]]:
    """A process started as the driver starts QEMU: its directory is the only thing that says whose it is."""
    run = data_dir.machines / "ab" / "run"
    run.mkdir(parents=True)
    words = qemu_command(Guest("xnode-ab", "", "tcg", 1, 128))
    assert str(data_dir.root) not in " ".join(words)
    with subprocess.Popen([PROGRAM, "60"], executable=shutil.which("sleep"), cwd=run) as process:
        yield process
        process.kill()


def test_found_by_its_directory(data_dir: DataDir, machine: subprocess.Popen[bytes]) -> None:
    assert [process.pid for process in running_machines(data_dir)] == [machine.pid]


def test_found_though_its_directory_is_gone(data_dir: DataDir, machine: subprocess.Popen[bytes]) -> None:
    shutil.rmtree(data_dir.root)
    assert [process.pid for process in running_machines(data_dir)] == [machine.pid]


def test_not_another_network_s(data_dir: DataDir, machine: subprocess.Popen[bytes]) -> None:
    assert running_machines(DataDir(data_dir.root.with_name("provider"))) == []


def test_ended(data_dir: DataDir, machine: subprocess.Popen[bytes]) -> None:
    assert end_machines(data_dir) == 1
    machine.wait(5)
    assert running_machines(data_dir) == []
