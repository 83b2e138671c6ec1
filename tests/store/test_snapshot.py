"""The list reads against the naive ledger, page by page, and reading while others write."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support.ledger import NOW, MemoryLedger, address_of, play_all_types
from tests.support.store import GENESIS, land, open_store
from xnode.core.faults import NotFound
from xnode.core.lease import LeaseState
from xnode.core.values import ZERO_HASH, Asset
from xnode.store.snapshot import Snapshot
from xnode.store.store import Store
from xnode.store.verify import verify_store

PEOPLE = ("alice", "bob", "carol", "dave")


def long_story() -> MemoryLedger:
    """The story with every block type, and then many leases, sends and claims."""
    ledger = MemoryLedger(GENESIS)
    play_all_types(ledger)
    alice, bob = ledger.chain("alice"), ledger.chain("bob")
    for number in range(9):
        provider = address_of(("bob", "carol", "alice")[number % 3])
        consumer = bob if number % 3 == 2 else alice
        lease = ledger.play(consumer.lease(ledger, provider, timestamp=NOW + (number * 7) % 5))
        if number % 3 == 0 and number:
            ledger.play(bob.accept(ledger, lease))
        if number == 6:
            ledger.play(bob.settle(ledger, lease))
        ledger.play(alice.send(ledger, address_of(PEOPLE[1 + number % 3]), 1 + number))
    ledger.play(ledger.chain("dave").claim(ledger))
    return ledger


@pytest.fixture(scope="module")
def ledger() -> MemoryLedger:
    return long_story()


@pytest.fixture(scope="module")
def store(ledger: MemoryLedger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("snapshot")) as store:
        land(store, *ledger.blocks.values())
        yield store


@pytest.fixture
def snapshot(store: Store) -> Iterator[Snapshot]:
    with store.snapshot() as snapshot:
        yield snapshot


def pages(read: Callable[..., Sequence[Any]], cursor: Callable[[Any], Any], limit: int = 2) -> list[Any]:
    """All items, read page by page; `cursor` makes the next `after` of the last item."""
    found: list[Any] = []
    while page := read(after=cursor(found[-1]) if found else None, limit=limit):
        assert len(page) <= limit
        found += page
    return found


def test_it_is_sound(store: Store) -> None:
    assert verify_store(store) == []


def test_one_by_one(ledger: MemoryLedger, snapshot: Snapshot) -> None:
    for address, account in ledger.accounts.items():
        assert snapshot.account(address) == account
    for block_hash, block in ledger.blocks.items():
        stored = snapshot.block(block_hash)
        assert stored is not None
        assert stored.block == block
        assert snapshot.has_block(block_hash)
        assert snapshot.block_at(block.account, stored.height) == stored
        assert snapshot.standing(block_hash) == (block.account, stored.height, block_hash, stored.sequence)
    for key, entry in ledger.pendings.items():
        assert snapshot.pending(*key) == entry
    for lease_hash, lease in ledger.leases.items():
        assert snapshot.lease(lease_hash) == lease


def test_what_is_not_there_is_none(snapshot: Snapshot) -> None:
    nobody = address_of("nobody")
    assert snapshot.account(nobody) is None
    assert snapshot.block(ZERO_HASH) is None
    assert snapshot.standing(ZERO_HASH) is None
    assert snapshot.block_at(address_of("alice"), 0) is None
    assert snapshot.pending(nobody, ZERO_HASH) is None
    assert snapshot.lease(ZERO_HASH) is None
    assert snapshot.provider_record(nobody) == (0, 0)
    assert snapshot.note("test", b"nothing") is None
    assert not snapshot.chain(nobody)
    assert not snapshot.pendings(nobody)
    assert not snapshot.leases(consumer=nobody)


def test_accounts_and_frontiers(ledger: MemoryLedger, snapshot: Snapshot) -> None:
    accounts = sorted(ledger.accounts.values())
    assert snapshot.accounts() == accounts
    assert pages(snapshot.accounts, lambda item: item.address) == accounts
    frontiers = [(item.address, item.height, item.head) for item in accounts if item.height]
    assert pages(snapshot.frontiers, lambda item: item.address, limit=1) == frontiers


def test_a_chain_up_and_down(ledger: MemoryLedger, snapshot: Snapshot) -> None:
    alice = address_of("alice")
    blocks = [item for item in ledger.blocks.values() if item.account == alice]
    chain = snapshot.chain(alice)
    assert [item.block for item in chain] == blocks
    assert [item.height for item in chain] == list(range(1, len(blocks) + 1))
    assert snapshot.chain(alice, newest_first=True) == chain[::-1]
    assert snapshot.chain(alice, after_height=3, limit=2) == chain[3:5]
    assert snapshot.chain(alice, after_height=3, newest_first=True) == chain[1::-1]
    assert snapshot.chain(alice, after_height=len(blocks)) == []


def test_blocks_by_arrival(ledger: MemoryLedger, snapshot: Snapshot) -> None:
    hashes = list(ledger.blocks)
    since = snapshot.blocks_since(0, limit=1000)
    assert [item.block_hash for item in since] == hashes
    assert [item.sequence for item in since] == list(range(1, len(hashes) + 1))
    assert snapshot.blocks_since(4, limit=3) == since[4:7]
    assert snapshot.blocks_since(len(hashes)) == []
    assert snapshot.recent_blocks(3) == since[:-4:-1]


def test_pendings(ledger: MemoryLedger, snapshot: Snapshot) -> None:
    everything = [ledger.pendings[key] for key in sorted(ledger.pendings)]
    assert len(everything) > 5
    assert pages(snapshot.pendings, lambda item: (item.destination, item.source)) == everything
    carol = address_of("carol")
    hers = [item for item in everything if item.destination == carol]
    assert snapshot.pendings(carol) == hers
    assert snapshot.pendings(carol, after=(carol, hers[0].source), limit=1) == hers[1:2]


FILTERS = product((None, *LeaseState), (None, "alice", "bob", "carol"), (None, "alice", "bob"))


@pytest.mark.parametrize(("state", "consumer", "provider"), list(FILTERS))
def test_leases_by_every_filter(
    ledger: MemoryLedger, snapshot: Snapshot, state: LeaseState | None, consumer: str | None, provider: str | None
) -> None:
    filters = {
        "state": state,
        "consumer": consumer and address_of(consumer),
        "provider": provider and address_of(provider),
    }
    wanted: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    everything = sorted(ledger.leases.values(), key=lambda item: (item.created_at, item.lease_hash))
    right = [item for item in everything if all(getattr(item, name) == value for name, value in wanted.items())]
    found = pages(lambda **page: snapshot.leases(**wanted, **page), lambda item: item.lease_hash)
    assert found == right


def test_leases_go_on_after_a_lease_that_left_the_filter(ledger: MemoryLedger, snapshot: Snapshot) -> None:
    """A page's last lease may be accepted before the next page is asked for."""
    everything = snapshot.leases()
    after = next(item for item in everything if item.state is not LeaseState.CREATED)
    right = [item for item in everything[everything.index(after) :] if item.state is LeaseState.CREATED]
    assert snapshot.leases(state=LeaseState.CREATED, after=after.lease_hash) == right


