"""The TCP tunnel: the client's connection leaves HTTP and is joined to the lease's SSH port.

The far end is opened first, so every refusal is an ordinary answer. Then the client's socket is taken out of asyncio
and crosses to trio once; who takes it is decided under a lock, because either side may be cancelled in between.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from xnode.api.access import PROOF, proof_of
from xnode.api.bridge import Bridge
from xnode.api.calls import Api, Asked, Call
from xnode.api.clients import client_of, share_of
from xnode.api.errors import HttpFault
from xnode.api.hijack import EXTENSION, Detached, Hijack
from xnode.api.leases import known_lease
from xnode.api.parse import path_hash
from xnode.api.port import AccessProof, TunnelEnd
from xnode.api.schema import TEXT
from xnode.core.faults import CallerFault, Ended, Fault, NotAllowed, NotFound, PeerFault, WrongState
from xnode.core.lease import LeaseState
from xnode.core.values import Hash

log = logging.getLogger(__name__)

OPEN_SECONDS: Final = 60.0


class Handover:
    """A client's socket on its way from asyncio to trio: exactly one side takes it."""

    def __init__(self, client: Detached, leave: Callable[[], None]) -> None:
        self.client = client
        self._leave = leave
        self._lock = threading.Lock()
        self._is_taken = False

    def take(self) -> bool:
        """True for the first to ask."""
        with self._lock:
            is_first, self._is_taken = not self._is_taken, True
        return is_first

    async def join(self, end: TunnelEnd) -> None:
        """On the trio loop."""
        if not self.take():
            return
        try:
            await end.join(*self.client, self._leave)
        except BaseException:
            self.client.sock.close()
            self._leave()
            raise

    async def cross(self, bridge: Bridge, end: TunnelEnd) -> None:
        """On the HTTP thread; there is no way left to tell the client of a fault but to close."""
        try:
            await bridge.call(self.join, end)
        except Fault as fault:
            log.info("a tunnel ended before its first byte: %s", fault)
        finally:
            if self.take():
                self.client.sock.close()
                self._leave()
                bridge.drop(_abandon, end)


class _Taken(Response):
    """Sends nothing: the connection has left HTTP."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Does nothing."""


async def _abandon(end: TunnelEnd) -> None:
    await end.abandon()


async def open_tunnel(api: Api, asked: Asked) -> Response:
    """Raw bytes both ways after the answer's head."""
    request = asked.request
    lease_hash = path_hash(request, "lease")
    proof = proof_of(request.headers)
    hijack = request.scope.get("extensions", {}).get(EXTENSION)
    if not isinstance(hijack, Hijack):
        raise CallerFault("tunnel_body", "a tunnel's request has no body, and its path as the request's target")
    leave = _seat(api, request)
    try:
        end, client = await _opened(api, lease_hash, proof, hijack)
    except BaseException:
        leave()
        raise
    await Handover(client, leave).cross(api.bridge, end)
    return _Taken()


def _seat(api: Api, request: Request) -> Callable[[], None]:
    client, most = client_of(request.scope), api.settings.tunnels_max
    return api.tunnels.take(most, {client: share_of(client, api.settings.tunnels_per_client_max, most)})


async def _opened(api: Api, lease_hash: Hash, proof: AccessProof | None, hijack: Hijack) -> tuple[TunnelEnd, Detached]:
    """Both ends, the far one first."""
    open_end = api.port.open_tunnel
    try:
        end = await api.bridge.call(open_end, lease_hash, proof, deadline_s=OPEN_SECONDS, undo=_abandon)
    except NotAllowed as fault:
        text = _whom_to_ask(api, lease_hash) if fault.code == "not_your_lease" else str(fault)
        raise HttpFault(401, fault.code, text) from None
    except NotFound as fault:
        raise _missing(api, lease_hash) from fault
    try:
        client = await hijack.take()
    except BaseException:
        api.bridge.drop(_abandon, end)
        raise
    return end, client


def _whom_to_ask(api: Api, lease_hash: Hash) -> str:
    lease = known_lease(api, lease_hash)
    if api.port.address in (lease.consumer, lease.provider):
        return "sign with the lease's access key (X-Access-Signature, X-Access-Timestamp)"
    return (
        "this node is neither the lease's consumer nor its provider, and carries no tunnels of others: ask the node of "
        f"{lease.consumer.hex()} (its consumer) or {lease.provider.hex()} (its provider)"
    )


def _missing(api: Api, lease_hash: Hash) -> Fault:
    """Why a lease that is known here has no machine at the other end; raises NotFound for one that is not."""
    lease = known_lease(api, lease_hash)
    if lease.is_final:
        return Ended("lease_ended", f"the lease is {lease.state}")
    if lease.state is LeaseState.CREATED:
        text = "its provider has not accepted the lease yet: GET /leases/{hash}/events tells when its machine runs"
        return WrongState("lease_created", text)
    text = "the provider does not know this lease or has no machine for it: see GET /leases/{hash}/events, or ask it"
    return PeerFault("machine_lost", text, retryable=True)


CALLS: Final = (
    Call(
        "POST",
        "/tunnel/{hash}/tcp",
        "Turn this connection into a raw tunnel to the machine's SSH port (101, or 200 without an Upgrade header)",
        open_tunnel,
        TEXT,
        (101, 400, 401, 404, 409, 410, 502, 503),
        headers=PROOF,
        signed=True,
        price=10,
        content_type="application/octet-stream",
    ),
)
