"""Every rule of the state chain by name, accepting and refusing (protocol section 9)."""

import pytest

from tests.support.ledger import NOW, key_of
from tests.support.state import (
    DAO_NAMES,
    LIVE,
    OTHER_RATES,
    SOON,
    SYNCED,
    StateMemory,
    dao_genesis,
    delete_op,
    keys_json,
    keyset_of,
    next_block,
    set_op,
    signed,
)
from xnode.core.charter import Charter
from xnode.core.price import Rates
from xnode.core.state_blocks import Action, Op, StateBlock, genesis_state_block, state_hash
from xnode.core.state_chain import AHEAD_MAX, LATE_MAX, Arrival, StateOutcome
from xnode.core.state_values import VALUE_BYTES_MAX
from xnode.core.values import NS, ZERO_HASH, Hash

GENESIS = dao_genesis()


@pytest.fixture
def chain() -> StateMemory:
    return StateMemory(GENESIS)


def test_block_0_is_the_genesis_document(chain: StateMemory) -> None:
    block = genesis_state_block(GENESIS)
    assert (block.number, block.previous, block.timestamp, block.signatures) == (0, ZERO_HASH, GENESIS.created_at, ())
    assert chain.charters().latest == Charter(GENESIS.dao, GENESIS.timekeepers, GENESIS.rates)
    assert set(chain.map) == {"sys.dao_keyset", "sys.timekeepers", "sys.rates"}


def test_another_networks_block_0_has_another_hash() -> None:
    other = dao_genesis(network_id="other")
    hashes = {state_hash(item.network_key, genesis_state_block(item)) for item in (GENESIS, other)}
    assert len(hashes) == 2


def test_a_signed_change_is_accepted(chain: StateMemory) -> None:
    chain.accepted(chain.next(set_op("motd", "hello"), set_op("limits", {"a": [1, None]})))
    assert chain.state_tip().number == 1
    assert (chain.map["motd"], chain.map["limits"]) == ('"hello"', '{"a":[1,null]}')


def test_old(chain: StateMemory) -> None:
    block = chain.next()
    chain.accepted(block)
    chain.refused(block, StateOutcome.OLD)
    chain.refused(signed(GENESIS, block, "dao-2", "dao-3"), StateOutcome.OLD)
    chain.refused(genesis_state_block(GENESIS), StateOutcome.OLD)


def test_gap_previous(chain: StateMemory) -> None:
    first = chain.next()
    chain.refused(signed(GENESIS, first._replace(number=2), *DAO_NAMES[:2]), StateOutcome.GAP_PREVIOUS)
    chain.accepted(first)
    chain.accepted(chain.next())


def test_bad_previous(chain: StateMemory) -> None:
    chain.refused(chain.next(previous=Hash(b"?" * 32)), StateOutcome.BAD_PREVIOUS)
    chain.refused(chain.next(number=0), StateOutcome.BAD_PREVIOUS)


def test_fork_the_first_stays(chain: StateMemory) -> None:
    first, second = chain.next(set_op("a", 1)), chain.next(set_op("a", 2))
    chain.accepted(first)
    chain.refused(second, StateOutcome.FORK)
    chain.accepted(chain.next(set_op("b", 1)))
    chain.refused(second, StateOutcome.FORK)
    chain.refused(second, StateOutcome.FORK, SYNCED)
    assert chain.map["a"] == "1"


def test_a_fork_is_only_what_the_keyset_of_its_time_has_signed(chain: StateMemory) -> None:
    by_old = chain.next(set_op("sys.rates", OTHER_RATES))
    chain.accepted(chain.next(set_op("sys.dao_keyset", keys_json("new-1", "new-2"))))
    new = ("new-1", "new-2")
    chain.accepted(chain.next(names=new))
    chain.refused(by_old, StateOutcome.FORK)
    chain.refused(signed(GENESIS, by_old, *new), StateOutcome.BAD_SIGNATURE)
    chain.refused(signed(GENESIS, by_old, "dao-1"), StateOutcome.FEW_SIGNATURES)


def test_few_signatures_says_how_many_are_missing(chain: StateMemory) -> None:
    assert "2 more" in chain.refused(chain.next(names=()), StateOutcome.FEW_SIGNATURES).detail
    assert "1 more" in chain.refused(chain.next(names=("dao-3",)), StateOutcome.FEW_SIGNATURES).detail
    chain.accepted(chain.next(names=("dao-1", "dao-3")))


def test_bad_signature(chain: StateMemory) -> None:
    good = chain.next()
    chain.refused(chain.next(names=("dao-1", "stranger")), StateOutcome.BAD_SIGNATURE)
    chain.refused(chain.next(names=DAO_NAMES), StateOutcome.BAD_SIGNATURE)  # one too many
    chain.refused(good._replace(signatures=good.signatures[::-1]), StateOutcome.BAD_SIGNATURE)
    chain.refused(good._replace(signatures=good.signatures[:1] * 2), StateOutcome.BAD_SIGNATURE)
    chain.refused(good._replace(timestamp=good.timestamp + 1), StateOutcome.BAD_SIGNATURE)
    other = dao_genesis(network_id="other")
    foreign = signed(other, good, *DAO_NAMES[:2])
    chain.refused(foreign, StateOutcome.BAD_SIGNATURE)
    chain.accepted(good)


