"""`xnode doctor`: whether this host and its node are fit, and what to do where they are not."""

from collections.abc import Sequence

import click

from xnode_cmd.doctor_checks import Finding, examine
from xnode_cmd.node_access import NodeAccess, with_data_dir
from xnode_cmd.output import json_option, print_json


@click.command()
@click.option("--provide", is_flag=True, help="Look at what a provider needs, also where this node is none.")
@click.option("--boot/--no-boot", default=True, help="Boot a machine, as a provider would: 5 to 30 s.")
@json_option
@with_data_dir
def doctor(node: NodeAccess, provide: bool, boot: bool, as_json: bool) -> None:
    """Look at this host and node, running or not; exit status 1 where something fails."""
    findings = examine(node, provide=provide, boot=boot)
    is_fit = all(item.status != "fail" for item in findings)
    if as_json:
        print_json({"ok": is_fit, "checks": [item._asdict() for item in findings]})
    else:
        for line in lines_of(findings):
            click.echo(line)
    if not is_fit:
        raise SystemExit(1)


def lines_of(findings: Sequence[Finding]) -> list[str]:
    """One line a check, and below those that are not well what to do."""
    lines = []
    for item in findings:
        lines.append(f"{item.status.upper():<5} {item.name:<12} {item.detail}")
        if item.hint:
            lines.append(f"{'':<18} -> {item.hint}")
    return lines
