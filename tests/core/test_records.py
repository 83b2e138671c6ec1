"""Signed records outside the ledger (protocol sections 2, 10, 11): both ways, strictly, for one network and purpose."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.ledger import NOW, address_of, key_of
from tests.support.strategies import bytes32, u64s
from xnode.core.codec import Malformed, decode, encode
from xnode.core.directory import DIRECTORY, DirectoryRecord
from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.keys import verify
from xnode.core.lease import Resources
from xnode.core.market import MARKET, Ad, Decline, Offer, Request
from xnode.core.records import LIST_ITEMS_MAX, READERS, TEXT_CHARACTERS_MAX, RecordKind, record_kind
from xnode.core.values import U64_MAX, ZERO_HASH, Address, Hash, PublicKey

NETWORK, OTHER_NETWORK = NetworkKey(b"n" * 32), NetworkKey(b"o" * 32)
ALICE = address_of("alice")
KEY = key_of("alice")
SOME = Resources(1, 2, 3)
EXAMPLES: dict[Any, Any] = {
    Ad: Ad(
        ALICE,
        SOME,
        Resources(0, 0, 0),
        1,
        1000,
        ZERO_HASH,
        "qemu",
        "kvm",
        "none",
        ("debian", "ubuntu"),
        "draining",
        NOW,
    ),
    Request: Request(Hash(b"r" * 32), ALICE, SOME, 3600, KEY.public_key, "", NOW),
    Offer: Offer(Hash(b"r" * 32), ALICE, 7, 1000, ZERO_HASH, "debian-12", NOW + 15, NOW),
    Decline: Decline(Hash(b"r" * 32), ALICE, "no_capacity", "vcpus: 4 asked, 2 free", SOME, SOME, NOW),
    DirectoryRecord: DirectoryRecord(ALICE, "12D3KooW", ("/ip4/192.0.2.1/tcp/9000",), ("provider",), NOW),
}
KINDS_OF: dict[Any, RecordKind[Any]] = {**MARKET, DirectoryRecord: DIRECTORY}
EACH = pytest.mark.parametrize("make", EXAMPLES, ids=lambda make: make.__name__)

printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
FIELDS: dict[Any, st.SearchStrategy[Any]] = {
    Address: bytes32,
    Hash: bytes32,
    PublicKey: bytes32,
    Resources: st.builds(Resources, u64s, u64s, u64s),
    int: u64s,
    str: printable,
    tuple[str, ...]: st.lists(printable, max_size=4).map(tuple),
}


def wire_of(make: Any) -> bytes:
    return KINDS_OF[make].sign(NETWORK, KEY, EXAMPLES[make])


def refused(make: Any, values: list[Any]) -> str:
    with pytest.raises(Malformed) as caught:
        KINDS_OF[make].read(NETWORK, encode(tuple(values)))
    return str(caught.value)


def test_every_field_type_has_a_strategy() -> None:
    assert set(FIELDS) == set(READERS)


@EACH
@settings(max_examples=20)
@given(data=st.data())
def test_both_ways(make: Any, data: st.DataObject) -> None:
    kind = KINDS_OF[make]
    by_reader = {READERS[hint]: strategy for hint, strategy in FIELDS.items()}
    record = make(*(data.draw(by_reader[read]) for _, read in kind.readers))._replace(**{kind.signer: ALICE})
    wire = kind.sign(NETWORK, KEY, record)
    assert kind.read(NETWORK, wire) == (record, True)
    assert type(kind.read(NETWORK, wire)[0]) is make


@EACH
def test_what_is_signed_is_the_tagged_hash_of_the_fields(make: Any) -> None:
    *fields, signature = decode(wire_of(make))
    assert tuple(fields) == EXAMPLES[make]
    assert verify(ALICE, tagged_hash(NETWORK, KINDS_OF[make].tag, encode(tuple(fields))), signature)


def test_each_kind_has_its_own_tag() -> None:
    tags = {make: kind.tag for make, kind in KINDS_OF.items()}
    assert tags == {
        Ad: Tag.AD,
        Request: Tag.REQUEST,
        Offer: Tag.OFFER,
        Decline: Tag.REFUSAL,
        DirectoryRecord: Tag.DIRECTORY,
    }


@EACH
def test_another_network_or_tag_or_signer_spoils_the_signature(make: Any) -> None:
    kind = KINDS_OF[make]
    record = EXAMPLES[make]
    assert kind.read(OTHER_NETWORK, wire_of(make)) == (record, False)
    assert kind._replace(tag=Tag.VOTE).read(NETWORK, wire_of(make)) == (record, False)
    assert kind.read(NETWORK, kind.sign(NETWORK, key_of("bob"), record)) == (record, False)


@EACH
def test_changing_any_field_spoils_the_signature(make: Any) -> None:
    values = list(decode(wire_of(make)))
    for index, value in enumerate(values[:-1]):
        changed = [*values[:index], other_value(value), *values[index + 1 :]]
        record, signed = KINDS_OF[make].read(NETWORK, encode(tuple(changed)))
        assert record != EXAMPLES[make]
        assert not signed


def other_value(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    if isinstance(value, str):
        return value + "x"
    return (*value[:-1], other_value(value[-1]))


@EACH
def test_every_element_of_another_type_is_refused(make: Any) -> None:
    values = list(decode(wire_of(make)))
    for index, value in enumerate(values):
        wrongs: list[Any] = [None, True, (1,), (None,) * 3]
        wrongs += [b"" if isinstance(value, bytes) else b"x" * 32, "text" if isinstance(value, int) else 5]
        for wrong in wrongs:
            refused(make, [*values[:index], wrong, *values[index + 1 :]])


@EACH
def test_a_missing_or_an_extra_element_is_refused(make: Any) -> None:
    values = list(decode(wire_of(make)))
    assert refused(make, values[:-1]) == f"a {KINDS_OF[make].tag} record has {len(values)} elements"
    assert refused(make, [*values, 0]) == f"a {KINDS_OF[make].tag} record has {len(values)} elements"
    refused(make, [])


@EACH
def test_no_kind_reads_as_another(make: Any) -> None:
    for other, kind in KINDS_OF.items():
        if other is not make:
            with pytest.raises(Malformed):
                kind.read(NETWORK, wire_of(make))


@pytest.mark.parametrize("text", ["x" * (TEXT_CHARACTERS_MAX + 1), "line\nbreak", "\0", "\x1b[31m", "\u202e"])
def test_long_or_unprintable_text_is_refused_when_read_and_when_signed(text: str) -> None:
    values = list(decode(wire_of(Ad)))
    values[Ad._fields.index("accelerator")] = text
    assert refused(Ad, values).startswith("accelerator must be printable text")
    with pytest.raises(Malformed, match="accelerator"):
        MARKET[Ad].sign(NETWORK, KEY, EXAMPLES[Ad]._replace(accelerator=text))
    with pytest.raises(Malformed, match="images"):
        MARKET[Ad].sign(NETWORK, KEY, EXAMPLES[Ad]._replace(images=("good", text)))


def test_text_may_be_as_long_as_the_limit() -> None:
    record = EXAMPLES[Ad]._replace(accelerator="é" * TEXT_CHARACTERS_MAX, images=("x",) * LIST_ITEMS_MAX)
    assert MARKET[Ad].read(NETWORK, MARKET[Ad].sign(NETWORK, KEY, record)) == (record, True)


def test_too_many_list_items_are_refused_when_read_and_when_signed() -> None:
    values = list(decode(wire_of(Ad)))
    values[Ad._fields.index("images")] = ("x",) * (LIST_ITEMS_MAX + 1)
    assert refused(Ad, values) == f"images must be an array of {LIST_ITEMS_MAX} at most"
    with pytest.raises(Malformed):
        MARKET[Ad].sign(NETWORK, KEY, EXAMPLES[Ad]._replace(images=("x",) * (LIST_ITEMS_MAX + 1)))


@pytest.mark.parametrize("number", [-1, U64_MAX + 1])
def test_numbers_out_of_u64_are_not_signed(number: int) -> None:
    with pytest.raises(Malformed, match="duration"):
        MARKET[Request].sign(NETWORK, KEY, EXAMPLES[Request]._replace(duration=number))
    with pytest.raises(Malformed, match="resources"):
        MARKET[Request].sign(NETWORK, KEY, EXAMPLES[Request]._replace(resources=Resources(1, number, 1)))


def test_readers_follow_the_field_types() -> None:
    kind = record_kind(Tag.OFFER, Offer, "provider")
    assert [name for name, _ in kind.readers] == list(Offer._fields)
    assert kind == MARKET[Offer]
