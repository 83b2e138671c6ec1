"""Readiness knows whether anything can be confirmed, and who is missing."""

import pytest

from tests.support.ledger import address_of
from tests.support.role_node import PEOPLE, REPRESENTATIVE, Village, until, virtual_clock
from tests.support.voters import chain_of, give, spread
from xnode.roles.quorum import NAMED_MAX, Quorum


def test_a_sentence_for_people() -> None:
    addresses = tuple(address_of(str(number)) for number in range(NAMED_MAX + 2))
    full = Quorum(frozenset(), (), (), 0, 3, 3, is_enough=True)
    share = "% of the voting weight votes or can be reached, 67 % needed"
    assert full.describe() == f"100 {share}"
    text = full._replace(missing=addresses, weight=1).describe()
    assert text.startswith(f"33 {share}; nobody has told where these are: {addresses[0].hex()[:12]}, ")
    assert text.endswith(" and 2 more")
    text = full._replace(silent=addresses[:1], stuck=4, weight=2).describe()
    assert text == f"66 {share}; silent in all 4 elections older than 10 s: {addresses[0].hex()[:12]}"
    assert full._replace(weight=0, total=0).describe().startswith("nobody has voting weight")


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


@pytest.mark.slow
async def test_a_representative_that_votes_no_more_is_named_though_its_record_is_current(
    village: Village, autojump_clock: object
) -> None:
    await spread(village, *PEOPLE)
    alice = village.nodes["alice"]
    for name in ("bert", "carol"):
        await village.crash(name)
    assert alice.roles.quorum().is_enough, "nobody knows it yet"
    with alice.store.snapshot() as view:
        block = chain_of(village, "alice").send(view, address_of("dora"), 5, timestamp=virtual_clock()())
    await give(alice, block)
    await until(lambda: not alice.roles.quorum().is_enough, 20, "their silence")
    quorum = alice.roles.quorum()
    assert set(quorum.silent) == {address_of("bert"), address_of("carol")}
    assert (quorum.missing, quorum.stuck, quorum.weight) == ((), 1, 3300 - 5)
    await village.start("bert")
    await until(lambda: alice.roles.quorum().is_enough, 40, "bert's vote")
    await until(lambda: not alice.roles.quorum().silent, 40, "the confirmation, after which carol is not waited for")
