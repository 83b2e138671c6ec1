"""What was judged before a change of rates or timekeepers was heard of: in the end it is as if it had been known."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.support.ledger import DAY, NOW, Chain, address_of, attest
from tests.support.state import OTHER_RATES, keys_json, next_block, set_op
from tests.support.store import GENESIS
from xnode.core.blocks import Block, LeaseAccept, encode_block
from xnode.core.ledger import Outcome
from xnode.core.price import Rates
from xnode.core.state_blocks import Op
from xnode.core.state_chain import StateOutcome
from xnode.core.values import NS, ZERO_HASH, Hash
from xnode.roles.governance import Governance
from xnode.roles.replica import Replica
from xnode.store.store import Store
from xnode.store.verify import verify_store

ALICE, BOB = Chain(GENESIS, "alice"), Chain(GENESIS, "bob")
DOUBLE = Rates(**OTHER_RATES)
MIXED = ("timekeeper-1", "timekeeper-2", "new")  # two of the old ones; of the new ones the later two


async def publish(_topic: str, _data: bytes) -> None:
    await trio.lowlevel.checkpoint()


class Desk:
    """A ledger and the state chain beside it."""

    def __init__(self, path: Path) -> None:
        self.store = Store.open(path, GENESIS)
        self.replica = Replica(self.store, GENESIS, lambda: NOW, publish)
        self.governance = Governance(self.store, GENESIS, lambda: NOW, publish)
        self.governance.watch(lambda _effects: self.replica.judge_disputed())
        self.gone: list[Block] = []
        self.replica.watch_undone(lambda stored: self.gone.append(stored.block))

    def change(self, *ops: Op) -> None:
        with self.store.snapshot() as view:
            block = next_block(view, GENESIS, *ops, names=("dao",), timestamp=NOW)
        assert self.governance.take(block).outcome is StateOutcome.PROGRESS

    def change_timekeepers(self) -> None:
        self.change(set_op("sys.timekeepers", keys_json("timekeeper-2", "new")))

    def land(self, block: Block) -> Hash:
        assert self.replica.take_synced([encode_block(block)]) == 1
        return ALICE.hash_of(block)

    def review(self, identity: Hash, *, is_bound: bool = False) -> list[Hash]:
        return [stored.block_hash for stored in self.replica.review(identity, lambda *_: is_bound)]

    def start_time(self, lease_hash: Hash) -> int:
        with self.store.snapshot() as view:
            lease = view.lease(lease_hash)
        assert lease is not None
        return lease.start_time

    def has(self, identity: Hash) -> bool:
        with self.store.snapshot() as view:
            return view.has_block(identity)

    def lease(self) -> Hash:
        with self.store.snapshot() as view:
            return self.land(ALICE.lease(view, BOB.address))

    def accept(self, lease_hash: Hash) -> Hash:
        """By both lists, with other medians: now by the old one, a second later by the new one."""
        with self.store.snapshot() as view:
            block = BOB.accept(view, lease_hash)
        assert isinstance(block.body, LeaseAccept)
        attestations = attest(lease_hash, NOW, NOW + NS, NOW + 2 * NS, names=MIXED)
        return self.land(BOB.sign(block._replace(body=block.body._replace(attestations=attestations))))

    def send(self, chain: Chain) -> Hash:
        with self.store.snapshot() as view:
            return self.land(chain.send(view, address_of("anna"), 5))

    def settle(self, lease_hash: Hash, time: int, *names: str) -> Hash:
        with self.store.snapshot() as view:
            block = BOB.settle(view, lease_hash)
        attestations = attest(lease_hash, time, time, names=names)
        return self.land(BOB.sign(block._replace(body=block.body._replace(attestations=attestations))))  # type: ignore[union-attr,call-arg]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    assert verify_store(desk.store) == []
    desk.store.close()


def test_a_held_block_that_is_refused_for_its_price_once_it_is_released_is_tried_again(desk: Desk) -> None:
    with desk.store.snapshot() as view:
        first = ALICE.send(view, address_of("anna"), 5)
        lease = ALICE.lease(view, BOB.address, rates=DOUBLE, previous=ALICE.hash_of(first))
    lease = ALICE.sign(lease._replace(balance=lease.balance - 5))
    assert desk.replica.take(lease).outcome is Outcome.GAP_PREVIOUS
    assert desk.replica.take(first).outcome is Outcome.PROGRESS
    assert (len(desk.replica.held), len(desk.replica.disputed)) == (0, 1)
    desk.change(set_op("sys.rates", OTHER_RATES))
    assert desk.has(ALICE.hash_of(lease))


def test_a_lease_starts_when_the_timekeepers_say_that_were_heard_of_later(desk: Desk, tmp_path: Path) -> None:
    lease = desk.lease()
    accept = desk.accept(lease)
    assert desk.start_time(lease) == NOW
    desk.change_timekeepers()
    assert desk.review(lease) == []
    assert desk.start_time(lease) == NOW, "the lease itself is what it was"
    assert desk.review(accept) == []
    assert (desk.start_time(lease), desk.gone) == (NOW + NS, [])
    assert desk.review(accept) == []
    knew = Desk(tmp_path / "knew")
    knew.change_timekeepers()
    assert knew.accept(knew.lease()) == accept
    assert knew.start_time(lease) == desk.start_time(lease)
    knew.store.close()


def test_what_rests_on_it_lands_again_and_what_is_not_good_any_more_is_gone(desk: Desk) -> None:
    lease = desk.lease()
    accept, after = desk.accept(lease), desk.send(BOB)
    settle = desk.settle(lease, NOW + DAY * NS, "timekeeper-1", "timekeeper-2")  # at the old expiry
    last = desk.send(BOB)
    announced: list[Hash] = []
    desk.replica.watch(lambda applied: announced.extend(effects.block_hash for effects in applied))
    desk.change_timekeepers()
    assert desk.review(accept) == [last, settle]
    assert [ALICE.hash_of(block) for block in desk.gone] == [last, settle]
    assert announced == [accept, after]
    assert desk.has(after)
    assert desk.start_time(lease) == NOW + NS


def test_what_has_our_final_vote_stays_and_does_what_it_does_everywhere(desk: Desk) -> None:
    lease = desk.lease()
    accept = desk.accept(lease)
    desk.change_timekeepers()
    desk.change(set_op("sys.rates", OTHER_RATES))
    assert desk.review(accept, is_bound=True) == []
    assert desk.start_time(lease) == NOW + NS
    assert desk.review(lease, is_bound=True) == []
    assert desk.has(lease)
    assert desk.review(lease) == [accept, lease]
    assert desk.review(lease) == desk.review(ZERO_HASH) == []
