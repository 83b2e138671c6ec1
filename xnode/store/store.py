"""The ledger on disk: opened for one network, read by snapshots, written by one transaction at a time.

Durability: when `Transaction.commit` returns, what it staged is on disk; a process killed at any moment leaves a store
in which each transaction is there whole or not at all.
"""

from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path

from xnode.core.charter import Charter, Charters, genesis_charters
from xnode.core.codec import encode
from xnode.core.faults import OperatorFault
from xnode.core.genesis import Genesis
from xnode.core.values import Hash
from xnode.store.counter import opening_accounts, opening_tally, sum_weights
from xnode.store.first_undo import FirstUndo
from xnode.store.landed import Landed
from xnode.store.leveldb import Database, Engine, corrupt, open_plyvel
from xnode.store.schema import (
    ACCOUNT,
    ARRIVAL,
    CHAIN,
    FRONTIER_SUM,
    GENESIS_KEY,
    SCHEMA_KEY,
    SCHEMA_VERSION,
    TALLY_KEY,
    number,
    pack_account,
    pack_standing,
    pack_tally,
    place,
    unpack,
    unpack_arrival,
    unpack_tally,
    weight_rows,
)
from xnode.store.snapshot import Snapshot
from xnode.store.staging import Changes
from xnode.store.state import load_charters, opening_state
from xnode.store.transaction import Transaction

WriteHook = Callable[[], None]


class Store:
    """Made by `Store.open`. Snapshots may be taken on any thread; transactions belong to the one that writes."""

    def __init__(self, database: Database, genesis: Genesis, on_write: WriteHook | None, reads_back: bool) -> None:
        self.genesis = genesis
        self.on_write = on_write  # called right before and right after each durable write
        self._database: Database | None = database
        self._reads_back = reads_back
        self._transaction: Transaction | None = None
        self._lent: Callable[[], None] | None = None
        self._landed = Landed({})
        self._first_undo = FirstUndo()
        self._failure: OperatorFault | None = None
        self.on_failure: Callable[[], None] = lambda: None  # called once a write has failed; see `failure`
        self._charters = genesis_charters(genesis)

    @classmethod
    def open(
        cls,
        path: Path,
        genesis: Genesis,
        on_write: WriteHook | None = None,
        reads_back: bool = False,
        engine: Engine = open_plyvel,
    ) -> "Store":
        """Opens the store in the directory `path`, or makes it with the genesis' allocations.

        `reads_back` checks every write by reading it, `engine` opens what stands in for LevelDB (both for tests).
        Raises OperatorFault: store_locked, store_corrupt, store_unreadable, schema_version, wrong_network.
        """
        database = Database(path, engine)
        store = cls(database, genesis, on_write, reads_back)
        try:
            if next(database.scan(b""), None) is None:
                store._write(_opening(genesis))
            _check_identity(database, genesis)
            _check_counter(database)
            store._charters = load_charters(database, genesis)
            store._landed = Landed(_load_sums(database))
        except BaseException:
            database.release()
            raise
        return store

    def close(self) -> None:
        """Ends it; the files are free once the last open snapshot is closed too. A second call does nothing."""
        database, self._database = self._database, None
        if self._transaction is not None:
            self._transaction.discard()
        if database is not None:
            database.release()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_database(self) -> Database:
        if self._database is None:
            raise RuntimeError("the store is closed")
        return self._database

    def snapshot(self) -> Snapshot:
        """All that is committed now; to be closed (`with`)."""
        return Snapshot(self._open_database().freeze(), self._charters, self._first_undo)

    def frontier_sums(self) -> Mapping[int, int]:
        """The sums of frontiers by bucket as of the last commit; a bucket that is not there has 0.

        From memory: rows that are written anew with every batch take long to be read in LevelDB.
        """
        return self._landed.sums

    def charters_since(self, time: int) -> tuple[Charter, ...]:
        """What holds at `time` (ns) and what is known to hold later. On any thread."""
        return self._charters.since(time)

    def charter_at(self, time: int) -> Charter:
        """The rates and timekeepers that hold at `time` (ns), as far as the state chain is here. On any thread."""
        return self._charters.at(time)

    def transaction(self) -> Transaction:
        """A new transaction; raises RuntimeError while another is open.

        Once a write has failed this raises its fault: what is on disk then is known only after a restart.
        """
        self.land_lent()
        if self._failure is not None:
            raise self._failure
        if self._transaction is not None and self._transaction.is_open:
            raise RuntimeError("a transaction is open; commit or discard it first")
        self._transaction = Transaction(self._open_database(), self.genesis, self._charters, self._landed, self._land)
        return self._transaction

    @property
    def failure(self) -> OperatorFault | None:
        """The fault of a write that failed: from then on nothing can be written before a restart."""
        return self._failure

    def lend(self, settle: Callable[[], None] | None) -> None:
        """Lets the open transaction stay open while others run: who needs one of its own meanwhile calls `settle`.

        That must commit or discard it. None ends the loan. For work in many steps that land in one batch.
        """
        self._lent = settle

    def land_lent(self) -> None:
        """Ends the loan, if there is one: what was under way is then in the snapshots too."""
        if self._lent is not None:
            settle, self._lent = self._lent, None
            settle()

    def _land(self, changes: Changes, charters: Charters, first_undo: bytes) -> None:
        if first_undo:
            self._first_undo.lower(first_undo)
        self._write(changes)
        if first_undo:
            self._first_undo.lower(first_undo)
        self._charters = charters

    def _write(self, changes: Changes) -> None:
        database = self._open_database()
        if self.on_write is not None:
            self.on_write()
        try:
            database.write(changes)
        except OperatorFault as fault:
            self._failure = fault
            self.on_failure()
            raise
        if self.on_write is not None:
            self.on_write()
        if self._reads_back and any(database.get(key) != value for key, value in changes.items()):
            raise corrupt("a write reads back otherwise")


