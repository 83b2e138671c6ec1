"""Services that outlive their tasks.

Defect of py-libp2p 0.8.1: a Service (Swarm, Pubsub, GossipSub) cancels itself when any of its tasks fails, and the
error comes out of `host.run()`; one packet of a peer is enough. Cure: a failed task is logged and, where
it was a connection's, the connection is closed. A service still ends when its own `run` fails.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service.api import ServiceAPI
from libp2p.tools.anyio_service.trio_manager import TrioManager
from libp2p.tools.anyio_service.utils import get_task_name

log = logging.getLogger(__name__)


class TolerantManager(TrioManager):
    """Contains the failures of ordinary tasks; daemons and the service's own `run` are as before."""

    def run_task(
        self,
        async_fn: Callable[..., Any],
        *args: Any,
        daemon: bool = False,
        name: str | None = None,
        _internal: bool = False,
    ) -> None:
        if daemon or _internal:
            super().run_task(async_fn, *args, daemon=daemon, name=name, _internal=_internal)
        else:
            super().run_task(_contained, async_fn, *args, name=get_task_name(async_fn, name))


async def _contained(async_fn: Callable[..., Any], *args: Any) -> None:
    try:
        await async_fn(*args)
    except Exception as error:  # noqa: BLE001 -- the task supervisor: a peer must not end the node
        log.info("a libp2p task failed: %r", error)
        owner = getattr(async_fn, "__self__", None)
        if isinstance(owner, SwarmConn | Yamux):
            with suppress(Exception):  # the task supervisor: it was broken already
                await owner.close()


@asynccontextmanager
async def running_service(service: ServiceAPI) -> AsyncIterator[TolerantManager]:
    """libp2p's `background_trio_service` with a TolerantManager."""
    async with trio.open_nursery() as nursery:
        manager = TolerantManager(service)
        nursery.start_soon(manager.run)
        await manager.wait_started()
        try:
            yield manager
        finally:
            with trio.CancelScope(shield=True):
                await manager.stop()
