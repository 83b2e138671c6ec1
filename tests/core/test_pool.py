"""What the pool does next, for each line of its table; who gets a spare, who goes for whom, what can be discarded."""

import pytest

from tests.support.ledger import NOW
from xnode.core.faults import OperatorFault, WrongState
from xnode.core.lease import Resources
from xnode.core.machine import NOBODY, HostRoom, Machine, MachineSpec, MachineStatus, machine_name
from xnode.core.pool import (
    FLAVOURS_MAX,
    RETRY_MAX,
    SPARES_MAX,
    Act,
    Flavour,
    Pool,
    Spare,
    SpareProof,
    Step,
    Want,
    choose,
    next_eviction,
    next_steps,
    pack,
    parse_wants,
    prove_never_leased,
    retry_after,
    unpack,
    wanted_spares,
)
from xnode.core.values import ZERO_HASH, Hash, PublicKey

TINY = Flavour("tiny", Resources(1, 128, 2))
LARGE = Flavour("tiny", Resources(2, 1024, 10))
PLENTY = Resources(16, 16_384, 1000)
LEASE = Hash(b"\7" * 32)
RUNNING, PROVISIONING = MachineStatus.RUNNING, MachineStatus.PROVISIONING


def id_of(number: int) -> Hash:
    return Hash(bytes([number]) * 32)


def machine(number: int, status: MachineStatus = RUNNING, flavour: Flavour = TINY, key: PublicKey = NOBODY) -> Machine:
    spec = MachineSpec(id_of(number), *flavour.resources, key, flavour.image)
    return Machine(
        spec,
        machine_name(spec.lease_hash),
        status,
        PublicKey(bytes(32)),
        0,
        "fake",
        "tiny-1",
        "tcg",
        NOW + number,
        0,
        "",
    )


def spare(number: int, status: MachineStatus | None = RUNNING, flavour: Flavour = TINY, **changes: object) -> Spare:
    made = None if status is None else machine(number, status, flavour)
    return Spare(id_of(number), flavour, ZERO_HASH, made, True)._replace(**changes)  # type: ignore[arg-type]


def pool(*spares: Spare, wants: tuple[Want, ...] = (Want(TINY, 1),), **changes: object) -> Pool:
    whole = Pool(spares, wants, frozenset(), frozenset(), PLENTY, None, True)
    return whole._replace(**changes)  # type: ignore[arg-type]


def acts(whole: Pool) -> list[tuple[Act, Hash]]:
    return [(step.act, step.spare_id) for step in next_steps(whole)]


