"""`xnode init`: the files of a new node."""

import re
from pathlib import Path
from typing import Final

import click

from xnode.config import make_config, write_private
from xnode.core.genesis import parse_genesis
from xnode_cmd.node_access import NodeAccess, with_data_dir

SEED: Final = re.compile(r"[0-9a-f]{64}")


@click.command()
@click.option("--genesis", "genesis_file", type=click.Path(path_type=Path, dir_okay=False), help="The network to join.")
@click.option("--provide", is_flag=True, help="Offer machines of this host.")
@click.option("--timekeeper", is_flag=True, help="Attest the time of leases.")
@click.option("--peer", "peers", multiple=True, metavar="MULTIADDR", help="A peer to keep connected to; repeatable.")
@click.option("--account-key", type=click.Path(path_type=Path, dir_okay=False), help="A key of `xnode wallet new-key`.")
@with_data_dir
def init(
    node: NodeAccess,
    genesis_file: Path | None,
    provide: bool,
    timekeeper: bool,
    peers: tuple[str, ...],
    account_key: Path | None,
) -> None:
    """Make a new node: its keys, its settings, its copy of the genesis."""
    if genesis_file is None:
        raise click.UsageError(
            "name the network by --genesis FILE; there is no public network yet: "
            "`xnode devnet up` runs one on this machine, `xnode genesis new` writes the genesis of your own"
        )
    genesis = parse_genesis(read_text(genesis_file))
    config = make_config({"provide": provide, "timekeeper": timekeeper, "peers": peers})
    seed = read_seed(account_key) if account_key else None
    node.data_dir.create(genesis, config)
    if seed is not None:
        write_private(node.data_dir.account_key, seed.hex() + "\n")
    account = node.data_dir.load_account_key().public_key.hex()
    click.echo(f"a node of the network {genesis.network_id} is in {node.data_dir.root}")
    click.echo(f"account  {account}")
    click.echo(f"start it with: xnode run --data-dir {node.data_dir.root}")


def read_text(path: Path) -> str:
    """A file's text; raises click.ClickException that names the file."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise click.ClickException(f"{path} can't be read: {reason}") from error


def read_seed(path: Path) -> bytes:
    """The seed in a key file, 32 bytes; raises click.ClickException that doesn't show it."""
    text = read_text(path).strip()
    if not SEED.fullmatch(text):
        raise click.ClickException(f"{path} is no key file of `xnode wallet new-key`: 64 hex characters")
    return bytes.fromhex(text)
