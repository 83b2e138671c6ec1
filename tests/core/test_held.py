"""Blocks that wait for another one (protocol section 4)."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.blocks import EXAMPLES
from xnode.core.blocks import Block, BlockType
from xnode.core.held import HELD_MAX, SIBLINGS_MAX, Held
from xnode.core.values import Hash


def name(number: int) -> Hash:
    return Hash(number.to_bytes(32))


def block(number: int) -> Block:
    return EXAMPLES[BlockType.SEND]._replace(balance=number)


def test_a_block_is_taken_once_when_what_it_needs_arrives() -> None:
    held = Held()
    held.put(name(1), block(1), name(9))
    assert held.take(name(8)) == ()
    assert held.take(name(1)) == ()
    assert held.take(name(9)) == (block(1),)
    assert held.take(name(9)) == ()
    assert len(held) == 0


def test_several_may_wait_for_one_and_leave_oldest_first() -> None:
    held = Held()
    for number in (3, 1, 2):
        held.put(name(number), block(number), name(9))
    assert held.take(name(9)) == (block(3), block(1), block(2))


def test_a_block_is_held_once_for_what_it_needs_last() -> None:
    held = Held()
    held.put(name(1), block(1), name(8))
    held.put(name(1), block(1), name(9))
    assert len(held) == 1
    assert held.take(name(8)) == ()
    assert held.take(name(9)) == (block(1),)


def test_the_oldest_leaves_where_there_are_too_many() -> None:
    held = Held(held_max=2)
    for number in (1, 2, 3):
        held.put(name(number), block(number), name(9))
    assert (len(held), held.dropped) == (2, 1)
    assert held.take(name(9)) == (block(2), block(3))


def test_holding_again_renews_and_drops_nobody() -> None:
    held = Held(held_max=2)
    for number in (1, 2, 1):
        held.put(name(number), block(number), name(9))
    assert held.dropped == 0
    held.put(name(3), block(3), name(9))
    assert held.take(name(9)) == (block(1), block(3))


def test_siblings_of_one_position_are_bounded_and_push_out_each_other_only() -> None:
    held, other = Held(), block(0)._replace(previous=name(7))
    held.put(name(0), other, name(9))
    for number in range(1, SIBLINGS_MAX + 3):
        held.put(name(number), block(number), name(9))
    assert (len(held), held.dropped) == (SIBLINGS_MAX + 1, 2)
    assert held.take(name(9)) == (other, *(block(number) for number in range(3, SIBLINGS_MAX + 3)))
    for number in range(SIBLINGS_MAX):
        held.put(name(number), block(number), name(8))
    assert held.dropped == 2


def test_the_limits_are_the_documented_ones() -> None:
    assert (HELD_MAX, SIBLINGS_MAX) == (10_000, 16)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 3)), max_size=40))
def test_it_behaves_as_a_plain_list_does(acts: list[tuple[bool, int, int]]) -> None:
    held, model = Held(held_max=4), list[tuple[int, int]]()
    for is_put, number, needs in acts:
        if is_put:
            others = [item for item in model if item[0] != number]
            model = [*others[-3:], (number, needs)]
            held.put(name(number), block(number), name(needs))
        else:
            assert held.take(name(needs)) == tuple(block(item) for item, needed in model if needed == needs)
            model = [item for item in model if item[1] != needs]
        assert len(held) == len(model)
