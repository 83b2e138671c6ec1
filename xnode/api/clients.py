"""Whose a request is, by its address, and how much of what stays open one client may hold.

Theory of operation. An answer that does not end by itself (event stream, followed console, tunnel) takes a seat before
anything is awaited, and gives it back however it ends. A seat counts under several names, each with its own bound: the
whole, the client and, for a console, the lease. Behind loopback all clients have one address, so that one's bound is
the whole.
"""

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from starlette.types import Scope

from xnode.core.faults import Unavailable

ALL: Final = "all"  # no client's address, no lease's hash


def is_ip(text: str) -> bool:
    """Whether it is an IP address, without a port."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(bind: str) -> bool:
    """Whether only this host can reach a server bound there, or be a client from there."""
    return bind == "localhost" or (is_ip(bind) and ipaddress.ip_address(bind).is_loopback)


def client_of(scope: Scope) -> str:
    """The client's address for limits; of IPv6 the /64, which one client has whole."""
    text = (scope.get("client") or ("",))[0]
    if not is_ip(text) or ":" not in text:
        return text
    address = ipaddress.IPv6Address(text.partition("%")[0])
    if address.is_loopback:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def share_of(client: str, one_max: int, all_max: int) -> int:
    """How much one client may hold of what there is for all."""
    return all_max if is_loopback(client) else min(one_max, all_max)


class Seats:
    """What is open now, by name; `text` says to who finds none free what it is that there are too many of."""

    def __init__(self, code: str, text: str) -> None:
        self._code, self._text = code, text
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()  # a tunnel ends on the node's loop

    def __len__(self) -> int:
        return self._taken[ALL]

    def take(self, all_max: int, bounds: Mapping[str, int]) -> Callable[[], None]:
        """A seat, held until what is returned is called, be it twice; raises Unavailable where none is free."""
        limits = {ALL: all_max, **bounds}
        with self._lock:
            if any(self._taken[name] >= most for name, most in limits.items()):
                raise Unavailable(self._code, self._text, retryable=True)
            self._taken.update(limits.keys())
        return _Leave(self._leave, tuple(limits))

    def _leave(self, names: tuple[str, ...]) -> None:
        with self._lock:
            self._taken.subtract(names)
            self._taken = +self._taken


class _Leave:
    """Works once, from any thread."""

    def __init__(self, leave: Callable[[tuple[str, ...]], None], names: tuple[str, ...]) -> None:
        self._leave = leave
        self._todo = [names]

    def __call__(self) -> None:
        try:
            names = self._todo.pop()
        except IndexError:
            return
        self._leave(names)
