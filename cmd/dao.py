"""`xnode dao`: what the holders of the DAO's keys do: propose a change, sign it one after the other, submit it."""

import re
import time
from pathlib import Path
from typing import Any, Final

import click

from xnode.config import load_key_file
from xnode.core.faults import CallerFault
from xnode.core.genesis import KEYS_MAX, Genesis, parse_genesis
from xnode.core.keyset import Keyset, all_verify, keyset_from_json
from xnode.core.state_blocks import (
    Action,
    Op,
    StateBlock,
    sign_state_block,
    state_block_from_json,
    state_block_to_json,
    state_hash,
)
from xnode.core.state_chain import AHEAD_MAX
from xnode.core.state_values import (
    DAO_KEYSET,
    KEY,
    RATES,
    SYSTEM_PREFIX,
    TIMEKEEPERS,
    parse_value,
    read_dao_keyset,
    read_rates,
    read_timekeepers,
    render_value,
)
from xnode.core.values import NS, Hash, hash_from_hex
from xnode_cmd.client import LIST_LIMIT, ApiClient, ApiRefusal
from xnode_cmd.init import read_text
from xnode_cmd.node_access import NodeAccess, with_data_dir, with_node
from xnode_cmd.output import json_option, print_json, short
from xnode_cmd.proposals import Proposal, check_network, describe, load_proposal, next_step, save_proposal, show_time

SPREAD_SECONDS: Final = 15 * 60  # for everybody to hear of a change, above the window of live blocks
DURATION: Final = re.compile(r"([0-9]{1,7})(s|m|h|d)")
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
CHECKS: Final = {DAO_KEYSET: read_dao_keyset, TIMEKEEPERS: read_timekeepers, RATES: read_rates}

file_argument = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def dao() -> None:
    """Change what the network is run by: rates, timekeepers, the DAO's own keys, any other key of the state map."""


@dao.command()
@file_argument
@click.option("--set", "sets", multiple=True, metavar="KEY=JSON", help="Repeatable.")
@click.option("--delete", "deletes", multiple=True, metavar="KEY", help="Repeatable.")
@click.option(
    "--effective-in", metavar="TIME", help="Such as 90m or 2d.  [default: the window of live blocks and 15m: 75m]"
)
@with_node
def propose(
    node: NodeAccess, file: Path, sets: tuple[str, ...], deletes: tuple[str, ...], effective_in: str | None
) -> None:
    """Write a change against the chain's tip into FILE, for the DAO's keys to sign.

    \b
    xnode dao propose rates.json --set 'sys.rates={"vcpu":40,"memory_gb":20,"disk_gb":2}'

    It takes effect at the time that it names, the same for every node. Leases may be dated ahead by as much as the
    window of live blocks, so by default nobody can have judged one by the old rates that the new ones are for.
    """
    if file.exists():
        raise click.ClickException(f"{file} exists already; choose another name")
    ops = (*map(parse_set, sets), *(Op(Action.DELETE, parse_key(key), None) for key in deletes))
    if not ops:
        raise click.UsageError("name at least one change by --set or --delete")
    genesis = node.data_dir.load_genesis()
    with node.client() as client:
        proposal = _propose(client, genesis, ops, lead_seconds(effective_in, genesis))
    save_proposal(file, proposal)
    for line in describe(proposal, time.time_ns()):
        click.echo(line)


def lead_seconds(text: str | None, genesis: Genesis) -> int:
    """How long before it holds a change is proposed."""
    if text is None:
        return genesis.timing.live_window + SPREAD_SECONDS
    match = DURATION.fullmatch(text)
    seconds = int(match[1]) * UNITS[match[2]] if match else -1
    if not 0 <= seconds <= AHEAD_MAX // NS:
        most = AHEAD_MAX // NS // UNITS["d"]
        raise click.BadParameter(f"a time such as 90m or 2d, {most}d at most", param_hint="--effective-in")
    return seconds


def parse_key(text: str) -> str:
    """A key of the state map; raises click.BadParameter."""
    if KEY.fullmatch(text) is None:
        raise click.BadParameter(f"{text!r} is no key: it must match {KEY.pattern}")
    return text


def parse_set(text: str) -> Op:
    """`KEY=JSON`; a DAO's or timekeepers' keys may stand in any order. Raises click.BadParameter."""
    key, sign, value_text = text.partition("=")
    if not sign:
        raise click.BadParameter(f"{text!r} is not KEY=JSON", param_hint="--set")
    parse_key(key)
    try:
        value = parse_value(value_text)
        if key == DAO_KEYSET and isinstance(value, dict) and isinstance(value.get("keys"), list):
            value["keys"] = sorted(value["keys"], key=str)
        if key.startswith(SYSTEM_PREFIX) and key not in CHECKS:
            raise click.BadParameter(f"{key} is none of {', '.join(CHECKS)}", param_hint="--set")
        if key in CHECKS:
            CHECKS[key](value)
        return Op(Action.SET, key, render_value(value))
    except CallerFault as fault:
        raise click.BadParameter(f"{key}: {fault}", param_hint="--set") from fault


