"""`xnode token`: the operator token, which acting calls need once it exists."""

import click

from xnode.config import new_token, write_private
from xnode.core.faults import OperatorFault
from xnode_cmd.node_access import NodeAccess, with_data_dir


@click.group()
def token() -> None:
    """Make or find the operator token of a node."""


@token.command()
@with_data_dir
def new(node: NodeAccess) -> None:
    """Make a token, in place of the one before; it is written to a file and never shown."""
    if not node.data_dir.genesis.exists():
        raise OperatorFault("no_node", node.not_running_hint())
    write_private(node.data_dir.token, new_token() + "\n")
    click.echo(f"the token is in {node.data_dir.token}; restart the node so that it asks for it")


@token.command()
@with_data_dir
def show_path(node: NodeAccess) -> None:
    """Print where the token file is; fails where there is none."""
    if not node.data_dir.token.exists():
        raise click.ClickException(f"{node.data_dir.root} has no token; make one with `xnode token new`")
    click.echo(str(node.data_dir.token))
