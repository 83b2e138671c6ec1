"""`xnode providers` and `xnode images`: who offers machines, and which guests."""

from typing import Any

import click

from xnode_cmd.node_access import NodeAccess, with_node
from xnode_cmd.output import json_option, print_json, print_table, short


@click.command()
@json_option
@with_node
def providers(node: NodeAccess, as_json: bool) -> None:
    """List the providers that the node has heard of, and what they have free."""
    with node.client() as client:
        found: list[dict[str, Any]] = client.get("/providers")
    if as_json:
        print_json(found)
        return
    head = ("address", "vcpus", "memory_mb", "disk_gb", "leases", "multiplier", "internet", "images", "closed")
    print_table(head, [_row(item) for item in found], "no provider has been heard of; they announce once a minute")


@click.command()
@json_option
@with_node
def images(node: NodeAccess, as_json: bool) -> None:
    """List the guests that providers offer, for `xnode lease request --image`."""
    with node.client() as client:
        found: list[dict[str, Any]] = client.get("/providers")
    offers: dict[str, list[str]] = {}
    for item in found:
        for name in item.get("images", []):
            offers.setdefault(name, []).append(item["address"])
    if as_json:
        print_json([{"image": name, "providers": offers[name]} for name in sorted(offers)])
        return
    rows = [(name, ", ".join(map(short, offers[name]))) for name in sorted(offers)]
    print_table(("image", "providers"), rows, "no provider has been heard of; they announce once a minute")


def _row(item: dict[str, Any]) -> tuple[object, ...]:
    free = [f"{item[f'available_{name}']}/{item[name]}" for name in ("vcpus", "memory_mb", "disk_gb")]
    multiplier = f"{item.get('multiplier_milli', 1000) / 1000:g}"
    images = ", ".join(item.get("images", []))
    terms = (multiplier, item.get("internet", "none"), images, item.get("closed", ""))
    return (short(item["address"]), *free, item["active_leases"], *terms)