def test_leases_from_a_time_on(ledger: MemoryLedger, snapshot: Snapshot) -> None:
    everything = snapshot.leases()
    times = sorted({item.created_at for item in everything})
    assert len(times) > 1
    for since in (0, *times, times[-1] + 1):
        right = [item for item in everything if item.created_at >= since]
        assert snapshot.leases(since=since) == right
        found = pages(partial(snapshot.leases, since=since), lambda item: item.lease_hash)
        assert found == right
    assert snapshot.leases(since=times[-1], after=everything[0].lease_hash) == snapshot.leases(since=times[-1])


def test_leases_after_an_unknown_one_are_refused(snapshot: Snapshot) -> None:
    with pytest.raises(NotFound, match="last lease of a page"):
        snapshot.leases(after=ZERO_HASH)


def test_supply_counts_and_records(ledger: MemoryLedger, snapshot: Snapshot) -> None:
    assert {key: amount for key, amount in snapshot.supply().items() if amount} == ledger.totals()
    assert snapshot.counts() == (len(ledger.blocks), len(ledger.accounts))
    assert snapshot.provider_record(address_of("bob")) == (2, 1)


def test_the_digest_tells_whether_frontiers_are_equal(tmp_path: Path) -> None:
    ledger = MemoryLedger(GENESIS)
    sends = [ledger.chain(name).send(ledger, address_of("carol"), 5) for name in ("alice", "bob")]
    digests = []
    for number, blocks in enumerate([sends, sends[::-1], sends[:1], []]):
        with open_store(tmp_path / str(number)) as store:
            land(store, *blocks)
            with store.snapshot() as snapshot:
                digests.append(snapshot.frontiers_digest())
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert digests[3] == bytes(32)


def test_it_does_not_change(tmp_path: Path) -> None:
    ledger = long_story()
    blocks = list(ledger.blocks.values())
    with open_store(tmp_path) as store:
        land(store, *blocks[:5])
        with store.snapshot() as snapshot:
            before = (snapshot.tally(), snapshot.accounts(), snapshot.recent_blocks(), snapshot.leases())
            land(store, *blocks[5:])
            assert (snapshot.tally(), snapshot.accounts(), snapshot.recent_blocks(), snapshot.leases()) == before


def test_after_closing_it_is_refused(store: Store) -> None:
    snapshot = store.snapshot()
    snapshot.close()
    with pytest.raises(RuntimeError):
        snapshot.counts()


@pytest.mark.slow
def test_other_threads_read_whole_transactions_meanwhile(tmp_path: Path) -> None:
    """Two readers on their own threads, while this one writes and at last closes the store."""
    ledger = MemoryLedger(GENESIS)
    alice = ledger.chain("alice")
    wrong: list[str] = []
    with open_store(tmp_path) as store:
        threads = [Thread(target=_read_until_closed, args=(store, wrong)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(25):
            block = alice.send(ledger, address_of("bob"), 1, Asset.XUSD)
            ledger.play(block)
            land(store, block)
    for thread in threads:
        thread.join()
    assert wrong == []


def _read_until_closed(store: Store, wrong: list[str]) -> None:
    while True:
        try:
            snapshot = store.snapshot()
        except RuntimeError:
            return
        with snapshot:
            blocks = snapshot.counts().blocks
            found = (len(snapshot.chain(address_of("alice"))), len(snapshot.pendings()), len(snapshot.recent_blocks()))
            if found != (blocks, blocks, blocks):
                wrong.append(f"{blocks} {found}")
