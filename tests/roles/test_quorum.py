"""Readiness knows whether anything can be confirmed, and who is missing."""

import pytest

from tests.support.ledger import address_of
from tests.support.role_node import PEOPLE, REPRESENTATIVE, Village, until
from tests.support.voters import spread
from xnode.roles.quorum import NAMED_MAX, Quorum


def test_a_sentence_for_people() -> None:
    addresses = tuple(address_of(str(number)) for number in range(NAMED_MAX + 2))
    text = Quorum(frozenset(), addresses, 1, 3, is_enough=False).describe()
    assert text.startswith(f"33 % of the voting weight reachable, 67 % needed; missing: {addresses[0].hex()[:12]}, ")
    assert text.endswith(" and 2 more")
    assert Quorum(frozenset(), (), 3, 3, is_enough=True).describe() == (
        "100 % of the voting weight reachable, 67 % needed"
    )
    assert not Quorum(frozenset(), (), 0, 0, is_enough=False).describe().startswith("100")


@pytest.mark.slow
async def test_a_representative_has_to_tell_where_it_is(village: Village, autojump_clock: object) -> None:
    alice = await village.start("alice")
    before = alice.roles.quorum()
    assert (before.missing, before.weight, before.is_enough) == ((address_of(REPRESENTATIVE),), 0, False)
    await village.start(REPRESENTATIVE)
    await until(lambda: alice.roles.quorum().is_enough, 30, "the representative's record")
    assert alice.roles.quorum().missing == ()


@pytest.mark.slow
async def test_own_weight_counts(village: Village, autojump_clock: object) -> None:
    await spread(village, *PEOPLE)
    quorum = village.nodes["alice"].roles.quorum()
    assert quorum.reachable == {address_of(name) for name in PEOPLE}
    assert (quorum.weight, quorum.total, quorum.is_enough) == (5500, 5500, True)
