"""`xnode exec`: a command in a machine that this node hosts."""

import sys
from typing import Final

import click

from xnode_cmd.leases import find_lease
from xnode_cmd.node_access import NodeAccess, with_node

TIMEOUT_DEFAULT_S: Final = 30
TIMEOUT_MAX_S: Final = 600
ANSWER_MARGIN_S: Final = 30  # beyond the command's own time: connecting to the machine


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--timeout", type=click.IntRange(1, TIMEOUT_MAX_S), default=TIMEOUT_DEFAULT_S, show_default=True)
@click.argument("lease")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@with_node
def execute(node: NodeAccess, lease: str, command: tuple[str, ...], timeout: int) -> None:
    """Run COMMAND by the shell of a machine that this node hosts, and end with its exit status.

    What stands behind LEASE is the command's, options too: those of xnode come before LEASE. For machines at other
    providers use `xnode ssh`.
    """
    with node.client() as client:
        lease_hash = find_lease(client, lease)["lease_hash"]
        body = {"command": " ".join(command), "timeout": timeout}
        answer = client.post(f"/vms/{lease_hash}/exec", body, timeout + ANSWER_MARGIN_S)
    click.echo(answer["stdout"], nl=False)
    click.echo(answer["stderr"], nl=False, err=True)
    if answer.get("truncated"):
        click.echo("the output was cut at 1 MiB", err=True)
    sys.exit(answer["exit_code"] & 0xFF)
