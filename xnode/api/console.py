"""What a machine writes to its serial console: any bytes at all, in one piece or followed as it comes."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from xnode.api.access import PROOF, proof_of
from xnode.api.calls import Api, Asked, Call
from xnode.api.parse import optional, path_hash
from xnode.api.port import ConsoleWatch
from xnode.api.schema import TEXT
from xnode.core.faults import Fault, Unavailable
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
    if is_followed:
        _check_followers(api, lease_hash)
    watch = await api.bridge.call(api.port.watch_console, lease_hash, proof_of(asked.request.headers))
    data, position = await _collect(api, watch, asked.query["position"])
    if is_followed:
        return _Followed(api, lease_hash, _following(api, watch, data, position))
    return Response(data, media_type=MEDIA_TYPE, headers={POSITION: str(position)})


def _check_followers(api: Api, lease_hash: Hash) -> None:
    everywhere = sum(api.console_followers.values())
    if everywhere >= api.settings.console_followers_max or api.console_followers[lease_hash] >= FOLLOWERS_PER_LEASE_MAX:
        raise Unavailable("too_many_followers", "too many consoles are followed; ask again soon", retryable=True)


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


class _Followed(StreamingResponse):
    """Counted as long as it is open, however it ends."""

    def __init__(self, api: Api, lease_hash: Hash, pieces: AsyncIterator[bytes]) -> None:
        super().__init__(pieces, media_type=MEDIA_TYPE)
        self._followers = api.console_followers
        self._lease_hash = lease_hash

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._followers[self._lease_hash] += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._followers[self._lease_hash] -= 1
            if not self._followers[self._lease_hash]:
                del self._followers[self._lease_hash]


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
