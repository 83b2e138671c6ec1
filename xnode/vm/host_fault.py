"""A host that fails a driver's verb, as by a disk that is full, read-only or broken: it ends no node, but is a fault.

Whoever calls a driver catches faults, waits and tries again (roles/provider.py), and a machine stays what it is until
the host has done what was asked.
"""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from xnode.core.faults import MachineFault

P = ParamSpec("P")
T = TypeVar("T")


def host_failed(error: OSError) -> MachineFault:
    """For what the host's file system did to a machine."""
    return MachineFault("host_failed", f"the provider's host failed it ({error.strerror or error}): look at its disk")


def tells_host_failed(verb: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A driver's verb that raises MachineFault(host_failed) where it would raise OSError."""

    @wraps(verb)
    async def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await verb(*args, **kwargs)
        except OSError as error:
            raise host_failed(error) from error

    return told
