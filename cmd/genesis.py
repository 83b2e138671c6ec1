"""`xnode genesis`: write and show the document that is a network's identity."""

import re
import time
from pathlib import Path
from typing import Final

import click

from xnode.core.attestations import Timekeepers
from xnode.core.genesis import (
    DEFAULT_DIFFICULTY,
    DEFAULT_FAUCET,
    DEFAULT_RATES,
    DEFAULT_TIMING,
    Allocation,
    Genesis,
    check_genesis,
    parse_genesis,
    render_genesis,
)
from xnode.core.keyset import Keyset
from xnode.core.values import Asset, address_from_hex, public_key_from_hex
from xnode_cmd.init import read_text
from xnode_cmd.node_access import NodeAccess, with_data_dir
from xnode_cmd.output import json_option, print_json

ALLOCATION: Final = re.compile(r"([0-9a-f]{64})=([0-9]{1,20})(?::(XUSD|XE))?")


@click.group()
def genesis() -> None:
    """Write or show a genesis document."""


def parse_allocation(text: str) -> Allocation:
    """`ACCOUNT=AMOUNT` or `ACCOUNT=AMOUNT:XE`; raises click.BadParameter."""
    match = ALLOCATION.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not ACCOUNT=AMOUNT or ACCOUNT=AMOUNT:XE", param_hint="--allocate")
    return Allocation(address_from_hex(match[1]), Asset[match[3] or "XUSD"], int(match[2]))


def majority(count: int) -> int:
    """More than half."""
    return count // 2 + 1


@genesis.command()
@click.option("--network-id", required=True, help="Lower-case letters, digits and hyphens, 32 at most.")
@click.option("--timekeeper", "timekeepers", multiple=True, required=True, metavar="KEY", help="Repeatable.")
@click.option("--threshold", type=int, help="How many timekeepers must agree.  [default: more than half]")
@click.option("--allocate", multiple=True, required=True, metavar="ACCOUNT=AMOUNT[:XE]", help="Repeatable.")
@click.option("--representative", metavar="ACCOUNT", help="[default: the first timekeeper]")
@click.option("--dao", multiple=True, metavar="KEY", help="Repeatable.  [default: the timekeepers]")
@click.option("--difficulty", default=f"{DEFAULT_DIFFICULTY:016x}", show_default=True, metavar="HEX")
@click.option("--faucet", is_flag=True, help="Give test XUSD to whoever claims.")
@click.option("--min-duration", type=int, default=DEFAULT_TIMING.lease_duration_min, show_default=True, help="Seconds.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: print it]")
def new(
    network_id: str, timekeepers: tuple[str, ...], threshold: int | None, allocate: tuple[str, ...],
    representative: str | None, dao: tuple[str, ...], difficulty: str, faucet: bool, min_duration: int,
    out: Path | None,
) -> None:  # fmt: skip
    """Write the genesis of a new network; every hash of the network depends on every word of it."""
    keys = tuple(public_key_from_hex(key, "--timekeeper") for key in timekeepers)
    dao_keys = tuple(public_key_from_hex(key, "--dao") for key in dao) or keys
    document = check_genesis(
        Genesis(
            network_id=network_id,
            created_at=time.time_ns(),
            allocations=tuple(parse_allocation(item) for item in allocate),
            representative=address_from_hex(representative or timekeepers[0], "--representative"),
            faucet=DEFAULT_FAUCET._replace(enabled=faucet),
            work_difficulty=_difficulty(difficulty),
            rates=DEFAULT_RATES,
            timing=DEFAULT_TIMING._replace(lease_duration_min=min_duration),
            dao=Keyset(dao_keys, majority(len(dao_keys))),
            timekeepers=Timekeepers(keys, threshold or majority(len(keys))),
        )
    )
    if out is None:
        click.echo(render_genesis(document), nl=False)
    elif out.exists():
        raise click.ClickException(f"{out} exists already; choose another name")
    else:
        out.write_text(render_genesis(document))
        click.echo(f"{out} is the genesis of {network_id}, hash {document.genesis_hash.hex()}")


def _difficulty(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError as error:
        raise click.BadParameter("up to 16 hexadecimal digits", param_hint="--difficulty") from error


@genesis.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@json_option
@with_data_dir
def show(node: NodeAccess, file: Path | None, as_json: bool) -> None:
    """Show a genesis FILE, or that of the data directory, with its hash."""
    document = node.data_dir.load_genesis() if file is None else parse_genesis(read_text(file))
    if as_json:
        print_json({"network_id": document.network_id, "genesis_hash": document.genesis_hash.hex()})
        return
    click.echo(f"# genesis hash {document.genesis_hash.hex()}")
    click.echo(render_genesis(document), nl=False)