MAKE = (Act.MAKE, ZERO_HASH)
TABLE = {
    "nothing is there, one is wanted": (pool(), [MAKE]),
    "nothing is there, none is wanted": (pool(wants=()), []),
    "noted, not made": (pool(spare(1, None), is_calm=False), [(Act.FORGET, id_of(1))]),
    "it was booting when the node died": (pool(spare(1, PROVISIONING)), [(Act.BOOT, id_of(1))]),
    "it boots, but is not wanted any more": (pool(spare(1, PROVISIONING), wants=()), [(Act.DISCARD, id_of(1))]),
    "it is ready": (pool(spare(1)), []),
    "it is ready, but not wanted any more": (pool(spare(1), wants=()), [(Act.DISCARD, id_of(1))]),
    "it is down": (pool(spare(1, MachineStatus.STOPPED), is_calm=False), [(Act.DISCARD, id_of(1))]),
    "it has failed": (pool(spare(1, MachineStatus.FAILED), is_calm=False), [(Act.DISCARD, id_of(1))]),
    "it is paused": (pool(spare(1, MachineStatus.PAUSED), is_calm=False), [(Act.DISCARD, id_of(1))]),
    "it is spoilt, or of an older image": (pool(spare(1, is_sound=False), is_calm=False), [(Act.DISCARD, id_of(1))]),
    "there is one too many: the younger goes": (pool(spare(2), spare(1)), [(Act.DISCARD, id_of(2))]),
    "one that is ready before one that boots": (pool(spare(1, PROVISIONING), spare(2)), [(Act.DISCARD, id_of(1))]),
    "somebody works on it": (pool(spare(1, PROVISIONING), busy=frozenset({id_of(1)})), []),
    "given, and its lease waits": (pool(spare(1, leased_to=LEASE), waiting=frozenset({LEASE}), is_calm=False), []),
    "given, and its lease is over": (pool(spare(1, leased_to=LEASE), is_calm=False), [(Act.RETURN, id_of(1))]),
    "given and gone": (pool(spare(1, None, leased_to=LEASE), is_calm=False), [(Act.FORGET, id_of(1))]),
    "given: another takes its place": (pool(spare(1, leased_to=LEASE), waiting=frozenset({LEASE})), [MAKE]),
    "a lease is worked on": (pool(is_calm=False), []),
    "another boots": (pool(spare(1, PROVISIONING), wants=(Want(TINY, 2),), busy=frozenset({id_of(1)})), []),
    "another is being discarded": (pool(spare(1), wants=(Want(TINY, 2),), busy=frozenset({id_of(1)})), [MAKE]),
    "two wait to boot": (
        pool(spare(1, PROVISIONING), spare(2, PROVISIONING), wants=(Want(TINY, 2),)),
        [(Act.BOOT, id_of(1))],
    ),
    "what is on offer is leased": (pool(free=Resources(1, 127, 2)), []),
    "the rest of the offer is another spare's": (pool(spare(1), wants=(Want(TINY, 2),), free=Resources(1, 999, 9)), []),
    "the host has no room": (pool(room=HostRoom(5, 415, 9, 288)), []),
    "the host has just enough": (pool(room=HostRoom(1, 416, 2, 288)), [MAKE]),
    "the host keeps as many as it may": (pool(room=HostRoom(0, 9_999, 99, 288)), []),
}


@pytest.mark.parametrize("case", TABLE)
def test_the_table(case: str) -> None:
    given, expected = TABLE[case]
    assert acts(given) == expected


def test_the_next_flavour_is_made_where_the_first_has_no_room() -> None:
    wants = (Want(LARGE, 1), Want(TINY, 1))
    assert next_steps(pool(wants=wants, free=Resources(1, 512, 5))) == (Step(Act.MAKE, ZERO_HASH, TINY),)


def test_no_more_than_so_many_are_made() -> None:
    full = tuple(spare(number % 250) for number in range(SPARES_MAX))
    assert next_steps(pool(*full, wants=(Want(TINY, SPARES_MAX + 1),), busy=frozenset(map(id_of, range(250))))) == ()


def test_each_flavour_has_its_own_number() -> None:
    spares = (spare(1), spare(2), spare(3, flavour=LARGE), spare(4, flavour=LARGE))
    assert wanted_spares(spares, (Want(TINY, 2), Want(LARGE, 1))) == {id_of(1), id_of(2), id_of(3)}


def test_a_lease_gets_the_oldest_that_is_ready_and_suits() -> None:
    spares = (spare(1, PROVISIONING), spare(2, is_sound=False), spare(5), spare(4), spare(3, leased_to=LEASE))
    assert choose(spares, (), TINY) == id_of(4)
    assert choose(spares, {id_of(4)}, TINY) == id_of(5)
    assert choose(spares, {id_of(4), id_of(5)}, TINY) is None


@pytest.mark.parametrize(
    "flavour",
    [
        Flavour("debian", TINY.resources),
        Flavour("tiny", Resources(2, 128, 2)),
        Flavour("tiny", Resources(1, 129, 2)),
        Flavour("tiny", Resources(1, 128, 1)),
    ],
    ids=["image", "CPUs", "memory", "a smaller disk"],
)
def test_a_lease_of_another_flavour_gets_none(flavour: Flavour) -> None:
    assert choose((spare(1),), (), flavour) is None


