"""Puts the parts together: one process, trio in the main thread, HTTP in a thread of its own (runtime: the process).

Order of the start: settings and keys, store, machines, network, roles, HTTP; only then `run.json` says that the node is
there. The end is the same backwards. SIGTERM and SIGINT end it with status 0; a second one ends it at once.
"""

import gc
import json
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import psutil
import trio

from xnode import __version__
from xnode.api.app import create_app
from xnode.api.bridge import open_bridge
from xnode.api.port import Check, PeerView
from xnode.api.server import Bound, serve_http
from xnode.api.settings import ApiSettings
from xnode.checking.checker import Checker
from xnode.config import LOOPBACK, Config, DataDir
from xnode.core.faults import Fault, OperatorFault
from xnode.core.genesis import Genesis
from xnode.core.lease import Resources
from xnode.core.pool import parse_wants
from xnode.loop_watch import LoopWatch
from xnode.net.handshake import Handshake, Hello
from xnode.net.network import NetSettings, Network, open_network
from xnode.net.rpc import Rpc
from xnode.net.sync import Phase
from xnode.net.tunnel import TunnelLimits
from xnode.pow.solver import open_solver
from xnode.roles.admission import Terms
from xnode.roles.quorum import Quorum
from xnode.roles.running import Hosting, Outside, Roles, Settings
from xnode.roles.topics import Topics
from xnode.service import NodeService, Published
from xnode.store.store import Store
from xnode.vm.open_driver import offered_images, open_driver

GC_THRESHOLDS: Final = (10_000, 10, 10)  # blocks that land by the hundred make no cycles, but many objects
PUBLISH_EVERY: Final = 0.5  # seconds between renewals of what the HTTP thread reads
SWITCH_INTERVAL: Final = 0.0005  # seconds; measured best for two loops under one interpreter lock
PUBLISH_REST: Final = 0.02  # seconds after each renewal, so that a flood of changes is not outrun by it
PROGRESS_EVERY: Final = 2.0  # seconds between lines about the ledger being fetched
NETWORK_GRACE_SECONDS: Final = 5.0
OFFERED_MEMORY_SHARE: Final = (3, 4)
OFFERED_DISK_SHARE: Final = (1, 2)
log = logging.getLogger("xnode")


