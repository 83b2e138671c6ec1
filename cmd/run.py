"""`xnode run`: the node itself."""

import resource
import sys
from typing import Any, Final

import click

from xnode.config import make_config
from xnode_cmd.node_access import NodeAccess, with_data_dir

OPEN_FILES: Final = 65_536  # ledger, peers, API clients and tunnels together stay far below it


@click.command()
@click.option("--provide/--no-provide", default=None, help="Offer machines of this host.")
@click.option("--timekeeper/--no-timekeeper", default=None, help="Attest the time of leases.")
@click.option("--api-bind", metavar="ADDRESS", help="Where the API listens; anything but loopback needs a token.")
@click.option("--api-port", type=int, help="0 lets the system choose.")
@click.option("--listen", multiple=True, metavar="MULTIADDR", help="Where peers reach this node; repeatable.")
@click.option("--peer", "peers", multiple=True, metavar="MULTIADDR", help="In addition to the configured ones.")
@click.option("--mdns/--no-mdns", default=None, help="Look for peers on the local network.")
@click.option("--machine-image", metavar="NAME", help="The guest that a lease gets when it names none.")
@with_data_dir
def run(node: NodeAccess, peers: tuple[str, ...], **flags: Any) -> None:
    """Run the node in the foreground until it is interrupted; flags win over config.toml."""
    raise_open_files()
    configured = node.data_dir.load_config()
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    config = make_config(configured._asdict() | given | {"peers": (*configured.peers, *peers)})
    from xnode.node import run_node  # not before the settings are known to be good: it takes a second

    sys.exit(run_node(node.data_dir, config))


def raise_open_files() -> None:
    """Lets this process open as many files as the host allows: at the usual 1,024, many silent clients of the API could
    keep the ledger from opening its next one, and that ends the node."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
