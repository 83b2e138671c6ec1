"""The state chain on disk: it lands whole, is there again after a restart, and damage to it is found."""

from pathlib import Path

import plyvel
import pytest

from tests.support.ledger import NOW
from tests.support.state import OTHER_RATES, SOON, SYNCED, dao_genesis, delete_op, next_block, set_op
from xnode.core.codec import encode
from xnode.core.faults import OperatorFault
from xnode.core.price import Rates
from xnode.core.state_blocks import Op, StateBlock
from xnode.core.state_chain import StateEffects, judge_state
from xnode.core.values import NS
from xnode.store.invariants import InvariantBroken
from xnode.store.schema import ERA, SCHEMA_KEY, STATE_BLOCK, STATE_TIP_KEY, STATE_VALUE, number
from xnode.store.store import Store
from xnode.store.verify import verify_store

GENESIS = dao_genesis()


def open_store(path: Path) -> Store:
    return Store.open(path / "store", GENESIS, reads_back=True)


def judged(store: Store, *ops: Op, timestamp: int = SOON) -> StateEffects:
    with store.snapshot() as view:
        block = next_block(view, GENESIS, *ops, timestamp=timestamp)
        effects = judge_state(view, GENESIS, block, SYNCED)
    assert isinstance(effects, StateEffects), effects
    return effects


def change(store: Store, *ops: Op, timestamp: int = SOON) -> StateBlock:
    effects = judged(store, *ops, timestamp=timestamp)
    with store.transaction() as transaction:
        transaction.stage_state(effects)
        transaction.commit()
    return effects.block


def tell_story(store: Store) -> list[StateBlock]:
    return [
        change(store, set_op("motd", "hello"), set_op("old", 1)),
        change(store, set_op("sys.rates", OTHER_RATES), timestamp=SOON + NS),
        change(store, delete_op("old"), set_op("motd", "bye"), timestamp=SOON + NS),
        change(store, set_op("sys.rates", {**OTHER_RATES, "vcpu": 7}), timestamp=SOON + 2 * NS),
    ]


def check_story(store: Store, blocks: list[StateBlock]) -> None:
    with store.snapshot() as view:
        assert [item.block for item in view.state_blocks(after=0)] == blocks
        assert [item.block.number for item in view.state_blocks(after=4, limit=2, newest_first=True)] == [3, 2]
        assert view.state_tip().number == 4
        assert view.state_hash_at(5) is None
        assert [key for key, _ in view.state_values()] == ["motd", "sys.dao_keyset", "sys.rates", "sys.timekeepers"]
        assert view.state_values(after="sys.dao_keyset", limit=1)[0][0] == "sys.rates"
        assert (view.state_value("motd"), view.state_value("old")) == ('"bye"', None)
        assert [view.charter_at(SOON + n * NS).rates.vcpu for n in (0, 1, 2)] == [20, 40, 7]
        assert view.charters().after(2).rates == Rates(40, 20, 2)
    assert store.charter_at(NOW).rates == GENESIS.rates
    assert verify_store(store) == []


def test_it_is_there_again_after_a_restart(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        blocks = tell_story(store)
        check_story(store, blocks)
    with open_store(tmp_path) as store:
        check_story(store, blocks)


def test_what_is_not_committed_changes_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        with store.transaction() as transaction:
            transaction.stage_state(judged(store, set_op("sys.rates", OTHER_RATES)))
            assert transaction.charter_at(SOON).rates.vcpu == 40
            assert transaction.state_tip().number == 1
        assert store.charter_at(SOON).rates.vcpu == 20
        with store.snapshot() as view:
            assert view.state_tip().number == 0


def test_a_snapshot_keeps_what_held_when_it_was_taken(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, store.snapshot() as before:
        change(store, set_op("sys.rates", OTHER_RATES))
        assert before.charter_at(SOON).rates.vcpu == 20
        assert store.charter_at(SOON).rates.vcpu == 40


def test_a_block_that_does_not_follow_is_not_staged(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        effects = judged(store, set_op("a", 1))
        change(store, set_op("b", 1))
        with store.transaction() as transaction, pytest.raises(InvariantBroken, match="follow"):
            transaction.stage_state(effects)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (STATE_VALUE + b"motd", b'"hello"', "state value"),
        (STATE_VALUE + b"more", b"1", "state value"),
        (STATE_VALUE + b"motd", None, "state value"),
        (STATE_BLOCK + number(3), None, "refused: gap_previous"),
        (STATE_BLOCK + number(4), None, "state block"),
        (ERA + number(SOON + NS) + number(2), None, "era"),
        (STATE_TIP_KEY, encode((3, bytes(32), SOON)), "last state block should be 4"),
    ],
)
def test_damage_is_found(tmp_path: Path, key: bytes, value: bytes | None, says: str) -> None:
    with open_store(tmp_path) as store:
        tell_story(store)
    database = plyvel.DB(str(tmp_path / "store"))
    if value is None:
        database.delete(key)
    else:
        database.put(key, value)
    database.close()
    try:
        with open_store(tmp_path) as store:
            problems = verify_store(store)
    except OperatorFault as fault:
        problems = [str(fault)]
    assert any(says in problem for problem in problems), problems


def test_a_store_of_another_schema_says_what_to_do(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    database = plyvel.DB(str(tmp_path / "store"))
    database.put(SCHEMA_KEY, encode((2,)))
    database.close()
    with pytest.raises(OperatorFault, match="start with a new data directory"):
        open_store(tmp_path)
