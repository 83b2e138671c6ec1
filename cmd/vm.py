"""`xnode vm`: steer the machine of a lease, read its console, see what it uses."""

from typing import Any, Final

import click

from xnode_cmd.console_text import ConsoleText
from xnode_cmd.leases import find_lease
from xnode_cmd.node_access import NodeAccess, with_node
from xnode_cmd.output import json_option, print_json, short, show_bytes

TIMEOUT_S: Final = 690.0  # the node gives up before that
VERBS: Final = {
    "stop": "Switch the machine off. Its disk is kept, its lease runs on, and it stays off until `xnode vm start`.",
    "start": "Boot a machine that is off; ends when it answers on SSH.",
    "reboot": "Shut the machine down and boot it; ends when it answers on SSH.",
    "pause": "Hold the machine still with all that is in its memory.",
    "resume": "Let a paused machine run on.",
    "reset": "As reboot, but the guest is not asked, as by a power cut: for one that hangs.",
}


@click.group()
def vm() -> None:
    """Steer the machine of a lease, read its console, see what it uses.

    LEASE is a hash, or the beginning of one.
    """


def _verb_command(verb: str, about: str) -> click.Command:
    @click.command(name=verb, help=about)
    @click.argument("lease")
    @json_option
    @with_node
    def steer(node: NodeAccess, lease: str, as_json: bool) -> None:
        with node.client() as client:
            lease_hash = find_lease(client, lease)["lease_hash"]
            answer = client.post(f"/vms/{lease_hash}/{verb}", {}, TIMEOUT_S)
        if as_json:
            print_json(answer)
            return
        seconds = answer["duration_ms"] / 1000
        click.echo(f"{verb}: the machine of lease {short(lease_hash)} is {answer['status']} ({seconds:.1f} s)")

    return steer


for _verb, _about in VERBS.items():
    vm.add_command(_verb_command(_verb, _about))


@vm.command()
@click.argument("lease")
@click.option("--follow", "-f", is_flag=True, help="Stay, and show what comes.")
@click.option("--position", type=int, default=0, show_default=True, help="The byte to begin at; below 0 from the end.")
@click.option("--raw", is_flag=True, help="The very bytes, control characters included.")
@with_node
def console(node: NodeAccess, lease: str, follow: bool, position: int, raw: bool) -> None:
    """Show what the machine has written to its serial console since it was last started."""
    text = ConsoleText()
    with node.client() as client:
        lease_hash = find_lease(client, lease)["lease_hash"]
        query = {"position": position, "follow": "true" if follow else "false"}
        for piece in client.pieces(f"/vms/{lease_hash}/console", **query):
            click.echo(piece if raw else text.clean(piece), nl=False)


@vm.command()
@click.argument("lease")
@json_option
@with_node
def metrics(node: NodeAccess, lease: str, as_json: bool) -> None:
    """Show what the machine uses of processor, memory, disk and network since it was last started."""
    with node.client() as client:
        lease_hash = find_lease(client, lease)["lease_hash"]
        answer = client.get(f"/vms/{lease_hash}/metrics")
    if as_json:
        print_json(answer)
        return
    for line in metrics_lines(answer):
        click.echo(line)


def metrics_lines(found: dict[str, Any]) -> list[str]:
    """The lines of the screen; `unknown` is what the guest does not tell."""
    sizes = {name: show_bytes(value) for name, value in found.items() if name.endswith("_bytes")}
    return [
        f"cpu      {found['cpu_ns'] / 1e9:.1f} s",
        f"memory   {sizes['memory_bytes']} of the host's, {sizes['guest_memory_bytes']} in use by the guest",
        f"disk     {sizes['disk_bytes']} of the host's; read {sizes['disk_read_bytes']}, "
        f"written {sizes['disk_written_bytes']}",
        f"network  received {sizes['network_received_bytes']}, sent {sizes['network_sent_bytes']}",
    ]
