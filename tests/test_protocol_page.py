"""docs/protocol.md says what the code does: its tables are compared with the types and constants themselves."""

import re

import pytest

from tests.support.tree import ROOT
from xnode.core import directory, market, price, provision, timekeeping, votes
from xnode.core.attestations import ATTESTATIONS_MAX
from xnode.core.blocks import BLOCK_BYTES_MAX, BODIES
from xnode.core.genesis import DEFAULT_DIFFICULTY, DEFAULT_FAUCET, DEFAULT_RATES, DEFAULT_TIMING, _Fields
from xnode.core.hashing import KEY_CONTEXT, Tag
from xnode.core.machine_calls import METHOD as MACHINE_METHOD
from xnode.core.records import RecordKind
from xnode.core.state_values import SYSTEM_KEYS
from xnode.core.tunnel import TunnelAnswer
from xnode.core.weights import QUORUM_PERCENT, REPRESENTATIVES_MAX
from xnode.net import handshake, mdns, rpc, state_sync, sync, sync_plan, tunnel
from xnode.roles.attesting import ATTEST_METHOD
from xnode.roles.consumer import WITHDRAW_METHOD
from xnode.roles.contacts import EXCHANGE_METHOD
from xnode.roles.progress import METHOD as PROGRESS_METHOD
from xnode.roles.topics import RATES
from xnode.roles.vote_exchange import BLOCK_METHOD, VOTES_METHOD

PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")


def table(first: str) -> list[list[str]]:
    """The rows of the one table whose first heading is `first`, without backquotes."""
    lines = PAGE.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith(f"| {first} |")]
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows


def test_the_sections_are_numbered_as_the_code_names_them() -> None:
    assert re.findall(r"^## (\d+)\.", PAGE, re.MULTILINE) == [str(number) for number in range(1, 13)]


def test_genesis_fields_and_their_defaults() -> None:
    rows = dict(table("field"))
    assert tuple(rows) == _Fields._fields
    assert all(f"{name} {value}" in rows["rates"] for name, value in DEFAULT_RATES._asdict().items())
    assert all(f"{name} {value}" in rows["timing"] for name, value in DEFAULT_TIMING._asdict().items())
    assert f"amount ({DEFAULT_FAUCET.amount} XUSD), interval ({DEFAULT_FAUCET.interval} s)" in rows["faucet"]
    assert f"{DEFAULT_DIFFICULTY:016x}" in rows["work_difficulty"]


def test_tags() -> None:
    assert {row[0] for row in table("tag")} == {tag.value for tag in Tag}
    assert f'"{KEY_CONTEXT}"' in PAGE


def test_blocks_have_these_numbers_and_fields() -> None:
    described = [(int(number), name, fields) for number, name, fields in table("number")]
    assert described == [(int(kind), kind.name.lower(), ", ".join(body._fields)) for kind, body in BODIES.items()]
    assert {row[0] for row in table("type")} == {kind.name.lower() for kind in BODIES}


def test_state_keys() -> None:
    assert [row[0] for row in table("key")] == sorted(SYSTEM_KEYS), "block 0 sets them in this order"


def test_topics_and_their_rates() -> None:
    described = {name: (float(rate), int(burst)) for name, _, rate, burst in table("topic")}
    assert described == RATES


def test_stream_protocols() -> None:
    rooms = (rpc.PROTOCOL, sync.PROTOCOL, state_sync.STATE_PROTOCOL, tunnel.PROTOCOL)
    assert tuple(row[0] for row in table("protocol")) == rooms


def test_calls() -> None:
    served = {handshake.METHOD, EXCHANGE_METHOD, ATTEST_METHOD, VOTES_METHOD, BLOCK_METHOD}
    assert {row[0] for row in table("method")} == served | {PROGRESS_METHOD, WITHDRAW_METHOD, MACHINE_METHOD}


def test_sync_messages() -> None:
    kinds = (
        sync_plan.DIGEST, sync_plan.EQUAL, sync_plan.DIFFERENT, sync_plan.ASK_BUCKETS, sync_plan.BUCKETS,
        sync_plan.FOLLOW, sync_plan.EXACT, sync_plan.FRONTIERS, sync_plan.ASK, sync_plan.BLOCKS,
    )  # fmt: skip
    assert tuple(int(row[0]) for row in table("message")) == kinds


@pytest.mark.parametrize("kind", market.MARKET.values(), ids=lambda kind: kind.tag.value)
def test_market_records(kind: RecordKind[tuple[object, ...]]) -> None:
    rows = dict(table("record"))
    assert rows[kind.tag.value] == ", ".join(name for name, _ in kind.readers)
    assert len(rows) == len(market.MARKET)


def test_tunnel_answers() -> None:
    described = {int(number): text.partition(":")[0] for number, text in table("answer")}
    assert described == {int(answer): answer.name.lower() for answer in TunnelAnswer}


@pytest.mark.parametrize(
    "sentence",
    [
        f"{BLOCK_BYTES_MAX:,} bytes at most",
        f"A block has {ATTESTATIONS_MAX} at most",
        f"A representative signs 1 to {votes.VOTES_MAX} at once",
        f"Final votes of {QUORUM_PERCENT} % of the frozen weight",
        f"Only the {REPRESENTATIVES_MAX:,} heaviest vote",
        f"once in {timekeeping.REPEAT_AFTER // 10**9} s",
        f"left the monotonic one by more than {timekeeping.CLOCK_STEP_MAX // 10**9} s",
        f"good for {directory.VALID_FOR // (60 * 10**9)} minutes, renewed every {directory.RENEWED_EVERY // 60}",
        f"An offer binds for {market.OFFER_VALID_FOR // 10**9} s",
        f"{market.WINDOW_AFTER_FIRST:g} s after the first offer, {market.WINDOW_IN_ALL:g} s in all",
        f"further than {market.RECORD_WINDOW // 10**9} s from now",
        f"multiplier_milli {price.MULTIPLIER_MIN} to {price.MULTIPLIER_MAX}",
        f"{sync_plan.PAGE_BLOCKS_MAX} at most",
        f"A session has {sync_plan.SESSION_BLOCKS_MAX:,} blocks and {sync_plan.SESSION_PAGES_MAX} pages at most",
        f"later than {provision.ACCEPT_WITHIN // 10**9} s after its date",
        f"cancels one after {provision.CANCEL_AFTER // 10**9} s",
        f"`{mdns.SERVICE_TYPE}`",
    ],
)
def test_figures(sentence: str) -> None:
    assert sentence in PAGE
