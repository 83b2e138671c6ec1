"""From the node's values to JSON, and the shape of each: the user's document's fields first, the additions after."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from starlette.responses import JSONResponse

from xnode.api.port import MachineView, PeerView, ProviderView
from xnode.api.schema import (
    AMOUNT,
    AMOUNTS,
    BOOLEAN,
    HEX32,
    INTEGER,
    MAYBE_INTEGER,
    OBJECT,
    TEXT,
    listing,
    record,
    word,
)
from xnode.core.blocks import block_to_json
from xnode.core.elections import ElectionView
from xnode.core.keyset import keyset_to_json
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.ledger import AccountRecord, Pending
from xnode.core.machine import MachineStatus
from xnode.core.values import Asset, Hash
from xnode.core.weights import quorum_of
from xnode.roles.confirmation import is_confirmed
from xnode.roles.fates import Fate
from xnode.store.reads import PointReads
from xnode.store.records import Frontier, ProviderRecord, Representative, StoredBlock

T = TypeVar("T")

LEASE: Final = record(
    lease_hash=HEX32,
    consumer=HEX32,
    provider=HEX32,
    vcpus=INTEGER,
    memory_mb=INTEGER,
    disk_gb=INTEGER,
    duration=INTEGER,
    access_pub_key=HEX32,
    cost=INTEGER,
    stake=INTEGER,
    start_time=INTEGER,
    certificate_hash=HEX32,
    settled=BOOLEAN,
    state=word(*LeaseState),
)
PROVIDER: Final = record(
    address=HEX32,
    vcpus=INTEGER,
    memory_mb=INTEGER,
    disk_gb=INTEGER,
    active_leases=INTEGER,
    available_vcpus=INTEGER,
    available_memory_mb=INTEGER,
    available_disk_gb=INTEGER,
    multiplier_milli=INTEGER,
    certificate_hash=HEX32,
    driver=TEXT,
    accelerator=TEXT,
    internet=word("none", "open"),
    score=MAYBE_INTEGER,
    settled_leases=INTEGER,
    unfulfilled_leases=INTEGER,
    images=listing(TEXT),
    last_seen=INTEGER,
    closed=TEXT,
)
MACHINE: Final = record(
    lease_hash=HEX32,
    status=word(*MachineStatus),
    resources=record(vcpus=INTEGER, memory_mb=INTEGER, disk_gb=INTEGER),
    created_at=INTEGER,
    ssh_port=INTEGER,
    host_key=HEX32,
    driver=TEXT,
    image=TEXT,
    state_since=INTEGER,
)
PEER: Final = record(id=TEXT, address=TEXT, version=TEXT, connected_at=INTEGER)
BLOCK: Final = record(
    hash=HEX32, height=INTEGER, status=word("pending", "confirmed", "rejected"), reason=TEXT, block=OBJECT
)
KEYSET: Final = record(keys=listing(HEX32), threshold=INTEGER)
ACCOUNT: Final = record(
    address=HEX32,
    balances=AMOUNTS,
    representative=HEX32,
    height=INTEGER,
    final_height=INTEGER,
    frontier=HEX32,
    keyset={"anyOf": [KEYSET, {"type": "null"}]},
)
PENDING: Final = record(source=HEX32, sender=HEX32, destination=HEX32, asset=word("XUSD", "XE"), amount=INTEGER)
FRONTIER: Final = record(account=HEX32, frontier=HEX32, height=INTEGER)
REPRESENTATIVE: Final = record(address=HEX32, weight=AMOUNT, total_weight=AMOUNT, reachable=BOOLEAN)
CANDIDATE: Final = record(hash=HEX32, votes=AMOUNT, final_votes=AMOUNT)
ELECTION: Final = record(
    account=HEX32,
    previous=HEX32,
    total_weight=AMOUNT,
    needed_weight=AMOUNT,
    candidates=listing(CANDIDATE),
    rivals=listing(HEX32),
)


def lease_json(lease: LeaseRecord) -> dict[str, object]:
    """Of shape LEASE; `start_time` is 0 until it is accepted."""
    return {
        "lease_hash": lease.lease_hash.hex(),
        "consumer": lease.consumer.hex(),
        "provider": lease.provider.hex(),
        **lease.resources._asdict(),
        "duration": lease.duration,
        "access_pub_key": lease.access_pub_key.hex(),
        "cost": lease.cost,
        "stake": lease.stake,
        "start_time": lease.start_time,
        "certificate_hash": lease.certificate_hash.hex(),
        "settled": lease.state is LeaseState.SETTLED,
        "state": str(lease.state),
    }


def provider_json(provider: ProviderView, history: ProviderRecord) -> dict[str, object]:
    """Of shape PROVIDER; `score` is null without a performance certificate."""
    return {
        "address": provider.address.hex(),
        **provider.capacity._asdict(),
        "active_leases": provider.active_leases,
        **{f"available_{name}": value for name, value in provider.available._asdict().items()},
        "multiplier_milli": provider.multiplier_milli,
        "certificate_hash": provider.certificate_hash.hex(),
        "driver": provider.driver,
        "accelerator": provider.accelerator,
        "internet": provider.internet,
        "score": provider.score,
        "settled_leases": history.settled,
        "unfulfilled_leases": history.unfulfilled,
        "images": list(provider.images),
        "last_seen": provider.last_seen,
        "closed": provider.closed,
    }


def machine_json(machine: MachineView) -> dict[str, object]:
    """Of shape MACHINE."""
    return {
        "lease_hash": machine.lease_hash.hex(),
        "status": str(machine.status),
        "resources": machine.resources._asdict(),
        "created_at": machine.created_at,
        "ssh_port": machine.ssh_port,
        "host_key": machine.host_key.hex(),
        "driver": machine.driver,
        "image": machine.image,
        "state_since": machine.state_since,
    }


def peer_json(peer: PeerView) -> dict[str, object]:
    """Of shape PEER."""
    return {"id": peer.peer_id, "address": peer.address, "version": peer.version, "connected_at": peer.connected_at}


def block_json(view: PointReads, stored: StoredBlock) -> dict[str, object]:
    """Of shape BLOCK; `block` may be posted as it is."""
    status = "confirmed" if is_confirmed(view, stored.block_hash) else "pending"
    return {
        "hash": stored.block_hash.hex(),
        "height": stored.height,
        "status": status,
        "reason": "",
        "block": block_to_json(stored.block),
    }


def fate_json(block_hash: Hash, fate: Fate) -> dict[str, object]:
    """Of shape BLOCK, of one that is not applied: its height is 0; `reason` is empty while it is voted on."""
    return {
        "hash": block_hash.hex(),
        "height": 0,
        "status": "rejected" if fate.reason else "pending",
        "reason": fate.describe(),
        "block": block_to_json(fate.block),
    }


def balances_json(account: AccountRecord) -> dict[str, int]:
    """Units held, by asset."""
    return {asset.name: account.balance(asset) for asset in Asset}


def account_json(account: AccountRecord) -> dict[str, object]:
    """Of shape ACCOUNT."""
    return {
        "address": account.address.hex(),
        "balances": balances_json(account),
        "representative": account.representative.hex(),
        "height": account.height,
        "final_height": account.final_height,
        "frontier": account.head.hex(),
        "keyset": None if account.keyset is None else keyset_to_json(account.keyset),
    }


def pending_json(pending: Pending) -> dict[str, object]:
    """Of shape PENDING."""
    return {
        "source": pending.source.hex(),
        "sender": pending.sender.hex(),
        "destination": pending.destination.hex(),
        "asset": pending.asset.name,
        "amount": pending.amount,
    }


def frontier_json(frontier: Frontier) -> dict[str, object]:
    """Of shape FRONTIER."""
    return {"account": frontier.address.hex(), "frontier": frontier.head.hex(), "height": frontier.height}


def representative_json(item: Representative, total: int, is_reachable: bool) -> dict[str, object]:
    """Of shape REPRESENTATIVE; `reachable` says whether its node has told where it is."""
    return {
        "address": item.address.hex(),
        "weight": item.weight,
        "total_weight": total,
        "reachable": is_reachable,
    }


def election_json(election: ElectionView) -> dict[str, object]:
    """Of shape ELECTION; the first candidate is the one that is applied here."""
    candidates = [
        {"hash": block_hash.hex(), "votes": votes, "final_votes": finals}
        for block_hash, votes, finals in election.candidates
    ]
    return {
        "account": election.position.account.hex(),
        "previous": election.position.previous.hex(),
        "total_weight": election.total_weight,
        "needed_weight": quorum_of(election.total_weight),
        "candidates": candidates,
        "rivals": [block_hash.hex() for block_hash in election.rivals],
    }


def page(
    items: Sequence[T], limit: int, to_json: Callable[[T], dict[str, Any]], cursor: Callable[[T], str]
) -> JSONResponse:
    """A plain array; where there may be more, the header X-Next-Cursor says how to go on."""
    headers = {"X-Next-Cursor": cursor(items[-1])} if items and len(items) == limit else None
    return JSONResponse([to_json(item) for item in items], headers=headers)


def rendered(items: Iterable[T], to_json: Callable[[T], dict[str, Any]]) -> list[dict[str, Any]]:
    """A whole list."""
    return [to_json(item) for item in items]


PROVIDERS: Final = listing(PROVIDER)
