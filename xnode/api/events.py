"""Server-sent events of one lease: its steps as this node sees them, then its end, then nothing more."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from xnode.api.bridge import DEADLINE_SECONDS
from xnode.api.calls import Api
from xnode.api.clients import client_of, share_of
from xnode.core.faults import Unavailable
from xnode.core.values import Hash
from xnode.roles.lease_log import Step

POLL_SECONDS: Final = 0.25
PING_SECONDS: Final = 15.0
REFRESH_SECONDS: Final = 5.0  # between questions to the provider
LINGER_POLLS: Final = 4  # after the lease's end, for the machine's last steps


def follow(api: Api, lease_hash: Hash, request: Request) -> Response:
    """The stream; raises Unavailable when too many are open. `Last-Event-ID` goes on behind that event."""
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    given = request.headers.get("last-event-id", "")
    seen = int(given) if given.isdecimal() and len(given) <= 20 else 0
    client, most = client_of(request.scope), api.settings.followers_max
    share = share_of(client, api.settings.followers_per_client_max, most)
    return Seated(_steps(api, lease_hash, seen), api.streams.take(most, {client: share}), "text/event-stream")


class Seated(StreamingResponse):
    """Holds its seat (clients.py) as long as it is open, however it ends."""

    def __init__(self, pieces: AsyncIterator[str | bytes], leave: Callable[[], None], media_type: str) -> None:
        super().__init__(pieces, media_type=media_type)
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it all."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


async def _steps(api: Api, lease_hash: Hash, seen: int) -> AsyncIterator[str]:
    last = Step(seen, "", "")
    idle_polls, told_at, asked_at = 0, float("-inf"), float("-inf")
    while not api.stopping.is_set():
        if time.monotonic() - asked_at > REFRESH_SECONDS:
            await refresh(api, lease_hash)
            asked_at = time.monotonic()
        end = _end(api, lease_hash)  # read before the steps, so that none before it is missed
        fresh = _after(api.port.lease_events(lease_hash), last)
        for step in fresh:
            yield _event(step.at, step.step, _step_json(step))
            last = step
        idle_polls = 0 if fresh else idle_polls + 1
        if end and idle_polls >= LINGER_POLLS:
            yield _event(last.at, "end", {"state": end, "detail": rejection(api, lease_hash) or last.detail})
            return
        if fresh or time.monotonic() - told_at > PING_SECONDS:
            told_at = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(POLL_SECONDS)


async def refresh(api: Api, lease_hash: Hash, deadline_s: float = DEADLINE_SECONDS) -> None:
    """What the provider has done may be news; a node that is too busy to ask tells what it knows."""
    with contextlib.suppress(Unavailable):
        await api.bridge.call(api.port.refresh_lease, lease_hash, deadline_s=deadline_s)


def _end(api: Api, lease_hash: Hash) -> str:
    """The final state of the lease, `rejected` where its block lost the vote, or nothing while it lives."""
    with api.port.snapshot() as view:
        lease = view.lease(lease_hash)
    if lease is None:
        return "rejected" if rejection(api, lease_hash) else ""
    return str(lease.state) if lease.is_final else ""


def rejection(api: Api, lease_hash: Hash) -> str:
    """Why the lease's block was rejected; empty where it was not, or long ago."""
    fate = api.port.fate(lease_hash)
    return "" if fate is None else fate.describe()


def _after(steps: tuple[Step, ...], last: Step) -> tuple[Step, ...]:
    """The steps behind `last`; the log may have dropped it, and two steps may have one time."""
    if last in steps:
        return steps[steps.index(last) + 1 :]
    return tuple(step for step in steps if step.at > last.at)


def _step_json(step: Step) -> dict[str, object]:
    """`duration_ms` is null where nothing was timed."""
    return {"time": step.at, "step": step.step, "detail": step.detail, "duration_ms": step.duration_ms}


def _event(number: int, name: str, data: dict[str, object]) -> str:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n"