def test_a_disk_may_grow_and_the_nearest_size_is_taken() -> None:
    nearer = Flavour("tiny", Resources(1, 128, 4))
    assert choose((spare(1), spare(2, flavour=nearer)), (), Flavour("tiny", Resources(1, 128, 9))) == id_of(2)


def test_a_lease_that_fits_beside_the_pool_evicts_nobody() -> None:
    assert next_eviction((spare(1),), (), LARGE.resources, Resources(1, 128, 2), HostRoom(1, 1312, 10, 288)) is None


def test_a_lease_that_takes_what_was_offered_evicts_the_youngest() -> None:
    spares, free = (spare(1), spare(2)), Resources(1, 128, 2)
    assert next_eviction(spares, (), LARGE.resources, free, None) == id_of(2)
    assert next_eviction(spares, {id_of(2)}, LARGE.resources, free, None) == id_of(1)
    assert next_eviction(spares, {id_of(1), id_of(2)}, LARGE.resources, free, None) is None


def test_a_lease_for_which_the_host_has_no_room_evicts_one_that_boots_first() -> None:
    spares, room = (spare(1), spare(2, PROVISIONING)), HostRoom(1, 1311, 10, 288)
    assert next_eviction(spares, (), LARGE.resources, PLENTY, room) == id_of(2)


def test_what_was_given_away_is_not_evicted() -> None:
    assert next_eviction((spare(1, leased_to=LEASE),), (), LARGE.resources, Resources(0, 0, 0), None) is None


def test_the_proof_is_made_of_an_unmarked_note() -> None:
    assert prove_never_leased(id_of(1), ZERO_HASH, machine(1)) == SpareProof(id_of(1))
    assert prove_never_leased(id_of(1), ZERO_HASH, None) == SpareProof(id_of(1))


def test_there_is_no_proof_without_a_note() -> None:
    with pytest.raises(WrongState) as caught:
        prove_never_leased(id_of(1), None, machine(1))
    assert caught.value.code == "not_a_spare"


def test_there_is_no_proof_once_it_was_given_to_a_lease() -> None:
    with pytest.raises(WrongState, match="given to lease 0707") as caught:
        prove_never_leased(id_of(1), LEASE, machine(1))
    assert caught.value.code == "spare_leased"


def test_there_is_no_proof_for_a_machine_that_has_a_consumer() -> None:
    with pytest.raises(WrongState) as caught:
        prove_never_leased(id_of(1), ZERO_HASH, machine(1, key=PublicKey(b"\1" * 32)))
    assert caught.value.code == "not_a_spare"


def test_failed_boots_are_tried_again_ever_later() -> None:
    assert [retry_after(number) for number in range(4)] == [0, 5, 10, 20]
    assert retry_after(10**6) == RETRY_MAX


def test_the_setting_is_read() -> None:
    assert parse_wants(("tiny:1:128:2:3", "debian-12:2:2048:20:0")) == (
        Want(TINY, 3),
        Want(Flavour("debian-12", Resources(2, 2048, 20)), 0),
    )
    assert parse_wants(()) == ()


@pytest.mark.parametrize(
    "texts",
    [
        ("tiny",), ("tiny:1:128:2",), ("tiny:1:128:2:1:1",), (":1:128:2:1",), ("tiny:1:128:two:1",), ("tiny:1:-1:2:1",),
        ("tiny:0:128:2:1",), ("tiny:1:128:0:1",), ("tiny:1:128:2:1", "tiny:1:128:2:2"),
        (f"tiny:1:128:2:{SPARES_MAX + 1}",),
        tuple(f"tiny:1:{128 + number}:2:0" for number in range(FLAVOURS_MAX + 1)),
    ],
)  # fmt: skip
def test_a_setting_that_makes_no_sense_is_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(OperatorFault, match="machine_pool") as caught:
        parse_wants(texts)
    assert caught.value.code == "bad_config"


def test_a_note_keeps_flavour_and_lease() -> None:
    assert unpack(pack(LARGE, LEASE)) == (LARGE, LEASE)
    assert unpack(pack(TINY, ZERO_HASH)) == (TINY, ZERO_HASH)
