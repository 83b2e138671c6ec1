"""A proposal: a state block on its way from one DAO key to the next, as a file, and what it says in human words."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from xnode.core.faults import CallerFault
from xnode.core.genesis import KEYS_MAX, Genesis
from xnode.core.keyset import Keyset, keyset_from_json, keyset_to_json
from xnode.core.state_blocks import Action, Op, StateBlock, state_block_from_json, state_block_to_json
from xnode.core.state_values import parse_value
from xnode.core.values import NS
from xnode_cmd.output import short, show_duration

FIELDS: Final = ("network_id", "genesis_hash", "keyset", "before", "block")
FILE_BYTES_MAX: Final = 2**20
NOTHING: Final = "(nothing)"
SHOWN_CHARACTERS: Final = 200  # of a value


class Proposal(NamedTuple):
    """`keyset` must sign it and `before` has the values that it replaces (None: not set), as the proposer's node had
    them: what is signed is the block alone."""

    network_id: str
    genesis_hash: str
    keyset: Keyset
    before: dict[str, Any]
    block: StateBlock

    @property
    def missing(self) -> int:
        """How many signatures it still needs."""
        return self.keyset.threshold - len(self.block.signatures)


def save_proposal(path: Path, proposal: Proposal) -> None:
    """Writes it so that people can read it too."""
    document = {
        "network_id": proposal.network_id,
        "genesis_hash": proposal.genesis_hash,
        "keyset": keyset_to_json(proposal.keyset),
        "before": proposal.before,
        "block": state_block_to_json(proposal.block),
    }
    partial = path.with_name(path.name + ".new")
    partial.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    partial.replace(path)


def load_proposal(path: Path) -> Proposal:
    """Reads it; raises click.ClickException for what is none."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise click.ClickException(f"{path} is too large for a proposal")
        document = json.loads(path.read_text())
    except OSError as error:
        raise click.ClickException(
            f"{path} can't be read ({error.strerror}); `xnode dao propose` writes one"
        ) from error
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"{path} is not the JSON of a proposal; `xnode dao propose` writes one") from error
    if not isinstance(document, dict) or set(document) != set(FIELDS) or not isinstance(document["before"], dict):
        raise click.ClickException(f"{path} is no proposal: it has the fields {', '.join(FIELDS)}")
    try:
        keyset = keyset_from_json(document["keyset"], keys_max=KEYS_MAX)
        block = state_block_from_json(document["block"])
    except CallerFault as fault:
        raise click.ClickException(f"{path} is no proposal: {fault}") from fault
    return Proposal(str(document["network_id"]), str(document["genesis_hash"]), keyset, document["before"], block)


def check_network(proposal: Proposal, genesis: Genesis) -> None:
    """Raises click.ClickException where the proposal is for another network."""
    if proposal.genesis_hash != genesis.genesis_hash.hex():
        raise click.ClickException(
            f"this proposal is for {proposal.network_id} (genesis {short(proposal.genesis_hash)}), and the genesis "
            f"here is {genesis.network_id} ({short(genesis.genesis_hash.hex())}); name the right one by --genesis"
        )


def describe(proposal: Proposal, now_ns: int) -> Iterator[str]:
    """What it changes, when, and who has signed."""
    block = proposal.block
    yield f"proposal for {proposal.network_id}, genesis {short(proposal.genesis_hash)}"
    yield f"state block {block.number}, on block {short(block.previous.hex())}"
    yield f"holds from {show_time(block.timestamp, now_ns)}"
    for op in block.ops:
        yield from _describe_op(op, proposal.before.get(op.key))
    yield from _describe_signatures(proposal)


def show_time(timestamp: int, now_ns: int) -> str:
    """A moment in UTC, and how far away it is."""
    try:
        text = datetime.fromtimestamp(timestamp // NS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{timestamp} ns"
    away = (timestamp - now_ns) / NS
    return f"{text} ({'in ' + show_duration(away) if away > 0 else show_duration(-away) + ' ago'})"


def _describe_op(op: Op, before: Any) -> Iterator[str]:
    after = None if op.value is None else parse_value(op.value)
    if op.action is Action.SET and isinstance(before, dict) and isinstance(after, dict):
        yield f"  set {op.key}"
        yield from _describe_fields(before, after)
    else:
        yield f"  {op.action} {op.key}: {_text(before)} -> {_text(after)}"


def _describe_fields(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    if before == after:
        yield "    no change"
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if name == "keys" and isinstance(old, list) and isinstance(new, list):
            yield from (f"    + key {item}" for item in new if item not in old)
            yield from (f"    - key {item}" for item in old if item not in new)
        elif old != new:
            yield f"    {name}: {_text(old)} -> {_text(new)}"


def _text(value: Any) -> str:
    text = NOTHING if value is None else json.dumps(value, ensure_ascii=True)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}... ({len(text)} characters)"


def _describe_signatures(proposal: Proposal) -> Iterator[str]:
    done, keyset = proposal.block.signatures, proposal.keyset
    yield f"signed by {len(done)}; {keyset.threshold} of the DAO's {len(keyset.keys)} keys must sign"
    for item in done:
        yield f"  {item.public_key.hex()}"
    yield next_step(proposal)


def next_step(proposal: Proposal) -> str:
    """What is to be done with it."""
    if proposal.missing > 0:
        return f"missing: {proposal.missing}, by `xnode dao sign`"
    return "complete: `xnode dao submit` publishes it"
