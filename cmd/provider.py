"""`xnode provider`: this node as a host of machines."""

from typing import Any

import click

from xnode_cmd.node_access import NodeAccess, with_node
from xnode_cmd.output import json_option, print_json


@click.group()
def provider() -> None:
    """Look at this node as a provider, or take it out of the market for a while."""


@provider.command()
@json_option
@with_node
def status(node: NodeAccess, as_json: bool) -> None:
    """Show what is offered, what is free, and whether new leases are taken."""
    with node.client() as client:
        _show(client.get("/provider"), as_json)


@provider.command()
@json_option
@with_node
def drain(node: NodeAccess, as_json: bool) -> None:
    """Take no new leases from now on, also after a restart; those that are there run to their end."""
    with node.client() as client:
        _show(client.post("/provider/drain", {}), as_json)


@provider.command()
@json_option
@with_node
def undrain(node: NodeAccess, as_json: bool) -> None:
    """Take new leases again."""
    with node.client() as client:
        _show(client.post("/provider/undrain", {}), as_json)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for line in provider_lines(found):
        click.echo(line)


def provider_lines(found: dict[str, Any]) -> list[str]:
    """The lines of the screen."""
    sizes = [f"{found['available'][name]}/{size} {name}" for name, size in found["capacity"].items()]
    lines = [
        f"leases    {hint(found['closed'])}",
        f"free      {', '.join(sizes)}",
        f"machines  {found['machines']}",
        f"limits    {found['limits']}",
        f"internet  {found['internet']}",
    ]
    if found["orphans"]:
        lines.append(
            f"orphans   {found['orphans']} machines whose lease the ledger does not know; see docs/operating.md"
        )
    return lines


def hint(closed: str) -> str:
    """Whether leases are taken, and what to do where none are."""
    hints = {
        "": "taken",
        "draining": "none new are taken: draining (`xnode provider undrain` ends that)",
        "host_full": "none new are taken: the host is full beyond its reserve; free memory or disk",
    }
    return hints.get(closed, closed)
