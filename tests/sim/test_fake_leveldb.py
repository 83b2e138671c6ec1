"""The fake disk does what the real one does: the same steps on both, and what a power cut may leave of each."""

from pathlib import Path
from random import Random
from typing import Any

import plyvel
import pytest

from tests.sim.fake_leveldb import Disk, PowerCut, Strike, Trap
from tests.support.store import GENESIS as STORY
from tests.support.store import dump, land_step, story_steps
from xnode.core.faults import OperatorFault
from xnode.store.store import Store
from xnode.store.verify import verify_store

KEYS = [bytes([first, second]) for first in range(4) for second in (0, 1, 255)] + [b"", b"\x01", b"\xff"]


class Pair:
    """The same calls at a real database and at the fake; both must answer alike."""

    def __init__(self, path: Path) -> None:
        self.real: Any = plyvel.DB(str(path), create_if_missing=True)
        self.fake: Any = Disk().open(path)

    def write(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        for database in (self.real, self.fake):
            batch = database.write_batch(sync=False)
            for key, value in changes:
                if value is None:
                    batch.delete(key)
                else:
                    batch.put(key, value)
            batch.write()


def outcome(act: Any, *arguments: Any, **named: Any) -> Any:
    """What it returns, or how it fails."""
    try:
        return act(*arguments, **named)
    except StopIteration:
        return StopIteration
    except RuntimeError as error:
        return str(error)


def any_range(random: Random) -> dict[str, Any]:
    return {
        "start": random.choice([None, *KEYS]) or None,
        "stop": random.choice([None, *KEYS]) or None,
        "include_start": random.random() < 0.7,
        "reverse": random.random() < 0.5,
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_reads_and_writes_are_those_of_plyvel(tmp_path: Path, seed: int) -> None:
    """Views that were opened earlier and are read in steps, while batches go on landing."""
    random = Random(seed)
    pair = Pair(tmp_path / "real")
    sources: list[tuple[Any, Any]] = [(pair.real, pair.fake)]
    passes: list[tuple[Any, Any]] = []
    for _ in range(400):
        real, fake = random.choice(sources)
        match random.randrange(6):
            case 0:
                pair.write([(random.choice(KEYS[:-3]), random.choice([None, random.randbytes(3)])) for _ in range(4)])
            case 1:
                key = random.choice(KEYS)
                assert outcome(real.get, key) == outcome(fake.get, key)
            case 2:
                bounds = any_range(random)
                assert list(real.iterator(**bounds)) == list(fake.iterator(**bounds)), bounds
            case 3 if len(sources) < 5:
                sources.append((pair.real.snapshot(), pair.fake.snapshot()))
            case 4:
                bounds = any_range(random)
                passes.append((real.iterator(**bounds), fake.iterator(**bounds)))
            case 5 if passes:
                real_pass, fake_pass = random.choice(passes)
                assert outcome(next, real_pass) == outcome(next, fake_pass)
    for used in (*sources[1:3], *passes[:3]):
        for one in used:
            one.close()
            one.close()
    pair.real.close()
    pair.fake.close()
    for real, fake in sources:
        assert outcome(real.get, b"x") == outcome(fake.get, b"x")
    for real_pass, fake_pass in passes:
        assert outcome(next, real_pass) == outcome(next, fake_pass)
    assert outcome(pair.real.snapshot) == outcome(pair.fake.snapshot)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    disk = Disk()
    with Store.open(tmp_path, STORY, engine=disk.open), pytest.raises(OperatorFault, match="another process"):
        Store.open(tmp_path, STORY, engine=disk.open)
    with Store.open(tmp_path, STORY, engine=disk.open) as store:
        assert verify_store(store) == []


@pytest.mark.slow
def test_the_story_leaves_the_same_rows(tmp_path: Path) -> None:
    disk = Disk()
    with Store.open(tmp_path / "real", STORY) as real, Store.open(tmp_path / "fake", STORY, engine=disk.open) as fake:
        for step in story_steps():
            land_step(real, step)
            land_step(fake, step)
        assert dump(real) == dump(fake)
        assert verify_store(fake) == []


def write(disk: Disk, database: Any, key: bytes, sync: bool) -> None:
    batch = database.write_batch(sync=sync)
    batch.put(key, b"1")
    batch.put(b"last", key)
    batch.write()


@pytest.mark.parametrize(("keeps", "left"), [(0, b"b"), (1, b"c"), (2, b"d")])
def test_a_power_cut_takes_whole_batches_that_were_not_synced(keeps: int, left: bytes) -> None:
    disk = Disk()
    database = disk.open(Path("x"))
    for key, sync in ((b"a", False), (b"b", True), (b"c", False), (b"d", False)):
        write(disk, database, key, sync)
    disk.cut(lambda count: min(keeps, count))
    with pytest.raises(PowerCut):
        database.get(b"a")
    assert disk.rows[b"last"] == left
    assert sorted(disk.rows) == [*sorted(key for key in (b"a", b"b", b"c", b"d") if key <= left), b"last"]


@pytest.mark.parametrize("strike", list(Strike))
def test_a_trapped_write(strike: Strike) -> None:
    disk = Disk()
    with pytest.raises((PowerCut, plyvel.IOError)):  # noqa: PT012  the writes before it are part of it
        database = disk.open(Path("x"))
        disk.trap = Trap(strike, at=2)
        write(disk, database, b"a", sync=True)
        write(disk, database, b"b", sync=True)
    assert disk.rows[b"last"] == (b"b" if strike is Strike.AFTER else b"a")
    disk.cut()
    disk.open(Path("x"))
    assert disk.rows[b"last"] == (b"b" if strike in (Strike.AFTER, Strike.FAIL_KEPT) else b"a")


def test_after_a_failed_write_all_fail_until_it_is_opened_anew() -> None:
    disk = Disk()
    with Store.open(Path("x"), STORY, engine=disk.open) as store:
        disk.trap = Trap(Strike.FAIL_LOST, at=disk.writes + 1)
        for _ in range(2):
            with pytest.raises(OperatorFault, match="took no write"):
                land_step(store, story_steps()[0])
    with Store.open(Path("x"), STORY, engine=disk.open) as store:
        land_step(store, story_steps()[0])