def run_node(data_dir: DataDir, config: Config) -> int:
    """Runs until it is told to stop; the process's exit status: 0 for that, 1 for a fault, which is printed."""
    _set_up_logging()
    sys.setswitchinterval(SWITCH_INTERVAL)
    status = 0
    try:
        watch = [LoopWatch()] if config.debug_loop else []
        trio.run(_main, data_dir, config, restrict_keyboard_interrupt_to_checkpoints=True, instruments=watch)
    except* Fault as group:
        status = 1
        for fault in _leaves(group):
            log.error("%s: %s", getattr(fault, "code", "fault"), fault)
    return status


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _set_up_logging() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("libp2p", "multiaddr", "asyncssh", "qemu", "httpx", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


async def _main(data_dir: DataDir, config: Config) -> None:
    async with trio.open_nursery() as nursery:
        life = trio.CancelScope()
        await nursery.start(_obey_signals, life)
        with life:
            await _run(data_dir, config)
        nursery.cancel_scope.cancel()


async def _obey_signals(life: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """The first signal ends the node in order, the second at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if life.cancel_called:
                os._exit(128 + number)
            log.info("stopping; once more to stop at once")
            life.cancel()


async def _run(data_dir: DataDir, config: Config) -> None:
    try:
        async with _node(data_dir, config) as (service, roles, bound):
            gc.freeze()  # what the imports made stays for good: a full collection need not walk it and hold up the loop
            gc.set_threshold(*GC_THRESHOLDS)
            _write_run_file(data_dir, service, roles, bound)
            log.info("node %s is up: API %s, roles %s", service.address.hex(), bound.url, ", ".join(roles.names()))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(roles.run, name="roles")
                nursery.start_soon(_keep_published, service, roles, name="publish")
                nursery.start_soon(_tell_progress, roles, name="progress")
    finally:
        data_dir.run.unlink(missing_ok=True)


async def _keep_published(service: NodeService, roles: Roles) -> None:
    while True:
        service.publish()
        await roles.replica.changed.wait(PUBLISH_EVERY)
        await trio.sleep(PUBLISH_EVERY if roles.sync.phase() is Phase.CATCHING_UP else PUBLISH_REST)


async def _tell_progress(roles: Roles) -> None:
    """On the terminal, while much of the ledger is being fetched."""
    while True:
        await trio.sleep(PROGRESS_EVERY)
        if line := roles.sync_view.line():
            log.info(line)


@asynccontextmanager
async def _node(data_dir: DataDir, config: Config) -> AsyncIterator[tuple[NodeService, Roles, Bound]]:
    genesis, key = data_dir.load_genesis(), data_dir.load_account_key()
    api = _api_settings(data_dir, config)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(Store.open(data_dir.store, genesis))
        hosting = await _hosting(stack, data_dir, config)
        solver = await stack.enter_async_context(open_solver(os.cpu_count() or 1, secrets.token_bytes))
        topics = Topics()
        network = await stack.enter_async_context(
            open_network(
                _net_settings(config, genesis),
                data_dir.load_peer_seed(),
                topics.table(),
                time.time_ns,
                secrets.token_bytes,
            )
        )
        rpc = Rpc(network)
        handshake = Handshake(network, rpc, Hello(genesis.network_id, genesis.genesis_hash, __version__))
        checker = Checker(genesis.network_key, genesis.work_difficulty)
        await stack.enter_async_context(checker.working(os.cpu_count() or 1))
        outside = Outside(
            time.time_ns, time.monotonic_ns, secrets.token_bytes, network, rpc, handshake, solver, checker
        )
        limits = TunnelLimits(config.tunnels_max, config.tunnels_per_lease_max)
        roles = Roles(key, genesis, store, topics, outside, Settings(config.timekeeper, hosting, limits))
        nursery = await stack.enter_async_context(_tunnel_nursery())
        service = NodeService(genesis, roles, nursery, lambda: _published(network, rpc, handshake, topics, roles))
        service.publish()
        bridge = await stack.enter_async_context(open_bridge())
        bound = await stack.enter_async_context(serve_http(create_app(service, bridge, api), api))
        yield service, roles, bound


@asynccontextmanager
async def _tunnel_nursery() -> AsyncIterator[trio.Nursery]:
    """Where live tunnels run: they end when the node does."""
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        finally:
            nursery.cancel_scope.cancel()


def _api_settings(data_dir: DataDir, config: Config) -> ApiSettings:
    token = data_dir.load_token()
    if token is None and config.api_bind not in LOOPBACK:
        message = f"the API at {config.api_bind} would obey anybody; make a token first: xnode token new"
        raise OperatorFault("no_token", message)
    return ApiSettings(
        bind=config.api_bind,
        port=config.api_port,
        token=token,
        cors_origins=config.api_cors_origins,
        hosts=config.api_hosts,
    )


def _net_settings(config: Config, genesis: Genesis) -> NetSettings:
    return NetSettings(
        listen=config.listen,
        peers=config.peers,
        announce=config.announce,
        mdns=config.mdns,
        network_id=f"{genesis.network_id}-{genesis.genesis_hash.hex()[:12]}",
        connections_max=config.connections_max,
    )


async def _hosting(stack: AsyncExitStack, data_dir: DataDir, config: Config) -> Hosting | None:
    if not config.provide:
        return None
    driver = await stack.enter_async_context(open_driver(data_dir, config))
    log.info("machines run by %s on %s: %s", driver.name, driver.accelerator, driver.accelerator_reason)
    log.info("machines are held by %s", driver.limits)
    log.info("machines' way to the internet: %s", driver.internet)
    images = offered_images(data_dir, config)
    terms = Terms(
        config.provider_multiplier_milli, driver.name, driver.accelerator, images, config.machine_image, driver.internet
    )  # fmt: skip
    grace, pool = config.machine_orphan_grace_h * 3600, parse_wants(config.machine_pool)
    return Hosting(driver, _capacity(data_dir, config), terms, grace, pool)


def _capacity(data_dir: DataDir, config: Config) -> Resources:
    """What the operator offers; by default all CPUs, three quarters of the memory, half of the free disk."""
    memory_mb = psutil.virtual_memory().total // 2**20
    disk_gb = psutil.disk_usage(str(data_dir.root)).free // 2**30
    return Resources(
        config.provider_vcpus or os.cpu_count() or 1,
        config.provider_memory_mb or memory_mb * OFFERED_MEMORY_SHARE[0] // OFFERED_MEMORY_SHARE[1],
        config.provider_disk_gb or disk_gb * OFFERED_DISK_SHARE[0] // OFFERED_DISK_SHARE[1],
    )


def _published(network: Network, rpc: Rpc, handshake: Handshake, topics: Topics, roles: Roles) -> Published:
    peers = tuple(
        PeerView(peer.peer_id, peer.address, handshake.version(peer.peer_id), peer.connected_at)
        for peer in network.peers()
        if handshake.knows(peer.peer_id)
    )
    info: dict[str, object] = {
        "id": network.peer_id,
        "addresses": list(network.addresses),
        "roles": list(roles.names()),
        "sync": roles.sync_view.document(),
    }
    counters = {
        **{f"net_{name}": count for name, count in network.counters.items()},
        **{f"block_{name}": count for name, count in roles.replica.outcomes.items()},
        **{f"gossip_ignored_{name}": count for name, count in topics.ignored.items()},
        **{f"sync_{name}": count for name, count in roles.sync.counters.items()},
        **{f"catch_up_{name}": count for name, count in roles.catch_up.counters.items()},
        **{f"rpc_{name}": count for name, count in rpc.counters.items()},
        **{f"voting_{name}": count for name, count in roles.voting.figures().items()},
        **{f"tunnel_{name}": count for name, count in roles.tunnels.counters.items()},
        **_hosting_figures(roles),
        **{f"state_{name}": count for name, count in roles.governance.figures().items()},
        **{f"state_sync_{name}": count for name, count in roles.state_sync.counters.items()},
        "disputed_blocks": len(roles.replica.disputed),
        "held_blocks": len(roles.replica.held),
        "held_blocks_dropped": roles.replica.held.dropped,
    }
    quorum = roles.quorum()
    checks = _checks(roles, peers, quorum)
    return Published(roles.board.ads(), peers, checks, roles.voting.views(), quorum.reachable, info, counters)


def _hosting_figures(roles: Roles) -> dict[str, int]:
    if roles.provider is None or roles.drain is None or roles.spares is None:
        return {}
    ready, wanted = roles.spares.count()
    return {
        "machines": len(roles.machines()),
        "orphans": roles.provider.orphans,
        "draining": int(roles.drain.since > 0),
        "pool_ready": ready,
        "pool_wanted": wanted,
    }


def _checks(roles: Roles, peers: tuple[PeerView, ...], quorum: Quorum) -> tuple[Check, ...]:
    reachable, needed = roles.attesting.reachable(), roles.attesting.needed
    checks = [
        Check("peers", bool(peers), f"{len(peers)} connected"),
        Check("timekeepers", reachable >= needed, f"{reachable} reachable, {needed} needed"),
        Check("quorum", quorum.is_enough, quorum.describe()),
        Check("governance", *roles.governance.check()),
    ]
    if roles.driver is not None:
        trouble = (roles.provider.trouble,) if roles.provider and roles.provider.trouble else ()
        wrong = "; ".join((*roles.driver.damaged, *trouble))
        checks.append(Check("machines", not wrong, wrong or roles.describe_hosting()))
    return tuple(checks)


def _write_run_file(data_dir: DataDir, service: NodeService, roles: Roles, bound: Bound) -> None:
    info = service.info()
    document = {
        "pid": os.getpid(),
        "api": bound.url,
        "peer_id": info["id"],
        "addresses": info["addresses"],
        "account": service.address.hex(),
        "roles": list(roles.names()),
        "started_at": time.time_ns(),
    }
    partial = data_dir.run.with_name("run.json.new")
    partial.write_text(json.dumps(document, indent=2) + "\n")
    partial.replace(data_dir.run)
