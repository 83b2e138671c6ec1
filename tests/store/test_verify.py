"""Every kind of damage has its sentence; nothing that is stored goes unchecked."""

from collections.abc import Callable
from pathlib import Path

import plyvel
import pytest

from tests.support.ledger import MemoryLedger, address_of
from tests.support.store import GENESIS, NOTES, land, open_store, story_blocks
from xnode.core.codec import decode, encode
from xnode.store.schema import (
    ARRIVAL,
    ARRIVAL_HEAD_BYTES,
    PREFIXES,
    TALLY_KEY,
    UNDO,
    WEIGHT,
    pack_tally,
    unpack_tally,
)
from xnode.store.verify import PROBLEMS_MAX, verify_store

Tamper = Callable[["plyvel.DB"], None]


def problems_after(path: Path, tamper: Tamper) -> list[str]:
    with open_store(path) as store:
        land(store, *story_blocks())
        block = MemoryLedger(GENESIS).chain("dave").claim(MemoryLedger(GENESIS))
        land(store, block)
        assert verify_store(store) == []
    database = plyvel.DB(str(path / "store"))
    tamper(database)
    database.close()
    with open_store(path) as store:
        return verify_store(store, checks_signatures=False)


def first_of(database: "plyvel.DB", prefix: bytes) -> tuple[bytes, bytes]:
    key, value = next(database.iterator(prefix=prefix))
    return key, value


def first_block_of(database: "plyvel.DB", name: str) -> tuple[bytes, bytes]:
    return next((key, value) for key, value in database.iterator(prefix=ARRIVAL) if value.startswith(address_of(name)))


def delete_first(prefix: bytes) -> Tamper:
    return lambda database: database.delete(first_of(database, prefix)[0])


@pytest.mark.parametrize("prefix", [item for item in PREFIXES if item not in b"mn"])
def test_a_missing_entry_is_found(tmp_path: Path, prefix: bytes) -> None:
    assert problems_after(tmp_path, delete_first(prefix))


@pytest.mark.parametrize("prefix", [item for item in PREFIXES if item not in b"mn"])
def test_an_extra_entry_is_found(tmp_path: Path, prefix: bytes) -> None:
    def copy_first(database: "plyvel.DB") -> None:
        key, value = first_of(database, prefix)
        database.put(key[:1] + bytes(31) + b"\x01" + key[33:], value)

    assert problems_after(tmp_path, copy_first)


@pytest.mark.parametrize("field", ["blocks", "accounts", "sequence", "digest", "totals"])
def test_a_wrong_count_is_found(tmp_path: Path, field: str) -> None:
    def change(database: "plyvel.DB") -> None:
        tally = unpack_tally(database.get(TALLY_KEY))
        wrong = {
            "blocks": tally._replace(blocks=tally.blocks + 1),
            "accounts": tally._replace(accounts=tally.accounts - 1),
            "sequence": tally._replace(sequence=tally.sequence - 1),
            "digest": tally._replace(digest=bytes(32)),
            "totals": tally._replace(totals=dict.fromkeys(tally.totals, 0)),
        }
        database.put(TALLY_KEY, pack_tally(wrong[field]))

    assert any(f"counted {field} should be" in item for item in problems_after(tmp_path, change))


def test_a_changed_balance_is_found_twice(tmp_path: Path) -> None:
    def enrich(database: "plyvel.DB") -> None:
        key = b"a" + address_of("bob")
        head, height, xusd, *rest = decode(database.get(key))
        assert isinstance(xusd, int)
        database.put(key, encode((head, height, xusd + 1, *rest)))

    problems = problems_after(tmp_path, enrich)
    assert any(item.startswith("account") for item in problems)
    assert any(item.startswith("balances of XUSD") for item in problems)


def set_final_height(name: str, final_height: int) -> Tamper:
    def change(database: "plyvel.DB") -> None:
        key = b"a" + address_of(name)
        *fields, _, keyset = decode(database.get(key))
        database.put(key, encode((*fields, final_height, keyset)))

    return change


def test_a_final_height_beyond_the_chain_is_found(tmp_path: Path) -> None:
    problems = problems_after(tmp_path, set_final_height("alice", 99))
    assert any(item.startswith("account") for item in problems)
    assert any(item.startswith("undo record") for item in problems)


def test_a_confirmed_block_on_an_unconfirmed_one_is_found(tmp_path: Path) -> None:
    assert any("what it rests on is not" in item for item in problems_after(tmp_path, set_final_height("carol", 1)))


@pytest.mark.parametrize("prefix", [UNDO, WEIGHT])
def test_another_ones_record_is_found(tmp_path: Path, prefix: bytes) -> None:
    def swap(database: "plyvel.DB") -> None:
        (first, one), (second, other), *_ = database.iterator(prefix=prefix)
        database.put(first, other)
        database.put(second, one)

    assert len(problems_after(tmp_path, swap)) == 2


def test_a_changed_block_is_found(tmp_path: Path) -> None:
    def swap(database: "plyvel.DB") -> None:
        key, value = first_block_of(database, "alice")
        _, other = first_block_of(database, "bob")
        database.put(key, value[:ARRIVAL_HEAD_BYTES] + other[ARRIVAL_HEAD_BYTES:])

    assert any("another account's chain" in item for item in problems_after(tmp_path, swap))


def test_a_forged_signature_is_found_when_asked(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        land(store, *story_blocks())
    database = plyvel.DB(str(tmp_path / "store"))
    key, value = first_block_of(database, "alice")
    fields = decode(value[ARRIVAL_HEAD_BYTES:])
    database.put(key, value[:ARRIVAL_HEAD_BYTES] + encode((*fields[:-2], bytes(64), fields[-1])))
    database.close()
    with open_store(tmp_path) as store:
        assert verify_store(store, checks_signatures=False) == []
        assert any("bad_signature" in item for item in verify_store(store))


def test_unknown_keys_are_found_and_notes_are_left_to_their_roles(tmp_path: Path) -> None:
    def add(database: "plyvel.DB") -> None:
        database.put(b"zombie", b"")
        database.put(b"mystery", b"")
        database.put(b"n" + NOTES.encode() + b"\x00k", b"anything")

    assert len(problems_after(tmp_path, add)) == 2


def test_there_is_an_end_to_problems(tmp_path: Path) -> None:
    def add(database: "plyvel.DB") -> None:
        for number in range(2 * PROBLEMS_MAX):
            database.put(b"z" + bytes([number]), b"")

    assert len(problems_after(tmp_path, add)) == PROBLEMS_MAX
