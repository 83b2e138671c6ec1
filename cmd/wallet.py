"""`xnode wallet`: the node's own account. Blocks are signed here, with the key in the data directory."""

import contextlib
import secrets
from pathlib import Path
from typing import Any, Final

import click

from xnode.config import write_private
from xnode.core.blocks import Claim, Receive, Send
from xnode.core.keys import SEED_BYTES, SigningKey
from xnode.core.values import Address, Asset, address_from_hex, hash_from_hex
from xnode_cmd.client import LIST_LIMIT, ApiClient
from xnode_cmd.node_access import NodeAccess, with_data_dir, with_node
from xnode_cmd.output import json_option, print_json, print_table, short
from xnode_cmd.signing import LostPosition, read_position, sign_block, submit

TRIES_MAX: Final = 3

asset_option = click.option("--asset", type=click.Choice(["XUSD", "XE"]), default="XUSD", show_default=True)


@click.group()
def wallet() -> None:
    """Look at the node's account and move its money."""


@wallet.command()
@with_data_dir
def address(node: NodeAccess) -> None:
    """Print the account's address."""
    click.echo(node.data_dir.load_account_key().public_key.hex())


@wallet.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def new_key(file: Path) -> None:
    """Make an account before there is a network: for its genesis, then for `xnode init --account-key`."""
    if file.exists():
        raise click.ClickException(f"{file} exists already; choose another name")
    seed = secrets.token_bytes(SEED_BYTES)
    write_private(file, seed.hex() + "\n")
    click.echo(SigningKey(seed).public_key.hex())


@wallet.command()
@click.argument("account", required=False)
@json_option
@with_node
def balance(node: NodeAccess, account: str | None, as_json: bool) -> None:
    """Show what the account, or another ACCOUNT, holds."""
    owner = address_from_hex(account, "ACCOUNT") if account else own_address(node)
    with node.client() as client:
        position = read_position(client, node.data_dir.load_genesis(), owner)
    held = {asset.name: position.balances[asset] for asset in Asset}
    if as_json:
        print_json({"account": owner.hex(), "balances": held, "representative": position.representative})
        return
    for name, amount in held.items():
        click.echo(f"{amount:>20,} {name}")


@wallet.command()
@json_option
@with_node
def pending(node: NodeAccess, as_json: bool) -> None:
    """List what was sent to the account and not yet received."""
    with node.client() as client:
        entries = read_pending(client, own_address(node))
    if as_json:
        print_json(entries)
        return
    rows = [(item["source"], short(item["sender"]), item["amount"], item["asset"]) for item in entries]
    print_table(("source", "sender", "amount", "asset"), rows, "nothing is pending")


@wallet.command()
@click.argument("destination")
@click.argument("amount", type=click.IntRange(min=1))
@asset_option
@with_node
def send(node: NodeAccess, destination: str, amount: int, asset: str) -> None:
    """Send AMOUNT to the account DESTINATION, which then receives it."""
    body = Send(address_from_hex(destination, "DESTINATION"), amount)
    with node.client() as client:
        sent = _write(node, client, Asset[asset], -amount, body)
    click.echo(f"sent {amount} {asset} in block {sent}")


@wallet.command()
@click.argument("source", required=False)
@with_node
def receive(node: NodeAccess, source: str | None) -> None:
    """Receive what the block SOURCE sent, or all that is pending, now.

    A running node does so by itself once the sending block is confirmed. What you receive before goes with it if it is
    taken back, and so does all that you write after.
    """
    with node.client() as client:
        entries = read_pending(client, own_address(node))
        chosen = [item for item in entries if source is None or item["source"] == source]
        if source and not chosen:
            raise click.ClickException(f"nothing is pending from {source}; `xnode wallet pending` lists what is")
        if not chosen:
            click.echo("nothing is pending: the running node receives by itself what is sent to its account")
        for item in chosen:
            body = Receive(hash_from_hex(item["source"]))
            _write(node, client, Asset[item["asset"]], int(item["amount"]), body)
            click.echo(f"received {item['amount']} {item['asset']} from {short(item['sender'])}")


@wallet.command()
@click.option("--representative", metavar="ACCOUNT|self", help="Who votes with the account's XUSD from now on.")
@with_node
def claim(node: NodeAccess, representative: str | None) -> None:
    """Ask the faucet of a test network for XUSD."""
    with node.client() as client:
        claimed = claim_from_faucet(node, client, representative)
    click.echo(f"claimed {node.data_dir.load_genesis().faucet.amount} XUSD in block {claimed}")


@wallet.command()
@click.argument("representative", metavar="ACCOUNT|self")
@click.option(
    "--to", metavar="ACCOUNT", help="Whom to send 1 XUSD, if nothing is pending  [default: the representative]"
)
@with_node
def delegate(node: NodeAccess, representative: str, to: str | None) -> None:
    """Let ACCOUNT vote with the account's XUSD from now on, or let the account vote itself.

    A block has to say so: that which receives what is pending or, where nothing is, one that sends 1 XUSD.
    """
    chosen = _representative(node, representative, "ACCOUNT")
    with node.client() as client:
        entries = read_pending(client, own_address(node))
        if entries:
            asset, amount = Asset[entries[0]["asset"]], int(entries[0]["amount"])
            written = _write(node, client, asset, amount, Receive(hash_from_hex(entries[0]["source"])), chosen)
        else:
            destination = chosen if to is None else address_from_hex(to, "--to")
            if destination == own_address(node):
                raise click.UsageError("nothing is pending, so 1 XUSD has to be sent: name to whom with --to")
            written = _write(node, client, Asset.XUSD, -1, Send(destination, 1), chosen)
    click.echo(f"{chosen.hex()} votes with this account's XUSD from block {written} on")


def claim_from_faucet(node: NodeAccess, client: ApiClient, representative: str | None) -> str:
    """The hash of the claim block; `representative` is an address, `self`, or None to leave it as it is."""
    chosen = None if representative is None else _representative(node, representative, "--representative")
    return _write(node, client, Asset.XUSD, node.data_dir.load_genesis().faucet.amount, Claim(), chosen)


def _representative(node: NodeAccess, words: str, name: str) -> Address:
    return own_address(node) if words == "self" else address_from_hex(words, name)


def own_address(node: NodeAccess) -> Address:
    """The address of the data directory's account."""
    return Address(node.data_dir.load_account_key().public_key)


def read_pending(client: ApiClient, owner: Address) -> list[dict[str, Any]]:
    """The account's open pending entries."""
    entries: list[dict[str, Any]] = client.get(f"/pending/{owner.hex()}", limit=LIST_LIMIT)
    return entries


def _write(
    node: NodeAccess,
    client: ApiClient,
    asset: Asset,
    delta: int,
    body: Send | Receive | Claim,
    representative: Address | None = None,
) -> str:
    """Signs and submits; signs anew where the node itself has just written a block at the same position."""
    genesis, key = node.data_dir.load_genesis(), node.data_dir.load_account_key()
    for _ in range(TRIES_MAX):
        position = read_position(client, genesis, Address(key.public_key))
        block = sign_block(genesis, key, position, asset, delta, body, representative)
        with contextlib.suppress(LostPosition):
            return submit(client, genesis, block)
    raise click.ClickException(f"the node wrote blocks of its own {TRIES_MAX} times in between; try again")
