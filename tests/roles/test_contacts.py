"""Who is where, when records were missed: after a clock was set, and in a network larger than one exchange."""

from itertools import pairwise

import pytest
import trio

from tests.support.ledger import TIMEKEEPER_NAMES, address_of, key_of
from tests.support.role_node import REPRESENTATIVE, Village, peer_id_of, until
from xnode.core.directory import DIRECTORY, DirectoryRecord
from xnode.core.faults import PeerFault
from xnode.core.values import Hash
from xnode.roles.contacts import (
    ASK_AGAIN_SECONDS,
    EXCHANGE_METHOD,
    EXCHANGE_RECORDS_MAX,
    LOOK_EVERY,
    LOOK_EVERY_MAX,
    NAMED_MAX,
    Contacts,
)

pytestmark = pytest.mark.slow


def knows(contacts: Contacts, name: str) -> bool:
    return contacts.directory.find(address_of(name), contacts.now()) is not None


async def fill(village: Village, contacts: Contacts) -> None:
    """So many strangers' records, newer than all others, that no exchange has room for anybody else."""
    await trio.sleep(3)  # all have told theirs after they met
    for number in range(EXCHANGE_RECORDS_MAX):
        key = key_of(f"stranger {number}")
        record = DirectoryRecord(address_of(f"stranger {number}"), f"peer-{number}", (), (), contacts.now())
        assert contacts.take(DIRECTORY.sign(village.genesis.network_key, key, record))


@pytest.mark.parametrize("ahead", [3600.0, -90.0])
async def test_a_clock_that_is_right_again_brings_the_directory_back(
    village: Village, autojump_clock: object, ahead: float
) -> None:
    """Seed 513: the consumer's clock was 90 s behind while all others renewed, so she refused them all."""
    for name in ("alice", "bob"):
        await village.start(name)
    await village.ready()
    alice, bob = (village.nodes[name].roles.contacts for name in ("alice", "bob"))
    village.clock_steps["alice"] = ahead
    await trio.sleep(35 * 60)
    assert not knows(alice, "bob")
    assert knows(bob, "alice") == (ahead < 0), "old records are taken for half an hour"
    village.clock_steps["alice"] = 0.0
    await trio.sleep(LOOK_EVERY + 1)
    assert knows(alice, "bob")
    assert knows(bob, "alice")


async def test_an_account_that_is_called_is_asked_for(village: Village, autojump_clock: object) -> None:
    await village.start("anna", peers=())
    for name in ("bob", TIMEKEEPER_NAMES[0]):
        await village.start(name, peers=("anna",), timekeeper=name != "bob")
    await village.ready()
    await fill(village, village.nodes["anna"].roles.contacts)
    alice = await village.start("alice", peers=("anna",))
    await trio.sleep(5)
    assert not knows(alice.roles.contacts, TIMEKEEPER_NAMES[0])
    with pytest.raises(PeerFault, match="this timekeeper does not know that lease yet"):
        await alice.roles.contacts.call(address_of(TIMEKEEPER_NAMES[0]), "attest", (Hash(bytes(32)),), 5.0)


async def test_an_account_that_nobody_knows_is_asked_for_once_in_a_while(
    village: Village, autojump_clock: object
) -> None:
    alice, _ = await village.start("alice"), await village.start("bob")
    await village.ready()
    asked: list[tuple[object, ...]] = []
    call = alice.roles.contacts._calls.call

    async def spy(peer_id, method, args, *more):  # type: ignore[no-untyped-def]
        if method == EXCHANGE_METHOD and args != ():
            asked.append(args)
        return await call(peer_id, method, args, *more)

    alice.roles.contacts._calls.call = spy  # type: ignore[method-assign]
    carol = address_of("carol")
    for _ in range(3):
        with pytest.raises(PeerFault, match="has not told where it is"):
            await alice.roles.contacts.call(carol, "attest", (), 5.0)
    assert asked.count((carol,)) == 1
    await trio.sleep(ASK_AGAIN_SECONDS)
    with pytest.raises(PeerFault, match="has not told where it is"):
        await alice.roles.contacts.call(carol, "attest", (), 5.0)
    assert asked.count((carol,)) == 2


