"""Who may call: Host and Origin, rate, size, content type, the operator's token (http-api: Conventions).

Theory of operation. A page of another site in the operator's browser must not be able to act, nor to read by a name
that it re-points to this host: so the Host must be an IP address, localhost or a name that the operator lists, and an
Origin, where there is one, must be this server's own or a listed one. Reads are open otherwise. Acting calls need the
token, unless there is none and the server is bound to loopback. Signed calls take a lease's proof as well.
"""

import hmac
import math
from collections import OrderedDict
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import Scope

from xnode.api.access import is_signed
from xnode.api.calls import Call
from xnode.api.clients import client_of, is_ip, is_loopback
from xnode.api.errors import HttpFault
from xnode.api.parse import check_size
from xnode.api.settings import ADDRESSES_MAX, ApiSettings
from xnode.core.faults import NotAllowed, OperatorFault

CORS_METHODS = "GET, POST, OPTIONS"
CORS_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Access-Signature, X-Access-Timestamp"


def _host_name(host: str) -> str:
    """The Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().removesuffix(".")


class Buckets:
    """Token buckets by client address; `rate` a second, `burst` at most. The longest unused is forgotten first."""

    def __init__(self, rate: float, burst: float, addresses_max: int = ADDRESSES_MAX) -> None:
        self._rate, self._burst, self._addresses_max = rate, burst, addresses_max
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address -> (tokens, at that time)

    def __len__(self) -> int:
        return len(self._left)

    def take(self, address: str, price: float, now: float) -> float:
        """Takes `price` tokens and returns 0, or takes none and returns the seconds until they are there."""
        tokens, at = self._left.pop(address, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        wait = max(0.0, (price - tokens) / self._rate)
        self._left[address] = (tokens if wait else tokens - price, now)
        if len(self._left) > self._addresses_max:
            self._left.popitem(last=False)
        return wait


class Guard:
    """Raises the fault of whoever may not; `monotonic` in seconds."""

    def __init__(self, settings: ApiSettings, monotonic: Callable[[], float]) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._buckets = Buckets(settings.rate, settings.burst)
        self._open = settings.token is None
        if settings.token is not None and not settings.token.strip():
            raise OperatorFault("empty_token", "the operator's token is empty: make another (`xnode token new`)")
        if self._open and not is_loopback(settings.bind):
            text = (
                f"the API is bound to {settings.bind}, which others can reach: make a token first (`xnode token new`)"
            )
            raise OperatorFault("token_needed", text)

    def enter(self, scope: Scope) -> str | None:
        """For every request, before it is routed; returns the foreign origin that is to be allowed by CORS headers."""
        headers = Headers(scope=scope)
        self.pay(scope, 1)
        host = self._check_host(headers)
        length = headers.get("content-length", "0")
        check_size(int(length) if length.isdecimal() else 0, self._settings.body_bytes_max)
        origin = headers.get("origin")
        if origin is None or origin == f"{scope['scheme']}://{host}":
            return None
        if origin not in self._settings.cors_origins:
            raise NotAllowed(
                "foreign_origin",
                "this page's origin is not allowed; the node's operator can list it (api_cors_origins in config.toml)",
            )
        return origin

    def pay(self, scope: Scope, price: int) -> None:
        """Raises HttpFault 429 when this client asks too much."""
        wait = self._buckets.take(client_of(scope), price, self._monotonic())
        if wait:
            after = {"Retry-After": str(math.ceil(wait))}
            raise HttpFault(429, "too_many", f"too many requests; wait {wait:.1f} s", after, retryable=True)

    def admit(self, scope: Scope, call: Call) -> None:
        """For a routed request: its price, its content type, and the token where it acts."""
        if call.price > 1:
            self.pay(scope, call.price - 1)
        headers = Headers(scope=scope)
        if call.acting or (call.signed and not is_signed(headers)):
            self.check_token(headers)
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if call.method == "POST" and call.body is not None and media_type != "application/json":
            raise HttpFault(415, "not_json", "send JSON with the header `Content-Type: application/json`")

    def check_token(self, headers: Headers) -> None:
        """Raises HttpFault 401 unless the request bears the operator's token, or needs none."""
        if self._open:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        expected = (self._settings.token or "").encode()
        if scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), expected):
            return
        text = "this call needs the operator's token (`xnode token show-path`): send `Authorization: Bearer <token>`"
        raise HttpFault(401, "bad_token", text, {"WWW-Authenticate": "Bearer"})

    def _check_host(self, headers: Headers) -> str:
        hosts = headers.getlist("host")
        name = _host_name(hosts[0]) if len(hosts) == 1 else ""
        if name == "localhost" or is_ip(name) or name in self._settings.hosts:
            return hosts[0]
        text = "call this node by its IP address, by localhost, or by a name that its operator lists (api_hosts)"
        raise NotAllowed("foreign_host", text)


def cors_headers(origin: str, is_preflight: bool) -> dict[str, str]:
    """What lets the browser give an answer to a page of a listed origin."""
    headers = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": "X-Next-Cursor, X-Next-Position",
        "Vary": "Origin",
    }
    if is_preflight:
        headers |= {"Access-Control-Allow-Methods": CORS_METHODS, "Access-Control-Allow-Headers": CORS_HEADERS}
        headers["Access-Control-Max-Age"] = "600"
    return headers
