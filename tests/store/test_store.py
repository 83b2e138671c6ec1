"""Opening, closing, refusing, and what a failed write leaves."""

import resource
import subprocess
import sys
from pathlib import Path

import plyvel
import pytest

from tests.support.ledger import RICH, address_of, make_genesis
from tests.support.store import GENESIS, land, open_store, stage, story_blocks
from xnode.core.codec import encode
from xnode.core.faults import OperatorFault
from xnode.core.ledger import Bucket, supply_balances
from xnode.core.values import ZERO_HASH, Asset
from xnode.store.schema import ARRIVAL, SCHEMA_KEY, SCHEMA_VERSION, TALLY_KEY, number
from xnode.store.store import Store
from xnode.store.verify import verify_store

ROOT = Path(__file__).parents[2]
OPEN_ELSEWHERE = """
import sys
from pathlib import Path
from tests.support.store import open_store
from xnode.core.faults import OperatorFault
try:
    open_store(Path(sys.argv[1]))
except OperatorFault as fault:
    print(fault.code)
"""


def refusal(path: Path, **changes: object) -> OperatorFault:
    with pytest.raises(OperatorFault) as caught:
        Store.open(path / "store", make_genesis(**changes))
    return caught.value


def test_a_new_store_holds_the_genesis(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, store.snapshot() as snapshot:
        alice = snapshot.account(address_of("alice"))
        assert alice is not None
        assert (alice.xusd, alice.xe, alice.height, alice.head) == (RICH, 0, 0, ZERO_HASH)
        assert alice.representative == GENESIS.representative
        assert snapshot.account(address_of("carol")) is None
        assert snapshot.counts() == (0, 2)
        assert snapshot.supply()[(Asset.XUSD, Bucket.GENESIS)] == 2 * RICH
        assert supply_balances(snapshot.supply())
        assert verify_store(store) == []


def test_it_is_the_same_after_opening_again(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        land(store, *story_blocks())
        with store.snapshot() as snapshot:
            before = (snapshot.tally(), snapshot.accounts(), snapshot.leases(), snapshot.pendings())
    with open_store(tmp_path) as store:
        with store.snapshot() as snapshot:
            assert (snapshot.tally(), snapshot.accounts(), snapshot.leases(), snapshot.pendings()) == before
        assert verify_store(store) == []


def test_another_genesis_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    fault = refusal(tmp_path, network_id="other")
    assert fault.code == "wrong_network"
    assert GENESIS.genesis_hash.hex() in str(fault)
    open_store(tmp_path).close()  # and it let go of the files


@pytest.mark.parametrize(
    ("version", "advice"), [(SCHEMA_VERSION + 1, "the newer xnode"), (SCHEMA_VERSION - 1, "new data directory")]
)
def test_another_schema_is_refused(tmp_path: Path, version: int, advice: str) -> None:
    open_store(tmp_path).close()
    tamper(tmp_path, SCHEMA_KEY, encode((version,)))
    fault = refusal(tmp_path)
    assert fault.code == "schema_version"
    assert advice in str(fault)


def tamper(path: Path, key: bytes, value: bytes | None) -> None:
    database = plyvel.DB(str(path / "store"))
    if value is None:
        database.delete(key)
    else:
        database.put(key, value)
    database.close()


@pytest.mark.parametrize("key", [TALLY_KEY, SCHEMA_KEY, b"mgenesis", ARRIVAL + number(3)])
def test_missing_counters_or_tail_are_found_at_start(tmp_path: Path, key: bytes) -> None:
    with open_store(tmp_path) as store:
        land(store, *story_blocks()[:3])
    tamper(tmp_path, key, None)
    assert refusal(tmp_path).code == "store_corrupt"


def test_a_value_that_is_no_record_is_a_fault(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    tamper(tmp_path, b"a" + address_of("alice"), b"\xff\xff")
    with open_store(tmp_path) as store, store.snapshot() as snapshot:
        with pytest.raises(OperatorFault) as caught:
            snapshot.account(address_of("alice"))
        assert caught.value.code == "store_corrupt"
        assert len(verify_store(store)) == 1


def test_it_is_open_once(tmp_path: Path) -> None:
    with open_store(tmp_path):
        fault = refusal(tmp_path)
    assert fault.code == "store_locked"
    assert "stop that node" in str(fault)
    open_store(tmp_path).close()


@pytest.mark.slow
def test_it_is_open_in_one_process(tmp_path: Path) -> None:
    with open_store(tmp_path):
        command = [sys.executable, "-c", OPEN_ELSEWHERE, str(tmp_path)]
        found = subprocess.run(command, check=True, cwd=ROOT, timeout=30, capture_output=True, text=True)
    assert found.stdout.strip() == "store_locked"


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")
    assert refusal(tmp_path).code == "store_unreadable"


def test_the_directory_is_the_owners(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700


def test_closing_twice_is_nothing_and_then_all_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    transaction = store.transaction()
    store.close()
    store.close()
    for act in (store.snapshot, store.transaction, transaction.tally):
        with pytest.raises(RuntimeError):
            act()


def test_an_open_snapshot_outlives_the_store(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    snapshot = store.snapshot()
    store.close()
    assert snapshot.counts().accounts == 2
    assert refusal(tmp_path).code == "store_locked"
    snapshot.close()
    snapshot.close()
    open_store(tmp_path).close()


def test_the_hook_is_called_around_each_write(tmp_path: Path) -> None:
    calls: list[int] = []
    with open_store(tmp_path, on_write=lambda: calls.append(1)) as store:
        assert len(calls) == 2  # its making
        land(store, *story_blocks()[:3])
        assert len(calls) == 8


def test_a_failed_write_stops_all_writing_until_opened_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first, second = story_blocks()[:2]
    land(store, first)
    (log,) = (tmp_path / "store").glob("*.log")
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    transaction = store.transaction()
    stage(transaction, second)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 10, unlimited[1]))
    try:
        with pytest.raises(OperatorFault) as caught:
            transaction.commit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert caught.value.code == "store_write_failed"
    with pytest.raises(OperatorFault, match="restart"):
        store.transaction()
    with store.snapshot() as snapshot:
        assert snapshot.counts().blocks == 1
    store.close()
    with open_store(tmp_path) as store:
        assert verify_store(store) == []
        land(store, second)
