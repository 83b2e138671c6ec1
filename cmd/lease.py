"""`xnode lease`: ask for machines, look at them, take a request back."""

import json
import time
from datetime import UTC, datetime
from typing import Any, Final

import click

from xnode.core.values import NS
from xnode_cmd.client import ANSWER_MARGIN_S, ApiRefusal
from xnode_cmd.lease_keys import LeaseKeys, read_public_key
from xnode_cmd.leases import find_lease, own_leases
from xnode_cmd.node_access import NodeAccess, with_node
from xnode_cmd.output import json_option, print_json, print_table, seconds_left, short, show_duration

TIMEOUT_DEFAULT_S: Final = 120
TIMEOUT_MAX_S: Final = 600
QUOTE_TIMEOUT_S: Final = 30  # as long as anybody waits for a first offer
REFUSED_FOR_GOOD: Final = range(400, 500)  # then nobody gives a machine, and its key opens nothing
OPEN_STATES: Final = ("created", "accepted")
STATES: Final = ("created", "accepted", "settled", "cancelled", "unfulfilled")


@click.group()
def lease() -> None:
    """Lease machines and look after the leases."""


def machine_options(command: Any) -> Any:
    """What a machine is asked for by."""
    options = (
        click.option("--vcpus", type=click.IntRange(min=0), default=1, show_default=True),
        click.option("--memory-mb", type=click.IntRange(min=0), default=1024, show_default=True),
        click.option("--disk-gb", type=click.IntRange(min=0), default=1, show_default=True),
        click.option("--duration", type=click.IntRange(min=1), default=3600, show_default=True, help="Seconds."),
        click.option("--key", metavar="FILE.pub|HEX", help="An ed25519 key of yours.  [default: a fresh one is made]"),
        click.option("--provider", metavar="ACCOUNT", help="Only this provider."),
        click.option("--policy", metavar="NAME", help="How the offer is chosen."),
        click.option("--max-cost", type=click.IntRange(min=1), help="XUSD; dearer offers are passed over."),
        click.option("--image", metavar="NAME", help="The guest.  [default: the provider's]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def form(options: dict[str, Any], key: str) -> dict[str, Any]:
    """The body of a lease request or quote; what was not given is not sent."""
    names = ("vcpus", "memory_mb", "disk_gb", "duration", "provider", "policy", "max_cost", "image")
    return {name: options[name] for name in names if options[name] is not None} | {"access_pub_key": key}


@lease.command()
@machine_options
@click.option("--timeout", type=click.IntRange(1, TIMEOUT_MAX_S), default=TIMEOUT_DEFAULT_S, show_default=True)
@json_option
@with_node
def request(node: NodeAccess, key: str | None, timeout: int, as_json: bool, **options: Any) -> None:
    """Lease a machine and wait until it answers on SSH."""
    from xnode_cmd.lease_progress import request_with_progress

    node.api_url()  # before a key is made for nothing
    keys = LeaseKeys(node.data_dir)
    fresh, access_key = keys.make() if key is None else (None, read_public_key(key))
    body = form(options, access_key.hex()) | {"timeout": timeout}
    try:
        lease_hash = request_with_progress(node, body, timeout)
    except ApiRefusal as refusal:
        if fresh and refusal.status in REFUSED_FOR_GOOD and not _still_open(node, access_key.hex()):
            keys.discard(fresh)
        raise
    path = keys.assign(fresh, lease_hash) if fresh else None
    if as_json:
        print_json({"lease_hash": lease_hash, "key_file": str(path) if path else None})
        return
    click.echo(f"lease {lease_hash}")
    click.echo(f"log in with: xnode ssh {short(lease_hash)} --data-dir {node.data_dir.root}")


def _still_open(node: NodeAccess, access_key: str) -> bool:
    """Whether a lease of this key may still get its machine, as one whose provider was silent when it was taken back;
    says so. Where the node can't be asked its key is kept too."""
    try:
        with node.client() as client:
            account = client.get("/node")["address"]
            found = [item for state in OPEN_STATES for item in client.get("/leases", consumer=account, state=state)]
    except click.ClickException:
        return True
    left = [item["lease_hash"] for item in found if item["access_pub_key"] == access_key]
    for lease_hash in left:
        text = f"lease {lease_hash} may still be accepted; its key is kept. Take it back: xnode lease cancel"
        click.echo(f"{text} {short(lease_hash)}", err=True)
    return bool(left)


@lease.command()
@machine_options
@json_option
@with_node
def quote(node: NodeAccess, key: str | None, as_json: bool, **options: Any) -> None:
    """Ask what a machine would cost now; commits nothing."""
    access_key = read_public_key(key) if key else node.data_dir.load_account_key().public_key
    with node.client() as client:
        body = form(options, access_key.hex()) | {"timeout": QUOTE_TIMEOUT_S}
        answer = client.post("/lease/quote", body, QUOTE_TIMEOUT_S + ANSWER_MARGIN_S)
    if as_json:
        print_json(answer)
        return
    click.echo(f"{answer['cost']} XUSD; the provider stakes {answer['stake']} XUSD of its own")
    rows = [(short(item["provider"]), item["cost"]) for item in answer["offers"]]
    print_table(("provider", "cost"), rows, "no offers")


@lease.command(name="list")
@click.option("--all", "everybody", is_flag=True, help="Not only those of the node's own account.")
@click.option("--state", type=click.Choice(STATES))
@json_option
@with_node
def list_(node: NodeAccess, everybody: bool, state: str | None, as_json: bool) -> None:
    """List the leases in which the node's account is consumer or provider."""
    with node.client() as client:
        if everybody:
            found: list[dict[str, Any]] = client.get("/leases", state=state)
        else:
            found = own_leases(client, client.get("/node")["address"], state)
    if as_json:
        print_json(found)
        return
    now = time.time_ns()
    head = ("lease", "state", "provider", "vcpus", "memory_mb", "disk_gb", "cost", "left")
    print_table(head, [_row(item, now) for item in found], "no leases")


def _row(item: dict[str, Any], now_ns: int) -> tuple[object, ...]:
    left = show_duration(seconds_left(item, now_ns)) if item["state"] == "accepted" else ""
    sizes = (item["vcpus"], item["memory_mb"], item["disk_gb"])
    return (short(item["lease_hash"]), item["state"], short(item["provider"]), *sizes, item["cost"], left)


@lease.command()
@click.argument("name", metavar="LEASE")
@json_option
@with_node
def show(node: NodeAccess, name: str, as_json: bool) -> None:
    """Show one lease; LEASE is its hash or the beginning of it."""
    with node.client() as client:
        found = find_lease(client, name)
    if as_json:
        print_json(found)
        return
    for field, value in found.items():
        click.echo(f"{field:<18} {value}")


@lease.command()
@click.argument("name", metavar="LEASE")
@click.option("--follow", "-f", is_flag=True, help="Stay until the lease has ended.")
@json_option
@with_node
def events(node: NodeAccess, name: str, follow: bool, as_json: bool) -> None:
    """Show the steps of a lease, each with the time that it took, as far as this node remembers them."""
    from xnode_cmd.lease_progress import step_text

    with node.client() as client:
        lease_hash = find_lease(client, name)["lease_hash"]
        for line in client.lines(f"/leases/{lease_hash}/events"):
            kind, _, data = line.partition(": ")
            if kind == "data":
                click.echo(data if as_json else _dated(json.loads(data), step_text(json.loads(data))))
            elif kind == "" and data and not follow:  # all that is known has been told
                return


def _dated(event: dict[str, Any], text: str) -> str:
    if "time" not in event:
        return f"end: {text}"
    at = datetime.fromtimestamp(event["time"] / NS, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}Z  {text}"


@lease.command()
@click.argument("name", metavar="LEASE")
@with_node
def cancel(node: NodeAccess, name: str) -> None:
    """Take a request back that no provider has accepted yet; the money returns."""
    with node.client() as client:
        lease_hash = find_lease(client, name)["lease_hash"]
        client.post(f"/leases/{lease_hash}/cancel", {})
    click.echo(f"cancelled {lease_hash}")
