"""`xnode multisig`: an account that several people hold. A file with the next block goes from one to the other."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from xnode.core.blocks import Body, MultisigOpen, MultisigUpdate, Receive, Send
from xnode.core.genesis import Genesis
from xnode.core.keys import SigningKey
from xnode.core.keyset import Keyset, keyset_address, keyset_to_json, make_keyset
from xnode.core.values import Address, Asset, address_from_hex, hash_from_hex, public_key_from_hex
from xnode.core.work import is_valid_work
from xnode_cmd.client import ApiClient
from xnode_cmd.init import read_seed
from xnode_cmd.node_access import NodeAccess, with_data_dir, with_node
from xnode_cmd.output import json_option, print_json, short
from xnode_cmd.proposal import Proposal, read_proposal, write_proposal
from xnode_cmd.signing import LostPosition, Position, draft_block, read_position, solve, submit
from xnode_cmd.wallet import asset_option, read_pending

threshold_option: Callable[..., Any] = click.option("--threshold", type=click.IntRange(min=1), required=True,
                                                    help="How many of the keys must sign.")  # fmt: skip
out_option: Callable[..., Any] = click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True,
                                              help="The file to write the proposal to.")  # fmt: skip
key_option: Callable[..., Any] = click.option("--key-file", type=click.Path(path_type=Path, dir_okay=False),
                                              help="A `xnode wallet new-key`  [default: the node's key]")  # fmt: skip
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group()
def multisig() -> None:
    """Hold an account together: several keys, of which some must sign.

    Someone proposes (open, send, update), enough sign the file, anyone submits it. Any one key receives.
    """


@multisig.command()
@click.argument("keys", nargs=-1, required=True)
@threshold_option
@json_option
@with_data_dir
def address(node: NodeAccess, keys: tuple[str, ...], threshold: int, as_json: bool) -> None:
    """Print the address of the account that KEYS hold."""
    genesis, keyset = node.data_dir.load_genesis(), _keyset(keys, threshold)
    account = keyset_address(genesis.network_key, keyset)
    if as_json:
        print_json({"address": account.hex(), "keyset": keyset_to_json(keyset)})
        return
    click.echo(account.hex())


@multisig.command("open")
@click.argument("keys", nargs=-1, required=True)
@threshold_option
@click.option("--representative", metavar="ACCOUNT", help="Who votes with its XUSD  [default: the genesis says]")
@out_option
@with_node
def open_(node: NodeAccess, keys: tuple[str, ...], threshold: int, representative: str | None, out: Path) -> None:
    """Propose the first block of the account that KEYS hold; only then can it receive."""
    genesis, keyset = node.data_dir.load_genesis(), _keyset(keys, threshold)
    account = keyset_address(genesis.network_key, keyset)
    chosen = None if representative is None else address_from_hex(representative, "--representative")
    with node.client() as client:
        position = read_position(client, genesis, account)
        if position.keyset is not None:
            raise click.ClickException(f"the account {account.hex()} is open already")
        _propose(genesis, out, account, position._replace(keyset=keyset), MultisigOpen(keyset), representative=chosen)


@multisig.command()
@click.argument("account")
@click.argument("destination")
@click.argument("amount", type=click.IntRange(min=1))
@asset_option
@out_option
@with_node
def send(node: NodeAccess, account: str, destination: str, amount: int, asset: str, out: Path) -> None:
    """Propose to send AMOUNT from the multisig ACCOUNT to DESTINATION."""
    body = Send(address_from_hex(destination, "DESTINATION"), amount)
    with node.client() as client:
        genesis, owner, position = _open_account(node, client, account)
        _propose(genesis, out, owner, position, body, Asset[asset], -amount)


@multisig.command()
@click.argument("account")
@click.argument("keys", nargs=-1, required=True)
@threshold_option
@click.option("--representative", metavar="ACCOUNT", help="Who votes with its XUSD from then on.")
@out_option
@with_node
def update(
    node: NodeAccess, account: str, keys: tuple[str, ...], threshold: int, representative: str | None, out: Path
) -> None:
    """Propose that KEYS hold ACCOUNT from then on; those who hold it now must sign."""
    body = MultisigUpdate(_keyset(keys, threshold))
    chosen = None if representative is None else address_from_hex(representative, "--representative")
    with node.client() as client:
        genesis, owner, position = _open_account(node, client, account)
        _propose(genesis, out, owner, position, body, representative=chosen)


@multisig.command()
@click.argument("account")
@key_option
@with_node
def receive(node: NodeAccess, account: str, key_file: Path | None) -> None:
    """Receive all that is pending for ACCOUNT; your signature alone is enough."""
    key = _key(node, key_file)
    with node.client() as client:
        genesis, owner, _ = _open_account(node, client, account)
        entries = read_pending(client, owner)
        if not entries:
            raise click.ClickException("nothing is pending")
        for item in entries:
            _, _, position = _open_account(node, client, account)
            asset, amount = Asset[item["asset"]], int(item["amount"])
            body = Receive(hash_from_hex(item["source"]))
            _finish(client, genesis, _proposal(owner, position, body, asset, amount).sign(genesis, key))
            click.echo(f"received {amount} {asset.name} from {short(item['sender'])}")


@multisig.command()
@click.argument("file", type=FILE)
@key_option
@click.option("--yes", is_flag=True, help="Don't ask.")
@with_data_dir
def sign(node: NodeAccess, file: Path, key_file: Path | None, yes: bool) -> None:
    """Show the proposal in FILE and sign it; needs no running node."""
    genesis = node.data_dir.load_genesis()
    proposal = read_proposal(file, genesis)
    _show(genesis, proposal)
    signed = proposal.sign(genesis, _key(node, key_file))
    if not yes:
        click.confirm("Sign this?", abort=True)
    write_proposal(file, genesis, signed)
    click.echo(f"{signed.missing} more must sign" if signed.missing else "enough have signed: submit it")


@multisig.command("submit")
@click.argument("file", type=FILE)
@with_node
def submit_(node: NodeAccess, file: Path) -> None:
    """Hand the signed proposal in FILE to the node."""
    genesis = node.data_dir.load_genesis()
    proposal = read_proposal(file, genesis)
    if proposal.missing:
        raise click.ClickException(f"{proposal.missing} more must sign it, see `xnode multisig show {file}`")
    with node.client() as client:
        click.echo(f"published in block {_finish(client, genesis, proposal)}")


@multisig.command()
@click.argument("what", metavar="ACCOUNT|FILE")
@json_option
@with_node
def show(node: NodeAccess, what: str, as_json: bool) -> None:
    """Show who holds ACCOUNT, or what a proposal in FILE does and who has signed it."""
    genesis = node.data_dir.load_genesis()
    if Path(what).is_file():
        _show(genesis, read_proposal(Path(what), genesis))
        return
    with node.client() as client:
        _, owner, position = _open_account(node, client, what)
    assert position.keyset is not None
    held = {asset.name: position.balances[asset] for asset in Asset}
    if as_json:
        keyset = keyset_to_json(position.keyset)
        representative = position.representative
        print_json({"account": owner.hex(), "keyset": keyset, "balances": held, "representative": representative})
        return
    click.echo(f"{position.keyset.threshold} of these {len(position.keyset.keys)} keys must sign:")
    for key in position.keyset.keys:
        click.echo(f"  {key.hex()}")
    for name, amount in held.items():
        click.echo(f"{amount:>20,} {name}")


def _keyset(keys: tuple[str, ...], threshold: int) -> Keyset:
    return make_keyset((public_key_from_hex(key, "each of KEYS") for key in keys), threshold)


def _key(node: NodeAccess, key_file: Path | None) -> SigningKey:
    return node.data_dir.load_account_key() if key_file is None else SigningKey(read_seed(key_file))


def _open_account(node: NodeAccess, client: ApiClient, account: str) -> tuple[Genesis, Address, Position]:
    genesis, owner = node.data_dir.load_genesis(), address_from_hex(account, "ACCOUNT")
    position = read_position(client, genesis, owner)
    if position.keyset is None:
        raise click.ClickException("this is no open multisig account; `xnode multisig open` proposes its first block")
    return genesis, owner, position


def _proposal(
    account: Address,
    position: Position,
    body: Body,
    asset: Asset = Asset.XUSD,
    delta: int = 0,
    representative: Address | None = None,
) -> Proposal:
    assert position.keyset is not None
    block = draft_block(account, position, asset, delta, body, representative)
    return Proposal(position.keyset, block._replace(signatures=()))


def _propose(
    genesis: Genesis,
    out: Path,
    account: Address,
    position: Position,
    body: Body,
    asset: Asset = Asset.XUSD,
    delta: int = 0,
    representative: Address | None = None,
) -> None:
    if out.exists():
        raise click.ClickException(f"{out} exists already; choose another name")
    proposal = _proposal(account, position, body, asset, delta, representative)
    write_proposal(out, genesis, proposal)
    _show(genesis, proposal)
    click.echo(f"written to {out}: {proposal.missing} must sign it with `xnode multisig sign`")


def _finish(client: ApiClient, genesis: Genesis, proposal: Proposal) -> str:
    block = proposal.block
    if not is_valid_work(block.work_root, block.work, genesis.work_difficulty):
        block = block._replace(work=solve(block.work_root, genesis.work_difficulty))
    try:
        return submit(client, genesis, block)
    except LostPosition:
        message = "another block of the account has come first, so this one can't follow it; propose it anew"
        raise click.ClickException(message) from None


def _show(genesis: Genesis, proposal: Proposal) -> None:
    for line in proposal.lines(genesis, time.time_ns()):
        click.echo(line)