async def test_timekeepers_are_looked_for_without_a_call(village: Village, autojump_clock: object) -> None:
    """A provider offers nothing while it knows no timekeeper."""
    await village.start("anna", peers=())
    for name in TIMEKEEPER_NAMES:
        await village.start(name, peers=("anna",), timekeeper=True)
    await village.ready()
    await fill(village, village.nodes["anna"].roles.contacts)
    alice = await village.start("alice", peers=("anna",))
    await until(lambda: alice.roles.attesting.reachable() == len(TIMEKEEPER_NAMES), LOOK_EVERY + 5, "the timekeepers")


async def test_representatives_are_looked_for_too(village: Village, autojump_clock: object) -> None:
    """Else a new node of a large network could not tell for long whether anything can be confirmed."""
    await village.start("anna", peers=())
    await village.start(REPRESENTATIVE, peers=("anna",))
    await village.ready()
    await fill(village, village.nodes["anna"].roles.contacts)
    alice = await village.start("alice", peers=("anna",))
    await trio.sleep(5)
    assert not alice.roles.quorum().is_enough
    await until(lambda: alice.roles.quorum().is_enough, LOOK_EVERY + 5, "the representative")


async def test_who_is_not_found_is_asked_for_ever_less_often(village: Village, autojump_clock: object) -> None:
    alice, _ = await village.start("alice"), await village.start("bob")
    asked: list[float] = []
    call = alice.roles.contacts._calls.call

    async def spy(peer_id, method, args, *more):  # type: ignore[no-untyped-def]
        if method == EXCHANGE_METHOD and args != ():
            asked.append(trio.current_time())
        return await call(peer_id, method, args, *more)

    alice.roles.contacts._calls.call = spy  # type: ignore[method-assign]
    await trio.sleep(10 * LOOK_EVERY_MAX)
    pauses = [round(after - before) for before, after in pairwise(asked)]
    assert pauses[:4] == [15, 30, 60, 120]
    assert set(pauses[4:]) == {LOOK_EVERY_MAX}


async def test_all_who_are_missing_are_asked_for_in_turn(village: Village, autojump_clock: object) -> None:
    """Also by who has one peer only, and with more of them than one question names."""
    alice, _ = await village.start("alice"), await village.start("bob")
    contacts, wanted = alice.roles.contacts, {address_of(f"away {number}") for number in range(40)}
    contacts._needed = lambda: wanted
    asked: set[object] = set()
    call = contacts._calls.call

    async def spy(peer_id, method, args, *more):  # type: ignore[no-untyped-def]
        if method == EXCHANGE_METHOD:
            asked.update(args)
        return await call(peer_id, method, args, *more)

    contacts._calls.call = spy  # type: ignore[method-assign]
    await until(lambda: wanted <= asked, 8 * LOOK_EVERY, "questions for all")


async def test_big_records_do_not_stop_the_answer_to_a_question(village: Village, autojump_clock: object) -> None:
    alice, bob = await village.start("alice"), await village.start("bob")
    await village.ready()
    long = tuple(f"/dns4/{'x' * 240}{number:02}/tcp/1" for number in range(32))
    accounts = [address_of(f"big {number}") for number in range(NAMED_MAX)]
    for number, account in enumerate(accounts):
        record = DirectoryRecord(account, "peer-big", long, (), bob.roles.contacts.now())
        assert bob.roles.contacts.take(DIRECTORY.sign(village.genesis.network_key, key_of(f"big {number}"), record))
    answer = await alice.roles.contacts._calls.call(peer_id_of("bob"), EXCHANGE_METHOD, tuple(accounts))
    assert 3 < len(answer) < NAMED_MAX


async def test_a_question_for_too_many_or_no_accounts_is_refused(village: Village, autojump_clock: object) -> None:
    alice, _ = await village.start("alice"), await village.start("bob")
    await village.ready()
    for args in ((bytes(32),) * (NAMED_MAX + 1), (1,)):
        with pytest.raises(PeerFault, match="directory takes no arguments, or 16 accounts at most"):
            await alice.roles.contacts._calls.call(peer_id_of("bob"), EXCHANGE_METHOD, args)