def _opening(genesis: Genesis) -> Changes:
    """All that a new store holds."""
    opening = opening_accounts(genesis)
    weights = [weight_rows(address, 0, weight) for address, weight in sum_weights(opening).items()]
    return {
        **{ACCOUNT + item.address: pack_account(item) for item in opening},
        **dict(chain.from_iterable(rows.items() for rows in weights)),
        SCHEMA_KEY: encode((SCHEMA_VERSION,)),
        GENESIS_KEY: encode((genesis.genesis_hash,)),
        TALLY_KEY: pack_tally(opening_tally(genesis)),
        **opening_state(genesis),
    }


def _load_sums(database: Database) -> dict[int, int]:
    """Those of all buckets that have one."""
    rows = database.scan(FRONTIER_SUM)
    return {int.from_bytes(key[1:], "big"): int.from_bytes(value, "big") for key, value in rows}


def _check_identity(database: Database, genesis: Genesis) -> None:
    schema, network = database.get(SCHEMA_KEY), database.get(GENESIS_KEY)
    if schema is None:
        raise corrupt("it has no schema version")
    (version,) = unpack(schema)
    if version != SCHEMA_VERSION:
        raise OperatorFault(
            "schema_version",
            f"the store has schema {version}, this xnode reads {SCHEMA_VERSION}; "
            + (
                "run the newer xnode that wrote it"
                if version > SCHEMA_VERSION
                else "an older xnode wrote it, and there is no conversion; start with a new data directory"
            ),
        )
    if network is None:
        raise corrupt("it has no genesis hash")
    (genesis_hash,) = unpack(network)
    if genesis_hash != genesis.genesis_hash:
        raise OperatorFault(
            "wrong_network",
            f"the store was made for the genesis {Hash(genesis_hash).hex()}, and the node is set to "
            f"{genesis.genesis_hash.hex()} ({genesis.network_id}); give it that genesis or another data directory",
        )


def _check_counter(database: Database) -> None:
    """Compares the last arrival with what the tally says of it, so that a lost tail or counters are found at once."""
    tally = database.get(TALLY_KEY)
    if tally is None:
        raise corrupt("its counters are missing")
    last = unpack_tally(tally).last_arrival
    key, value = next(database.scan(ARRIVAL, newest_first=True), (ARRIVAL + number(0), b""))
    if key != ARRIVAL + number(last):
        raise corrupt(f"its last arrival should be number {last}, and is another")
    if last == 0:
        return
    block = unpack_arrival(number(last), value)
    at = place(block.block.account, block.height)
    if database.get(CHAIN + at) != pack_standing(number(last), block.block_hash):
        raise corrupt("its last block is not where its index says")
