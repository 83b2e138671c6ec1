"""What a timekeeper signs, on a real store and with clocks in the test's hand (protocol section 7)."""

from pathlib import Path

import pytest

from tests.support.ledger import NOW, TIMEKEEPER_NAMES, Chain, key_of
from tests.support.store import GENESIS, land, open_store
from xnode.core.attestations import is_valid
from xnode.core.faults import NotFound, Unavailable
from xnode.core.values import NS, Hash
from xnode.roles.timekeeper import SIGNINGS_MAX, Timekeeper
from xnode.store.store import Store


class Clocks:
    """A wall clock that can be set, and a monotonic one."""

    def __init__(self) -> None:
        self.wall_ns = NOW
        self.monotonic_ns = 5 * NS

    def wall(self) -> int:
        return self.wall_ns

    def monotonic(self) -> int:
        return self.monotonic_ns

    def run(self, seconds: float) -> None:
        self.wall_ns += int(seconds * NS)
        self.monotonic_ns += int(seconds * NS)

    def step(self, seconds: float) -> None:
        self.wall_ns += int(seconds * NS)


def open_lease(store: Store) -> Hash:
    with store.snapshot() as view:
        block = Chain(GENESIS, "alice").lease(view, Chain(GENESIS, "bob").address)
    return land(store, block)[0]


def make(store: Store, clocks: Clocks, name: str = TIMEKEEPER_NAMES[0]) -> Timekeeper:
    return Timekeeper(key_of(name), store, GENESIS, clocks.wall, clocks.monotonic)


def test_it_signs_the_time_of_a_lease_that_it_knows(tmp_path: Path) -> None:
    clocks = Clocks()
    with open_store(tmp_path) as store:
        keeper, lease_hash = make(store, clocks), open_lease(store)
        attestation = keeper.attest(lease_hash, b"bob")
        assert attestation.timestamp == NOW
        assert is_valid(attestation, lease_hash, GENESIS.timekeepers.keys)
        assert keeper.is_listed
        assert not make(store, clocks, "somebody").is_listed
        with pytest.raises(NotFound):
            keeper.attest(Hash(b"?" * 32), b"bob")


def test_one_for_each_requester_in_30_seconds_also_after_a_restart(tmp_path: Path) -> None:
    clocks = Clocks()
    with open_store(tmp_path) as store:
        keeper, lease_hash = make(store, clocks), open_lease(store)
        first = keeper.attest(lease_hash, b"bob")
        clocks.run(10)
        assert keeper.attest(lease_hash, b"bob") == first
        other = keeper.attest(lease_hash, b"alice")
        assert other.timestamp == first.timestamp + 10 * NS
    with open_store(tmp_path) as store:
        keeper = make(store, clocks)
        clocks.run(19)
        assert keeper.attest(lease_hash, b"bob") == first
        clocks.run(1)
        assert keeper.attest(lease_hash, b"bob").timestamp == NOW + 30 * NS
        assert keeper.attest(lease_hash, b"alice") == other


def test_never_backwards_also_after_a_restart(tmp_path: Path) -> None:
    clocks = Clocks()
    with open_store(tmp_path) as store:
        keeper, lease_hash = make(store, clocks), open_lease(store)
        keeper.attest(lease_hash, b"bob")
        clocks.step(-1)  # too little to be called a step
        with pytest.raises(Unavailable, match="already signed a later time"):
            keeper.attest(lease_hash, b"bob")
    clocks.step(-100)
    with open_store(tmp_path) as store:
        keeper = make(store, clocks)
        with pytest.raises(Unavailable, match="already signed a later time"):
            keeper.attest(lease_hash, b"alice")
        clocks.run(101)
        assert keeper.attest(lease_hash, b"alice").timestamp == NOW


@pytest.mark.parametrize("seconds", [3, -3, 86_400, -86_400])
def test_a_stepped_clock_signs_nothing_for_a_minute(tmp_path: Path, seconds: int) -> None:
    clocks = Clocks()
    with open_store(tmp_path) as store:
        keeper, lease_hash = make(store, clocks), open_lease(store)
        clocks.run(5)
        assert keeper.watch_clock()
        clocks.step(seconds)
        assert not keeper.watch_clock()
        clocks.run(59)
        with pytest.raises(Unavailable, match="stepped") as caught:
            keeper.attest(lease_hash, b"bob")
        assert caught.value.retryable
        clocks.run(1)
        assert keeper.watch_clock()
        if clocks.wall_ns > GENESIS.created_at:
            assert keeper.attest(lease_hash, b"bob").timestamp == clocks.wall_ns
        else:
            with pytest.raises(Unavailable, match="before the network began"):
                keeper.attest(lease_hash, b"bob")


def test_a_step_between_two_requests_is_seen_without_a_watcher(tmp_path: Path) -> None:
    clocks = Clocks()
    with open_store(tmp_path) as store:
        keeper, lease_hash = make(store, clocks), open_lease(store)
        keeper.attest(lease_hash, b"bob")
        clocks.run(60)
        clocks.step(3)
        with pytest.raises(Unavailable, match="stepped"):
            keeper.attest(lease_hash, b"bob")


def test_what_is_remembered_of_one_lease_is_bounded(tmp_path: Path) -> None:
    clocks = Clocks()
    with open_store(tmp_path) as store:
        keeper, lease_hash = make(store, clocks), open_lease(store)
        times = []
        for number in range(3 * SIGNINGS_MAX):
            times.append(keeper.attest(lease_hash, b"peer %d" % number).timestamp)
            clocks.run(1)
        assert times == sorted(times)
        assert len(keeper._signings(lease_hash)) == SIGNINGS_MAX