def _propose(client: ApiClient, genesis: Genesis, ops: tuple[Op, ...], lead: int) -> Proposal:
    tip = client.get("/statechain/tip")
    before = {op.key: _value_of(client, op.key) for op in ops}
    for op in ops:
        if op.action is Action.DELETE and before[op.key] is None:
            raise click.ClickException(f"there is nothing to delete at {op.key}; `xnode dao show` lists what is set")
    timestamp = max(time.time_ns() + lead * NS, tip["timestamp"])
    block = StateBlock(tip["index"] + 1, hash_from_hex(tip["hash"]), ops, timestamp)
    try:
        state_block_from_json(state_block_to_json(block))
    except CallerFault as fault:  # too many ops, or too large
        raise click.ClickException(str(fault)) from fault
    return Proposal(genesis.network_id, genesis.genesis_hash.hex(), _keyset(client), before, block)


def _value_of(client: ApiClient, key: str) -> Any:
    entry = client.find(f"/statechain/kv/{key}")
    return None if entry is None else entry["value"]


def _keyset(client: ApiClient) -> Keyset:
    return keyset_from_json(client.get("/statechain/keyset"), keys_max=KEYS_MAX)


@dao.command()
@file_argument
@click.option("--key", "key_file", type=click.Path(path_type=Path, dir_okay=False), metavar="KEYFILE",
              help="A key of `xnode wallet new-key`.  [default: the account of the data directory]")  # fmt: skip
@click.option("--genesis", "genesis_file", type=click.Path(path_type=Path, dir_okay=False),
              help="The network's document.  [default: that of the data directory]")  # fmt: skip
@click.option("--yes", is_flag=True, help="Don't ask.")
@with_data_dir
def sign(node: NodeAccess, file: Path, key_file: Path | None, genesis_file: Path | None, yes: bool) -> None:
    """Show the proposal in FILE and add one DAO key's signature to it. Needs no node and no network."""
    proposal = load_proposal(file)
    genesis = parse_genesis(read_text(genesis_file)) if genesis_file else node.data_dir.load_genesis()
    check_network(proposal, genesis)
    key = load_key_file(key_file) if key_file else node.data_dir.load_account_key()
    name = key.public_key.hex()
    if key.public_key not in proposal.keyset.keys:
        raise click.ClickException(f"{name} is no key of the DAO that this proposal names")
    if any(item.public_key == key.public_key for item in proposal.block.signatures):
        raise click.ClickException(f"{name} has already signed")
    if proposal.missing <= 0:
        raise click.ClickException("it has all its signatures; `xnode dao submit` publishes it")
    if not all_verify(_hash(genesis, proposal.block), proposal.block.signatures):
        raise click.ClickException(f"{file} was changed after somebody had signed it; propose anew")
    for line in describe(proposal, time.time_ns()):
        click.echo(line)
    if not yes:
        click.confirm("Sign this?", abort=True)
    signed = proposal._replace(block=sign_state_block(genesis.network_key, key, proposal.block))
    save_proposal(file, signed)
    click.echo(f"signed as {name}; {next_step(signed)}")


def _hash(genesis: Genesis, block: StateBlock) -> Hash:
    return state_hash(genesis.network_key, block)


@dao.command()
@file_argument
@with_node
def submit(node: NodeAccess, file: Path) -> None:
    """Publish the proposal in FILE, once enough have signed."""
    proposal = load_proposal(file)
    check_network(proposal, node.data_dir.load_genesis())
    with node.client() as client:
        _check_fresh(client, proposal)
        try:
            answer = client.post("/statechain/blocks", state_block_to_json(proposal.block))
        except ApiRefusal as refusal:
            raise click.ClickException(f"the node refused it ({refusal.code}): {refusal.message}") from refusal
    click.echo(f"state block {proposal.block.number} is {answer['hash']}")
    click.echo(f"it holds from {show_time(proposal.block.timestamp, time.time_ns())}")


def _check_fresh(client: ApiClient, proposal: Proposal) -> None:
    tip, block = client.get("/statechain/tip"), proposal.block
    if (block.number, block.previous.hex()) != (tip["index"] + 1, tip["hash"]):
        raise click.ClickException(
            f"the chain has gone on: this is block {block.number} on {short(block.previous.hex())}, and the last block "
            f"is {tip['index']}, {short(tip['hash'])}; propose anew"
        )
    missing = _keyset(client).threshold - len(block.signatures)
    if missing > 0:
        raise click.ClickException(f"{missing} more of the DAO's keys must sign it first, by `xnode dao sign`")


@dao.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@json_option
@with_node
def show(node: NodeAccess, file: Path | None, as_json: bool) -> None:
    """Show the proposal in FILE in human words, or the chain: its tip, the DAO's keys, the map."""
    if file is not None:
        proposal = load_proposal(file)
        if as_json:
            print_json({"missing": proposal.missing, "block": state_block_to_json(proposal.block)})
            return
        for line in describe(proposal, time.time_ns()):
            click.echo(line)
        return
    with node.client() as client:
        tip, keyset = client.get("/statechain/tip"), client.get("/statechain/keyset")
        entries = client.get("/statechain/kv", limit=LIST_LIMIT)
    if as_json:
        print_json({"tip": tip, "keyset": keyset, "kv": {item["key"]: item["value"] for item in entries}})
        return
    click.echo(f"state block {tip['index']}, {tip['hash']}")
    click.echo(f"holds from {show_time(tip['timestamp'], time.time_ns())}")
    click.echo(f"the DAO: {keyset['threshold']} of {len(keyset['keys'])} keys sign")
    for key in keyset["keys"]:
        click.echo(f"  {key}")
    for item in entries:
        click.echo(f"{item['key']} = {render_value(item['value'])}")
