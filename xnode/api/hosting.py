"""This node as a provider: what it has, whether it takes leases, and the operator's switch for that."""

from typing import Final

from xnode.api.calls import Api, Asked, Call
from xnode.api.port import HostingView
from xnode.api.schema import INTEGER, TEXT, record, word

SIZES: Final = record(vcpus=INTEGER, memory_mb=INTEGER, disk_gb=INTEGER)
HOSTING: Final = record(
    closed=TEXT,
    draining_since=INTEGER,
    capacity=SIZES,
    available=SIZES,
    machines=INTEGER,
    orphans=INTEGER,
    internet=word("none", "open"),
    limits=TEXT,
)


async def get_hosting(api: Api, asked: Asked) -> dict[str, object]:  # noqa: ARG001 every handler has one shape
    """As it is now."""
    return hosting_json(await api.bridge.call(api.port.hosting))


async def drain(api: Api, asked: Asked) -> dict[str, object]:  # noqa: ARG001 every handler has one shape
    """No new leases from now on, also after a restart; those that are there run to their end."""
    return hosting_json(await api.bridge.call(api.port.drain, True))


async def undrain(api: Api, asked: Asked) -> dict[str, object]:  # noqa: ARG001 every handler has one shape
    """New leases again."""
    return hosting_json(await api.bridge.call(api.port.drain, False))


def hosting_json(view: HostingView) -> dict[str, object]:
    """Of shape HOSTING; `draining_since` in ns, 0 where it does not drain."""
    return view._asdict() | {"capacity": view.capacity._asdict(), "available": view.available._asdict()}


STATUSES: Final = (401, 404, 502, 503)
CALLS: Final = (
    Call("GET", "/provider", "This node as a provider", get_hosting, HOSTING, STATUSES[1:]),
    Call("POST", "/provider/drain", "Take no new leases", drain, HOSTING, STATUSES, body=(), acting=True),
    Call("POST", "/provider/undrain", "Take new leases again", undrain, HOSTING, STATUSES, body=(), acting=True),
)
