"""The one place where py-libp2p 0.8.1 is patched, and where a host is made.

The library is good, but as shipped one packet ends it. No file of it is edited: `apply` replaces the names
below, which libp2p looks up at run time, and `hardened_host` replaces handlers of one host. Each cure and
its defect are told at the class that holds it; `tests/net/test_hardening_*` show each defect on stock.
The version is pinned exactly, for private names are used.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import libp2p
import trio
from libp2p.abc import INetConn
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key
from libp2p.custom_types import TProtocol
from libp2p.host import basic_host, ping
from libp2p.host.basic_host import BasicHost
from libp2p.io import msgio
from libp2p.io import utils as io_utils
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection import swarm_connection
from libp2p.network.swarm import Swarm
from libp2p.peer import peerstore
from libp2p.peer.id import ID
from libp2p.pubsub import gossipsub, pubsub
from libp2p.pubsub import utils as pubsub_utils
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils import varint
from multiaddr import Multiaddr

from xnode.net.gossip_guard import RecordCache
from xnode.net.hardening_service import running_service
from xnode.net.hardening_swarm import AdmissionGuard, InboundDoor, StreamGuard
from xnode.net.muxer import WINDOW_BYTES, HardYamux, HardYamuxStream, read_exactly

OUTBOUND_QUEUE_RPCS: Final = 1024
SUBSCRIPTION_QUEUE_MESSAGES: Final = 4096
UPGRADE_TIMEOUT_SECONDS: Final = 8.0
NEGOTIATION_TIMEOUT_SECONDS: Final = 8.0


class HostLimits(NamedTuple):
    """How much of this node its peers may take."""

    connections_max: int = 200
    inbound_max: int = 150  # the rest is kept for dialling
    streams_per_peer_max: int = 256


def _patches() -> tuple[tuple[Any, str, Any], ...]:
    records = RecordCache(peerstore.env_to_send_in_RPC, pubsub_utils.maybe_consume_signed_record)
    reads_exactly = tuple((module, "read_exactly", read_exactly) for module in (msgio, io_utils, varint, ping, yamux))
    return (
        # a frame in more than 101 reads kills the connection
        *reads_exactly,
        # the muxer: cancelled writes, windows, silence. The class in muxer_opt is not the one that is used
        (muxer_multistream, "Yamux", HardYamux),
        (yamux, "YamuxStream", HardYamuxStream),
        # the largest frame that is read before any window is looked at
        (yamux, "MAX_WINDOW_SIZE", WINDOW_BYTES),
        # one failed task ends host.run()
        (basic_host, "background_trio_service", running_service),
        # queues of 32 that drop in silence
        (pubsub, "RpcQueue", functools.partial(RpcQueue, max_size=OUTBOUND_QUEUE_RPCS)),
        (pubsub, "SUBSCRIPTION_CHANNEL_SIZE", SUBSCRIPTION_QUEUE_MESSAGES),
        # the signed peer record is rebuilt and verified for every RPC
        *((module, "env_to_send_in_RPC", records.make) for module in (pubsub, gossipsub)),
        *((module, "maybe_consume_signed_record", records.consume) for module in (pubsub, gossipsub)),
        # ordinary network errors go to the root logger, and so on to a handler that nobody asked for
        (swarm_connection, "logging", logging.getLogger("libp2p.swarm_connection")),
    )


@functools.cache
def apply() -> None:
    """Patches the library, once in a process."""
    for module, name, replacement in _patches():
        if not hasattr(module, name):
            raise RuntimeError(f"libp2p has no {module.__name__}.{name}: only version 0.8.1 is known")
        setattr(module, name, replacement)
    _silence()


def _silence() -> None:
    """libp2p logs at ERROR what any peer can cause: that is no news, and could fill a disk."""
    logging.getLogger("libp2p").addHandler(logging.NullHandler())
    for name in list(logging.root.manager.loggerDict):
        if name == "libp2p" or name.startswith("libp2p."):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def hardened_host(
    key_pair: KeyPair,
    limits: HostLimits,
    is_allowed: Callable[[ID], bool],
    announce: Sequence[Multiaddr] = (),
) -> BasicHost:
    """A host on TCP with Noise and Yamux only; `is_allowed` is asked about every peer that connects.

    Defects cured by settings: /plaintext is offered, so that ids can be forged (Noise only); the
    auto-connector dials any address it hears of (off); a dial is retried inside a dial (off); the resource manager
    is unfair between peers (off: the limits here are our own).
    """
    apply()
    host = libp2p.new_host(
        key_pair=key_pair,
        sec_opt={NOISE_PROTOCOL: NoiseTransport(key_pair, noise_privkey=create_noise_key().private_key)},
        muxer_opt={TProtocol(yamux.PROTOCOL_ID): HardYamux},
        announce_addrs=list(announce) or None,
        disable_identify_address_discovery=True,
        connection_config=ConnectionConfig(
            max_connections=limits.connections_max,
            high_watermark=limits.connections_max,
            min_connections=0,
            low_watermark=0,
            inbound_upgrade_timeout=UPGRADE_TIMEOUT_SECONDS,
            outbound_upgrade_timeout=UPGRADE_TIMEOUT_SECONDS,
            inbound_stream_protocol_negotiation_timeout=NEGOTIATION_TIMEOUT_SECONDS,
            outbound_stream_protocol_negotiation_timeout=NEGOTIATION_TIMEOUT_SECONDS,
        ),
    )
    assert isinstance(host, BasicHost)
    _guard(host, limits, is_allowed)
    return host


def swarm_of(host: BasicHost) -> Swarm:
    """The host's swarm, as what it is."""
    swarm = host.get_network()
    assert isinstance(swarm, Swarm)
    return swarm


def _guard(host: BasicHost, limits: HostLimits, is_allowed: Callable[[ID], bool]) -> None:
    swarm = swarm_of(host)
    swarm.retry_config = RetryConfig(max_retries=0)
    swarm.set_resource_manager(None)
    swarm.set_stream_handler(StreamGuard(host._swarm_stream_handler, limits.streams_per_peer_max))
    for name, guard in (
        ("_handle_inbound_connection", InboundDoor(swarm, limits.inbound_max)),
        ("add_conn", AdmissionGuard(swarm, is_allowed)),
    ):
        setattr(swarm, name, guard)
    for name, nothing in (("maybe_connect", trio.lowlevel.checkpoint), ("record_disconnect", lambda _: None)):
        setattr(swarm.auto_connector, name, nothing)  # it dials what it hears of, and forgets no peer


async def close_host(host: BasicHost, seconds: float) -> None:
    """Closes what `host.run()` leaves open (dialled sockets), also under cancellation, in bounded time."""
    swarm = swarm_of(host)
    with trio.CancelScope(shield=True):
        connections = [conn for conns in swarm.connections.values() for conn in conns]
        with trio.move_on_after(seconds):
            # All at once: one after another, as `host.close` does it, takes 0.2 s each.
            async with trio.open_nursery() as nursery:
                for connection in connections:
                    nursery.start_soon(close_connection, connection)
        for connection in connections:
            if isinstance(connection.muxed_conn, HardYamux):
                await connection.muxed_conn.abort()
        with trio.move_on_after(seconds):
            await host.close()


async def close_connection(connection: INetConn) -> None:
    """Closes one connection; that it is broken already is no failure."""
    with suppress(Exception):  # the peer-message edge: libp2p raises here what the transport raised
        await connection.close()
