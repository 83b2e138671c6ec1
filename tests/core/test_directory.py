"""Who is where (protocol section 10): the newest current record of each account."""

import pytest

from tests.support.ledger import NOW, address_of
from xnode.core.directory import (
    ENTRIES_MAX,
    FUTURE_MAX,
    RENEWED_EVERY,
    VALID_FOR,
    Directory,
    DirectoryRecord,
    is_current,
)
from xnode.core.values import NS, Address

NAMES = ("alice", "bob", "carol")


def record(name: str = "alice", timestamp: int = NOW) -> DirectoryRecord:
    return DirectoryRecord(address_of(name), f"peer-{name}", ("/ip4/192.0.2.1/tcp/9000",), ("provider",), timestamp)


def filled(*records: DirectoryRecord) -> Directory:
    directory = Directory()
    for item in records:
        assert directory.put(item, item.peer_id.encode(), NOW)
    return directory


def test_a_record_is_valid_thirty_minutes_and_renewed_before() -> None:
    assert VALID_FOR == 1800 * NS
    assert RENEWED_EVERY == 1200
    assert is_current(record(), NOW + VALID_FOR)
    assert not is_current(record(), NOW + VALID_FOR + 1)


def test_a_record_from_the_future_is_refused() -> None:
    assert is_current(record(), NOW - FUTURE_MAX)
    assert not is_current(record(), NOW - FUTURE_MAX - 1)
    assert not Directory().put(record(), b"", NOW - FUTURE_MAX - 1)


def test_an_outdated_record_is_refused() -> None:
    assert not Directory().put(record(), b"", NOW + VALID_FOR + 1)


def test_only_a_newer_record_replaces() -> None:
    directory = filled(record())
    for timestamp, taken in ((NOW - 1, False), (NOW, False), (NOW + 1, True)):
        assert directory.put(record(timestamp=timestamp)._replace(peer_id="moved"), b"", NOW) is taken
    found = directory.find(address_of("alice"), NOW)
    assert found is not None
    assert found.peer_id == "moved"


def test_a_known_record_from_the_future_is_replaced_by_a_current_one() -> None:
    """Taken before our clock was set back; it must not stand in the way until its time comes."""
    directory = filled(record())
    back = NOW - 3600 * NS
    assert directory.put(record(timestamp=back)._replace(peer_id="moved"), b"", back)
    found = directory.find(address_of("alice"), back)
    assert found is not None
    assert found.peer_id == "moved"


def test_the_wires_of_some_are_those_that_are_known_and_current() -> None:
    directory = filled(record("alice"), record("bob", NOW - VALID_FOR))
    asked = [address_of(name) for name in ("bob", "carol", "alice")]
    assert directory.wires_of(asked, NOW) == (b"peer-bob", b"peer-alice")
    assert directory.wires_of(asked, NOW + 1) == (b"peer-alice",)


def test_missing_are_the_pinned_without_a_current_record() -> None:
    directory = filled(record("alice"), record("bob"))
    directory.pin(address_of(name) for name in ("alice", "carol"))
    assert directory.missing(NOW) == (address_of("carol"),)
    assert set(directory.missing(NOW + VALID_FOR + 1)) == {address_of("alice"), address_of("carol")}


def test_a_record_is_found_while_it_is_current() -> None:
    directory = filled(record())
    assert directory.find(address_of("alice"), NOW + VALID_FOR) == record()
    assert directory.find(address_of("alice"), NOW + VALID_FOR + 1) is None
    assert directory.find(address_of("bob"), NOW) is None


def test_wires_are_the_newest_first_and_limited() -> None:
    directory = filled(*(record(name) for name in NAMES))
    assert directory.wires(NOW, 2) == (b"peer-carol", b"peer-bob")
    assert len(directory.wires(NOW, 9)) == 3
    assert directory.wires(NOW + VALID_FOR + 1, 9) == ()
    directory.put(record("alice", NOW + 1), b"again", NOW)
    assert directory.wires(NOW, 1) == (b"again",)


def test_records_are_sorted_by_account() -> None:
    directory = filled(*(record(name) for name in NAMES))
    assert [item.account for item in directory.records(NOW)] == sorted(address_of(name) for name in NAMES)


def test_when_full_the_one_heard_longest_ago_leaves() -> None:
    directory = filled(record("alice"), record("bob"))
    for number in range(ENTRIES_MAX - 2):
        directory.put(record()._replace(account=Address(number.to_bytes(32))), b"", NOW)
    directory.put(record("alice", NOW + 1), b"", NOW)
    assert directory.find(address_of("bob"), NOW)
    directory.put(record("carol"), b"", NOW)
    assert directory.find(address_of("bob"), NOW) is None
    assert directory.find(address_of("alice"), NOW)
    assert len(directory.records(NOW)) == ENTRIES_MAX


def test_pinned_accounts_stay_when_made_up_ones_fill_the_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xnode.core.directory.ENTRIES_MAX", 3)
    accounts = [Address(bytes([number]) * 32) for number in range(5)]
    directory = Directory(pinned=accounts[:1])
    for account in accounts:
        assert directory.put(DirectoryRecord(account, "peer", (), (), NOW), b"wire", NOW)
    assert [record.account for record in directory.records(NOW)] == [accounts[0], accounts[3], accounts[4]]