def test_bad_timestamp_before_the_block_before_it(chain: StateMemory) -> None:
    chain.accepted(chain.next(timestamp=SOON))
    chain.refused(chain.next(timestamp=SOON - 1), StateOutcome.BAD_TIMESTAMP)
    chain.refused(chain.next(timestamp=SOON - 1), StateOutcome.BAD_TIMESTAMP, None)
    chain.accepted(chain.next(timestamp=SOON))


def test_bad_timestamp_a_live_block_that_holds_already(chain: StateMemory) -> None:
    late = chain.next(timestamp=NOW - LATE_MAX - 1)
    assert "ahead" in chain.refused(late, StateOutcome.BAD_TIMESTAMP).detail
    chain.accepted(late, SYNCED)
    chain.accepted(chain.next(timestamp=NOW - LATE_MAX), LIVE)


@pytest.mark.parametrize("arrival", [LIVE, SYNCED])
def test_bad_timestamp_too_far_ahead(chain: StateMemory, arrival: Arrival) -> None:
    chain.refused(chain.next(timestamp=NOW + AHEAD_MAX + 1), StateOutcome.BAD_TIMESTAMP, arrival)
    chain.accepted(chain.next(timestamp=NOW + AHEAD_MAX), arrival)


def test_bad_ops(chain: StateMemory) -> None:
    empty = StateBlock(1, chain.state_tip().block_hash, (), SOON)
    chain.refused(signed(GENESIS, empty, *DAO_NAMES[:2]), StateOutcome.BAD_OPS)
    chain.refused(chain.next(set_op("a", 1), set_op("a", 2)), StateOutcome.BAD_OPS)
    chain.accepted(chain.next(set_op("a", 1), set_op("b", 2)))
    chain.refused(chain.next(set_op("a", 1), delete_op("a")), StateOutcome.BAD_OPS)


@pytest.mark.parametrize("key", ["", "A", "a b", "a/b", "a" * 129, "é", "a\n"])
def test_bad_key(chain: StateMemory, key: str) -> None:
    chain.refused(chain.next(set_op(key, 1)), StateOutcome.BAD_KEY)


@pytest.mark.parametrize("key", ["a", "a" * 128, "a.b-c_d.0", "system", "."])
def test_good_keys(chain: StateMemory, key: str) -> None:
    chain.accepted(chain.next(set_op(key, 1)))
    assert chain.map[key] == "1"


def test_delete(chain: StateMemory) -> None:
    chain.refused(chain.next(delete_op("a")), StateOutcome.BAD_KEY)
    chain.accepted(chain.next(set_op("a", 1)))
    chain.accepted(chain.next(delete_op("a")))
    assert "a" not in chain.map
    chain.refused(chain.next(delete_op("a")), StateOutcome.BAD_KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "1.0",
        "1e3",
        "NaN",
        " 1",
        '{"b":1,"a":2}',
        '{"a":1,"a":1}',
        '"\\u0041"',
        "[1, 2]",
        "-9223372036854775809",
        "18446744073709551616",
        "[" * 17 + "]" * 17,
        "[" * 30_000,
        "9" * 5_000,
        '"\\ud800"',
    ],
    ids=lambda text: text[:12],
)
def test_bad_value(chain: StateMemory, text: str) -> None:
    chain.refused(chain.next(Op(Action.SET, "a", text)), StateOutcome.BAD_VALUE)


@pytest.mark.parametrize(
    "text",
    [
        "1", "-9223372036854775808", "18446744073709551615", "null", "true", '"é"', '{"a":{"b":[]},"c":"\\""}',
        "[" * 16 + "]" * 16,
    ],
)  # fmt: skip
def test_good_values(chain: StateMemory, text: str) -> None:
    chain.accepted(chain.next(Op(Action.SET, "a", text)))
    assert chain.map["a"] == text


def test_a_value_of_64_kib_and_one_byte_more(chain: StateMemory) -> None:
    text = '"' + "a" * (VALUE_BYTES_MAX - 2) + '"'
    chain.accepted(chain.next(Op(Action.SET, "a", text)))
    chain.refused(chain.next(Op(Action.SET, "a", text[:-1] + 'a"')), StateOutcome.BAD_VALUE)


@pytest.mark.parametrize("key", ["sys.rates", "sys.dao_keyset", "sys.timekeepers", "sys.anything"])
def test_system_keys_are_never_deleted(chain: StateMemory, key: str) -> None:
    chain.refused(chain.next(delete_op(key)), StateOutcome.SYSTEM_DELETE)


