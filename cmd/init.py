"""`xnode init`: the files of a new node."""

from pathlib import Path

import click

from xnode.config import make_config
from xnode.core.genesis import parse_genesis
from xnode_cmd.node_access import NodeAccess, with_data_dir


@click.command()
@click.option("--genesis", "genesis_file", type=click.Path(path_type=Path, dir_okay=False), help="The network to join.")
@click.option("--provide", is_flag=True, help="Offer machines of this host.")
@click.option("--timekeeper", is_flag=True, help="Attest the time of leases.")
@click.option("--peer", "peers", multiple=True, metavar="MULTIADDR", help="A peer to keep connected to; repeatable.")
@with_data_dir
def init(node: NodeAccess, genesis_file: Path | None, provide: bool, timekeeper: bool, peers: tuple[str, ...]) -> None:
    """Make a new node: its keys, its settings, its copy of the genesis."""
    if genesis_file is None:
        raise click.UsageError(
            "name the network by --genesis FILE; there is no public network yet: "
            "`xnode devnet up` runs one on this machine, `xnode genesis new` writes the genesis of your own"
        )
    genesis = parse_genesis(read_text(genesis_file))
    config = make_config({"provide": provide, "timekeeper": timekeeper, "peers": peers})
    node.data_dir.create(genesis, config)
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
