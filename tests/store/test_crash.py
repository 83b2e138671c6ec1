"""Killed at any moment, cut short or with a damaged byte: each transaction is there whole or not at all, or a fault."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.store import dump, land_step, open_store, story_steps
from xnode.core.faults import OperatorFault
from xnode.store.store import Store
from xnode.store.verify import verify_store

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[dict[bytes, bytes]]:
    """Every key and value after each step of the story, the making of the store included; no two are alike."""
    with open_store(tmp_path_factory.mktemp("states")) as store:
        found = [dump(store)]
        for step in story_steps():
            land_step(store, step)
            found.append(dump(store))
        assert verify_store(store) == []
    assert all(found.count(item) == 1 for item in found)
    return found


def landed_steps(store: Store, states: list[dict[bytes, bytes]]) -> int:
    """How many steps of the story this store has, counting its making; fails when it is between two steps."""
    return states.index(dump(store)) + 1


@pytest.mark.slow
def test_killed_at_every_write(tmp_path: Path, states: list[dict[bytes, bytes]]) -> None:
    command = [sys.executable, "-m", "tests.support.crash_story", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=60)
    points = sorted(int(item.name) for item in tmp_path.iterdir())
    assert len(points) == 2 * (len(story_steps()) + 1) + 1
    for point in points:
        path = tmp_path / str(point)
        acknowledged = (path / "acknowledged").stat().st_size
        is_after_write = point % 2 == 1
        with open_store(path) as store:
            assert verify_store(store) == []
            # before the very first write there was no store: opening has just made it
            landed = landed_steps(store, states)
            assert landed == max(1, acknowledged + is_after_write)
            for step in story_steps()[landed - 1 :]:
                land_step(store, step)
            assert landed_steps(store, states) == len(states)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The directory of a store with the whole story, closed."""
    path = tmp_path / "finished"
    with open_store(path) as store:
        for step in story_steps():
            land_step(store, step)
    return path


def log_of(path: Path) -> Path:
    (log,) = (path / "store").glob("*.log")
    return log


@pytest.mark.slow
def test_a_log_cut_short_has_whole_transactions(
    finished: Path, tmp_path: Path, states: list[dict[bytes, bytes]]
) -> None:
    """What a machine that loses power may leave of writes that were not acknowledged."""
    seen = set()
    for size in range(log_of(finished).stat().st_size, 1500, -397):
        copy = tmp_path / str(size)
        shutil.copytree(finished, copy)
        os.truncate(log_of(copy), size)
        with open_store(copy) as store:
            assert verify_store(store) == []
            seen.add(landed_steps(store, states))
    assert len(seen) > 5


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_flipped_byte_is_found_at_start(finished: Path, part: float) -> None:
    log = log_of(finished)
    data = bytearray(log.read_bytes())
    data[int(len(data) * part)] ^= 0x10
    log.write_bytes(data)
    with pytest.raises(OperatorFault, match="start without it") as caught:
        open_store(finished)
    assert caught.value.code == "store_corrupt"