def test_unknown_system_keys_are_refused(chain: StateMemory) -> None:
    chain.refused(chain.next(set_op("sys.speed", 1)), StateOutcome.UNKNOWN_SYSTEM_KEY)
    chain.accepted(chain.next(set_op("system.speed", 1)))


@pytest.mark.parametrize(
    "value",
    [
        1, {}, {"keys": []}, keys_json("a", threshold=0), keys_json("a", threshold=2), keys_json("a", "b", threshold=1),
        {"keys": keys_json("a", "b")["keys"][::-1], "threshold": 2},  # type: ignore[index]
        {"keys": keys_json("a")["keys"] * 2, "threshold": 2},  # type: ignore[operator]
        {"keys": ["00" * 32], "threshold": 1}, {"keys": ["A" * 64], "threshold": 1}, {"keys": "ab", "threshold": 1},
        {"keys": [], "threshold": 1}, {**keys_json("a", threshold=1), "more": 1}, {**keys_json("a"), "threshold": True},
        keys_json(*map(str, range(101))),
    ],
)  # fmt: skip
def test_bad_keyset(chain: StateMemory, value: object) -> None:
    chain.refused(chain.next(set_op("sys.dao_keyset", value)), StateOutcome.BAD_KEYSET)


def test_a_new_keyset_signs_from_the_next_block_on(chain: StateMemory) -> None:
    new = ("new-1", "new-2")
    change = [set_op("sys.dao_keyset", keys_json(*new))]
    chain.refused(chain.next(*change, names=new), StateOutcome.BAD_SIGNATURE)
    chain.accepted(chain.next(*change, timestamp=SOON + 3600 * NS))
    chain.refused(chain.next(), StateOutcome.BAD_SIGNATURE)
    chain.accepted(chain.next(names=new))
    assert chain.charters().latest.dao == keyset_of(*new)


def test_one_key_may_rule_alone(chain: StateMemory) -> None:
    chain.accepted(chain.next(set_op("sys.dao_keyset", keys_json("alone", threshold=1))))
    chain.accepted(chain.next(names=("alone",)))


@pytest.mark.parametrize(
    "value",
    [
        None, {"keys": []}, {"keys": [], "threshold": 1}, keys_json("a", threshold=0), keys_json("a", threshold=2),
        {"keys": ["00" * 32], "threshold": 1}, {"keys": keys_json("a")["keys"] * 2, "threshold": 1},  # type: ignore[operator]
        keys_json(*map(str, range(30)), threshold=21),
    ],
)  # fmt: skip
def test_bad_timekeepers(chain: StateMemory, value: object) -> None:
    chain.refused(chain.next(set_op("sys.timekeepers", value)), StateOutcome.BAD_TIMEKEEPERS)


def test_good_timekeepers(chain: StateMemory) -> None:
    chain.accepted(chain.next(set_op("sys.timekeepers", keys_json("a", "b", threshold=1))))
    assert set(chain.charters().latest.timekeepers.keys) == {key_of("a").public_key, key_of("b").public_key}


@pytest.mark.parametrize(
    "value",
    [
        [], {}, {**OTHER_RATES, "gpu": 1}, {"vcpu": 1, "memory_gb": 1}, {**OTHER_RATES, "vcpu": -1},
        {**OTHER_RATES, "vcpu": "1"}, {**OTHER_RATES, "vcpu": True},
    ],
)  # fmt: skip
def test_bad_rates(chain: StateMemory, value: object) -> None:
    chain.refused(chain.next(set_op("sys.rates", value)), StateOutcome.BAD_RATES)


def test_rates_hold_from_their_time_on(chain: StateMemory) -> None:
    chain.accepted(chain.next(set_op("sys.rates", OTHER_RATES), timestamp=SOON))
    chain.accepted(chain.next(set_op("sys.rates", {**OTHER_RATES, "vcpu": 7}), timestamp=SOON + NS))
    charters = chain.charters()
    assert [charters.at(time).rates for time in (0, NOW, SOON - 1)] == [GENESIS.rates] * 3
    assert [charters.at(time).rates for time in (SOON, SOON + NS - 1)] == [Rates(40, 20, 2)] * 2
    assert charters.at(SOON + NS).rates == charters.at(2**64 - 1).rates == charters.latest.rates == Rates(7, 20, 2)


def test_of_two_blocks_of_one_time_the_later_holds(chain: StateMemory) -> None:
    chain.accepted(chain.next(set_op("sys.rates", OTHER_RATES), timestamp=SOON))
    chain.accepted(chain.next(set_op("sys.rates", {**OTHER_RATES, "vcpu": 7}), timestamp=SOON))
    assert chain.charters().at(SOON).rates == Rates(7, 20, 2)


def test_what_changes_nothing_begins_no_era(chain: StateMemory) -> None:
    chain.accepted(chain.next(set_op("motd", 1)))
    chain.accepted(chain.next(set_op("sys.rates", GENESIS.rates._asdict())))
    assert len(chain.charters().eras) == 1
    assert next_block(chain, GENESIS).number == 3
