"""The genesis document (protocol section 1): read, checked by name, written, and the network's identity."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.ledger import address_of, make_genesis, public_key_of
from xnode.core.attestations import Timekeepers
from xnode.core.codec import decode
from xnode.core.faults import OperatorFault
from xnode.core.genesis import (
    DEFAULT_DIFFICULTY,
    KEYS_MAX,
    Allocation,
    Faucet,
    Genesis,
    Timing,
    parse_genesis,
    render_genesis,
)
from xnode.core.hashing import Tag, derive_network_key, tagged_hash
from xnode.core.keyset import Keyset
from xnode.core.price import Rates
from xnode.core.values import U64_MAX, Asset, PublicKey

ALICE, BOB, DAO = address_of("alice"), address_of("bob"), public_key_of("dao")
LEAST = f"""
network_id = "tiny"
created_at = 1800000000000000000
representative = "{ALICE.hex()}"

[dao]
keys = ["{DAO.hex()}"]
threshold = 1

[timekeepers]
keys = ["{BOB.hex()}"]
threshold = 1

[[allocations]]
account = "{ALICE.hex()}"
asset = "XUSD"
amount = 1000
"""
POINTS = [public_key_of(f"point-{number}") for number in range(KEYS_MAX + 1)]


def refused(text: str) -> str:
    with pytest.raises(OperatorFault) as caught:
        parse_genesis(text)
    assert caught.value.code == "bad_genesis"
    message = str(caught.value)
    assert message.startswith("genesis: ")
    return message.removeprefix("genesis: ")


def test_the_least_document_gets_the_defaults_of_section_1() -> None:
    genesis = parse_genesis(LEAST)
    assert genesis == Genesis(
        network_id="tiny",
        created_at=1_800_000_000_000_000_000,
        allocations=(Allocation(ALICE, Asset.XUSD, 1000),),
        representative=ALICE,
        faucet=Faucet(enabled=False, amount=100, interval=24 * 3600),
        work_difficulty=0xFFFF_FE00_0000_0000,
        rates=Rates(vcpu=20, memory_gb=10, disk_gb=1),
        timing=Timing(60, 31_536_000, 3600, 25 * 60, 10 * 60, 3600),
        dao=Keyset((DAO,), 1),
        timekeepers=Timekeepers((PublicKey(BOB),), 1),
    )


def test_a_section_may_give_some_of_its_fields() -> None:
    genesis = parse_genesis(LEAST + "[faucet]\nenabled = true\n[rates]\nvcpu = 5\n[timing]\nsettle_grace = 7\n")
    assert genesis.faucet == Faucet(True, 100, 86_400)
    assert genesis.rates == Rates(5, 10, 1)
    assert genesis.timing.settle_grace == 7


@pytest.mark.parametrize(
    ("text", "difficulty"),
    [
        ("5", 5),
        ('"5"', 5),
        ('"fffffe0000000000"', DEFAULT_DIFFICULTY),
        ('"0xFF"', 255),
        (str(U64_MAX), U64_MAX),
        ("0", 0),
    ],
)
def test_difficulty_is_a_number_or_hexadecimal_text(text: str, difficulty: int) -> None:
    assert parse_genesis(f"work_difficulty = {text}\n" + LEAST).work_difficulty == difficulty


amounts = st.integers(1, 2**40)
seconds = st.integers(1, 2**32)
points = st.sampled_from(POINTS)
keysets = st.lists(points, min_size=1, max_size=5, unique=True)


@st.composite
def documents(draw: st.DrawFn) -> Genesis:
    low, high = sorted((draw(seconds), draw(seconds)))
    skew = draw(st.integers(1, 2**20))
    dao, timekeepers = draw(keysets), draw(keysets)
    accounts = draw(st.dictionaries(st.tuples(points, st.sampled_from(Asset)), amounts, max_size=5))
    accounts[(POINTS[0], Asset.XUSD)] = 1
    return make_genesis(
        network_id=draw(st.from_regex(r"\A[a-z0-9-]{1,32}\Z")),
        created_at=draw(st.integers(1, U64_MAX)),
        allocations=tuple(Allocation(key, asset, amount) for (key, asset), amount in accounts.items()),
        representative=draw(points),
        faucet=Faucet(draw(st.booleans()), draw(amounts), draw(seconds)),
        work_difficulty=draw(st.integers(0, U64_MAX)),
        rates=Rates(*(draw(st.integers(0, U64_MAX)) for _ in Rates._fields)),
        timing=Timing(low, high, draw(seconds), 2 * skew + draw(st.integers(1, 2**20)), skew, draw(seconds)),
        dao=Keyset(tuple(dao), draw(st.integers(min(2, len(dao)), len(dao)))),
        timekeepers=Timekeepers(tuple(timekeepers), draw(st.integers(1, len(timekeepers)))),
    )


@settings(max_examples=20)
@given(documents())
def test_what_is_rendered_parses_to_itself(genesis: Genesis) -> None:
    again = parse_genesis(render_genesis(genesis))
    assert again == genesis
    assert again.genesis_hash == genesis.genesis_hash


def test_canonical_bytes_are_every_field_in_order() -> None:
    genesis = make_genesis()
    assert decode(genesis.canonical) == tuple(genesis)


def test_golden_identity() -> None:
    genesis = parse_genesis(LEAST)
    assert genesis.canonical.hex() == (
        "9aa474696e79cf18fae27693b400009193c420d5bf4a3fcce717b0388bcc2749ebc148ad9969b23f45ee1b605fd58778"
        "576ac400cd03e8c420d5bf4a3fcce717b0388bcc2749ebc148ad9969b23f45ee1b605fd58778576ac493c264ce000151"
        "80cffffffe000000000093140a01963cce01e13380cd0e10cd05dccd0258cd0e109291c420f3f8cfd7320f93d7e14cd8"
        "b64ad57c3eed1360903cf047b980f2d6eebd212836019291c420ecc1b58727f3f12b3194881a9ecb9de0b28ce7b20723"
        "0d8e930fe1bce75e256c01"
    )
    assert genesis.network_key.hex() == "1db6087b744b819c365b59fd4d9d6f061d1cde8d6a4d089727fe5942261a4607"
    assert genesis.genesis_hash.hex() == "504b5927be8e4fe0f192388fa8ffa04e35860efcc0ef30cbd2e7cd59de12dc2c"


def test_identity_follows_from_the_canonical_bytes() -> None:
    genesis = make_genesis()
    assert genesis.network_key == derive_network_key(genesis.canonical)
    assert genesis.genesis_hash == tagged_hash(genesis.network_key, Tag.GENESIS, genesis.canonical)


def test_every_field_changes_the_network() -> None:
    base = make_genesis()
    timing, faucet = base.timing, base.faucet
    variants = [
        make_genesis(network_id="other"),
        make_genesis(created_at=base.created_at + 1),
        make_genesis(allocations=base.allocations[:1]),
        make_genesis(allocations=base.allocations[::-1]),
        make_genesis(representative=ALICE),
        make_genesis(work_difficulty=1),
        make_genesis(dao=Keyset((PublicKey(ALICE),), 1)),
        make_genesis(timekeepers=base.timekeepers._replace(threshold=1)),
        *(make_genesis(rates=base.rates._replace(**{name: 999})) for name in Rates._fields),
        *(make_genesis(timing=timing._replace(**{name: getattr(timing, name) + 1})) for name in Timing._fields),
        make_genesis(faucet=faucet._replace(enabled=False)),
        make_genesis(faucet=faucet._replace(amount=101)),
        make_genesis(faucet=faucet._replace(interval=1)),
    ]
    networks = [base, *variants]
    assert (
        len({item.network_key for item in networks}) == len({item.genesis_hash for item in networks}) == len(networks)
    )


@pytest.mark.parametrize("text", ["[", "network_id = ", "a = 1\na = 2", "x = " + "9" * 5000, "x = " + "[" * 5000])
def test_no_toml(text: str) -> None:
    assert refused(text).startswith("not TOML: ")


@pytest.mark.parametrize("name", ["network_id", "created_at", "representative", "account", "asset", "amount", "keys"])
def test_a_missing_field(name: str) -> None:
    assert refused("\n".join(line for line in LEAST.split("\n") if not line.startswith(name))) == f"{name} is missing"


def without(name: str) -> str:
    tables = {"dao": f'[dao]\nkeys = ["{DAO.hex()}"]\nthreshold = 1\n'}
    tables["timekeepers"] = f'[timekeepers]\nkeys = ["{BOB.hex()}"]\nthreshold = 1\n'
    tables["allocations"] = LEAST[LEAST.index("[[allocations]]") :]
    assert tables[name] in LEAST
    return LEAST.replace(tables[name], "")


@pytest.mark.parametrize("name", ["allocations", "dao", "timekeepers"])
def test_a_missing_table(name: str) -> None:
    assert refused(without(name)) == f"{name} is missing"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("surprise = 1\n" + LEAST, "surprise"),
        (LEAST + "[faucet]\nrate = 1\n", "faucet.rate"),
        (LEAST + "[rates]\ngpu = 1\n", "rates.gpu"),
        (LEAST + "[timing]\nattest_skew = 1\n", "timing.attest_skew"),
        (LEAST + "amonut = 1\n", "allocations.amonut"),
        (LEAST.replace("[timekeepers]", "quorum = 1\n[timekeepers]"), "dao.quorum"),
    ],
)
def test_an_unknown_field(text: str, field: str) -> None:
    assert refused(text) == f"unknown field {field}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LEAST.replace('"tiny"', "5"), "network_id must be of type str"),
        (LEAST.replace("1800000000000000000", "1.5"), "created_at must be of type int"),
        (LEAST.replace("1800000000000000000", "true"), "created_at must be of type int"),
        (LEAST.replace("amount = 1000", 'amount = "1000"'), "allocations.amount must be of type int"),
        (LEAST.replace('"XUSD"', "0"), "allocations.asset must be of type str"),
        (LEAST.replace("threshold = 1", "threshold = true", 1), "dao.threshold must be of type int"),
        (LEAST + "[faucet]\nenabled = 1\n", "faucet.enabled must be of type bool"),
        (LEAST + "[rates]\nvcpu = 1.0\n", "rates.vcpu must be of type int"),
        ("faucet = 3\n" + LEAST, "faucet must be of type dict"),
        ("rates = [1]\n" + LEAST, "rates must be of type dict"),
        ("timing = 'x'\n" + LEAST, "timing must be of type dict"),
        ("work_difficulty = 1.0\n" + LEAST, "work_difficulty must be of type int"),
        ("work_difficulty = true\n" + LEAST, "work_difficulty must be of type int"),
    ],
)
def test_a_value_of_another_type(text: str, message: str) -> None:
    assert refused(text) == message


def test_an_unknown_asset() -> None:
    assert refused(LEAST.replace('"XUSD"', '"BTC"')) == "allocations.asset must be XUSD or XE"


@pytest.mark.parametrize("text", ["", "zz", "-1", "0x", "1_0", " 5", "f" * 17])
def test_difficulty_text(text: str) -> None:
    assert "work_difficulty must be" in refused(f'work_difficulty = "{text}"\n' + LEAST)


@pytest.mark.parametrize(
    ("old", "field"),
    [
        (f'representative = "{ALICE.hex()}"', "representative"),
        (f'account = "{ALICE.hex()}"', "allocations.account"),
        (f'keys = ["{DAO.hex()}"]', "dao.keys"),
        (f'keys = ["{BOB.hex()}"]', "timekeepers.keys"),
    ],
)
@pytest.mark.parametrize("change", [lambda line: line.upper(), lambda line: line[:-4] + line[-2:]])
def test_addresses_and_keys_are_strict_hex(old: str, field: str, change: Any) -> None:
    name, _, value = old.partition(" = ")
    digits = value.strip('[]"')
    bad = value.replace(digits, digits.upper() if change("a") == "A" else digits[:-2])
    assert refused(LEAST.replace(old, f"{name} = {bad}")) == f"{field} must be 64 lower-case hex characters"


@pytest.mark.parametrize(
    "value", ["3", '"x"', "true", "[1]", "{ keys = 3, threshold = 1 }", '{ keys = "x", threshold = 1 }']
)
@pytest.mark.parametrize("name", ["dao", "timekeepers", "allocations"])
def test_a_table_of_another_shape_is_the_operators_fault(name: str, value: str) -> None:
    assert refused(f"{name} = {value}\n" + without(name))
