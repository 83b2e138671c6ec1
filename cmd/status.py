"""`xnode status`: how the node is, on one screen."""

import time
from typing import Any

import click

from xnode_cmd.client import ApiClient
from xnode_cmd.leases import own_leases
from xnode_cmd.node_access import NodeAccess, with_node
from xnode_cmd.output import json_option, print_json, seconds_left, short, show_duration


@click.command()
@json_option
@with_node
def status(node: NodeAccess, as_json: bool) -> None:
    """Show the node, its ledger, peers, readiness, leases and machines; exit status 1 unless it is ready."""
    with node.client() as client:
        found = read_status(client)
    if as_json:
        print_json(found)
    else:
        for line in status_lines(found, time.time_ns()):
            click.echo(line)
    if not found["ready"]["ok"]:
        raise SystemExit(1)


def read_status(client: ApiClient) -> dict[str, Any]:
    """What the status shows, from five reads of the API."""
    code, ready = client.status_of("/ready")
    node = client.get("/node")
    return {
        "node": node,
        "ready": {"ok": code == 200, "checks": ready.get("checks", {})},
        "account": client.find(f"/accounts/{node['address']}"),
        "leases": own_leases(client, node["address"]),
        "machines": client.get("/vms"),
    }


def status_lines(found: dict[str, Any], now_ns: int) -> list[str]:
    """The lines of the screen."""
    node, account = found["node"], found["account"]
    roles = ", ".join(node["roles"]) or "none"
    lines = [
        f"node      {node['id']}  version {node['version']}",
        f"network   {node['network_id']}  genesis {short(node['genesis_hash'])}",
        f"account   {node['address']}",
        *(f"listens   {address}" for address in node["addresses"]),
        f"roles     {roles}",
        f"ledger    {node['block_count']} blocks of {node['accounts']} accounts",
        f"sync      {sync_text(node['sync'])}",
        f"peers     {node['peer_count']}",
    ]
    if account is not None:
        lines.append("balance   " + ", ".join(f"{value} {name}" for name, value in account["balances"].items()))
    lines += [_check_line(name, check) for name, check in found["ready"]["checks"].items()]
    lines += [_lease_line(item, now_ns) for item in found["leases"] if item["state"] in ("created", "accepted")]
    lines += [f"machine   {short(item['lease_hash'])} {item['status']}" for item in found["machines"]]
    return lines


def sync_text(sync: dict[str, Any]) -> str:
    """How far the ledger is, in words."""
    if sync["phase"] == "catching_up":
        left = "" if sync["seconds_left"] is None else f", about {show_duration(sync['seconds_left'])} left"
        return f"{sync['blocks']} of about {sync['target']} blocks, {sync['blocks_per_second']:.0f} a second{left}"
    if sync["confirming"]:
        return "up to date, being confirmed"
    return "up to date" if sync["phase"] == "settled" else "looking for peers"


def _check_line(name: str, check: dict[str, Any]) -> str:
    mark = "ok" if check["ok"] else "NOT READY"
    return f"check     {name}: {mark}" + (f" ({check['detail']})" if check.get("detail") else "")


def _lease_line(item: dict[str, Any], now_ns: int) -> str:
    left = f", {show_duration(seconds_left(item, now_ns))} left" if item["state"] == "accepted" else ""
    return f"lease     {short(item['lease_hash'])} {item['state']}{left}"
