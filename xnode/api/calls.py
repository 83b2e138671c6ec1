"""What a call of the API is: one row of the table from which routes, guard and documentation are made."""

import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from starlette.requests import Request

from xnode.api.bridge import Bridge
from xnode.api.clients import Seats
from xnode.api.parse import Field
from xnode.api.port import NodePort
from xnode.api.settings import ApiSettings

Schema = Mapping[str, Any]


class Api:
    """All that handlers share; used on the HTTP thread only, but for `stopping`."""

    def __init__(self, port: NodePort, bridge: Bridge, settings: ApiSettings) -> None:
        self.port = port
        self.bridge = bridge
        self.settings = settings
        self.stopping = threading.Event()
        self.streams = Seats("too_many_followers", "too many event streams are open; ask again soon")
        self.consoles = Seats("too_many_followers", "too many consoles are followed; ask again soon")
        self.tunnels = Seats("tunnel_busy", "too many tunnels are open by this API; close one, or try again later")
        self.counts: Counter[str] = Counter()


class Asked(NamedTuple):
    """One admitted request, with its query and body parsed by the call's tables."""

    request: Request
    query: dict[str, Any]
    body: dict[str, Any]


class Call(NamedTuple):
    """One method on one path. `handle` returns a Response, or what is to be rendered as JSON.

    An acting call needs the operator's token (http-api: Conventions), a signed one the token or the proof of a lease's
    key (access.py); `price` is in requests, for the rate limit.
    """

    method: str
    path: str
    summary: str
    handle: Callable[[Api, Asked], Awaitable[Any]]
    answer: Schema
    statuses: tuple[int, ...] = ()
    query: tuple[Field, ...] = ()
    body: tuple[Field, ...] | Schema | None = None
    headers: tuple[Field, ...] = ()
    acting: bool = False
    signed: bool = False
    price: int = 1
    content_type: str = "application/json"
