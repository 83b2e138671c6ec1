"""What a machine writes to its serial console: any bytes at all, in one piece or followed as it comes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from xnode.api.access import PROOF, proof_of
from xnode.api.calls import Api, Asked, Call
from xnode.api.clients import client_of, share_of
from xnode.api.events import Seated
from xnode.api.parse import optional, path_hash
from xnode.api.port import ConsoleWatch
from xnode.api.schema import TEXT
from xnode.core.faults import Fault
from xnode.core.values import Hash

ANSWER_BYTES_MAX: Final = 256 * 1024  # of one answer; X-Next-Position says how to go on
FOLLOW_BYTES_MAX: Final = 16 * 1024 * 1024  # of one followed console
FOLLOW_SECONDS_MAX: Final = 3600.0
FOLLOWERS_PER_LEASE_MAX: Final = 4
PATIENCE_SECONDS: Final = 4.0  # one look, where nothing comes
PAUSE_SECONDS: Final = 0.05  # between looks that found something
POSITION: Final = "X-Next-Position"
MEDIA_TYPE: Final = "application/octet-stream"

QUERY: Final = (
    optional("position", "integer", "the byte to begin at; below 0 from the end", 0, low=-(2**31), high=2**62),
    optional("follow", "text", "true: stay, and send what comes", "false", choices=("true", "false")),
)


async def get_console(api: Api, asked: Asked) -> Response:
    """From a position on."""
    lease_hash = path_hash(asked.request, "vm")
    is_followed = asked.query["follow"] == "true" and asked.request.method != "HEAD"
    leave = _seat(api, asked.request, lease_hash) if is_followed else _nothing
    try:
        watch = await api.bridge.call(api.port.watch_console, lease_hash, proof_of(asked.request.headers))
        data, position = await _collect(api, watch, asked.query["position"])
    except BaseException:
        leave()
        raise
    if is_followed:
        return Seated(_following(api, watch, data, position), leave, MEDIA_TYPE)
    return Response(data, media_type=MEDIA_TYPE, headers={POSITION: str(position)})


def _nothing() -> None:
    """What who holds no seat gives back."""


def _seat(api: Api, request: Request, lease_hash: Hash) -> Callable[[], None]:
    """Taken before anything is awaited, so that no number of requests at once gets past the bounds."""
    client, most = client_of(request.scope), api.settings.console_followers_max
    share = share_of(client, api.settings.console_followers_per_client_max, most)
    return api.consoles.take(most, {client: share, lease_hash.hex(): FOLLOWERS_PER_LEASE_MAX})


async def _collect(api: Api, watch: ConsoleWatch, position: int) -> tuple[bytes, int]:
    """What is there, as much as one answer may have, and the position behind it."""
    data = b""
    while len(data) < ANSWER_BYTES_MAX:
        part = await api.bridge.call(watch.read, position, 0.0)
        position = part.position
        if not part.data:
            break
        data += part.data
    return data, position


async def _following(api: Api, watch: ConsoleWatch, data: bytes, position: int) -> AsyncIterator[bytes]:
    """Until the machine is gone, or its follower has had enough."""
    yield data
    sent, deadline = len(data), time.monotonic() + FOLLOW_SECONDS_MAX
    while sent < FOLLOW_BYTES_MAX and time.monotonic() < deadline and not api.stopping.is_set():
        try:
            part = await api.bridge.call(watch.read, position, PATIENCE_SECONDS)
        except Fault:  # there is no way left to say why but to end
            return
        position = part.position
        if part.data:
            sent += len(part.data)
            yield part.data
            await asyncio.sleep(PAUSE_SECONDS)


CALLS: Final = (
    Call(
        "GET",
        "/vms/{hash}/console",
        "What the machine has written to its serial console, from a position on",
        get_console,
        TEXT,
        (400, 401, 404, 410, 502, 503),
        query=QUERY,
        headers=PROOF,
        signed=True,
        price=10,
        content_type=MEDIA_TYPE,
    ),
)
