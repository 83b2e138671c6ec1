"""Finding a lease by its hash or by a unique beginning of it."""

import re
from typing import Any, Final

import click

from xnode_cmd.client import ApiClient

FULL_HASH: Final = re.compile(r"[0-9a-f]{64}")
PREFIX: Final = re.compile(r"[0-9a-f]{1,63}")


def find_lease(client: ApiClient, name: str) -> dict[str, Any]:
    """The lease as GET /leases/{hash} shows it; raises click.ClickException where `name` is none or several."""
    if FULL_HASH.fullmatch(name):
        lease: dict[str, Any] | None = client.find(f"/leases/{name}")
        if lease is None:
            raise click.ClickException(f"this node knows no lease {name}")
        return lease
    if not PREFIX.fullmatch(name):
        raise click.ClickException(f"{name!r} is not a lease hash or the beginning of one; see `xnode lease list`")
    found = [item for item in client.get("/leases") if item["lease_hash"].startswith(name)]
    if len(found) != 1:
        how_many = f"{len(found)} leases begin" if found else "no lease begins"
        raise click.ClickException(f"{how_many} with {name}; see `xnode lease list`")
    only: dict[str, Any] = found[0]
    return only


def own_leases(client: ApiClient, account: str, state: str | None = None) -> list[dict[str, Any]]:
    """The leases in which the account is consumer or provider, oldest first."""
    by_hash: dict[str, dict[str, Any]] = {}
    for role in ("consumer", "provider"):
        by_hash |= {item["lease_hash"]: item for item in client.get("/leases", state=state, **{role: account})}
    return list(by_hash.values())
