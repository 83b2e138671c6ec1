"""Finding nodes of the same network on the local network, by mDNS.

Defect of py-libp2p 0.8.1: its mDNS blocks the loop for 1.5 s, and finds nodes of any network. Here zeroconf lives
in threads, tells the network's id, and hands what it finds to the loop.
"""

import ipaddress
import logging
from collections.abc import Callable, Sequence
from typing import Final

import ifaddr
import trio
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError
from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

log = logging.getLogger(__name__)

SERVICE_TYPE: Final = "_xnode._tcp.local."
TELL_SECONDS: Final = 1.0
NAMES_MAX: Final = 256
ADDRESSES_MAX: Final = 8
CLOSE_SECONDS: Final = 5.0

Found = Callable[[str, list[Multiaddr]], None]  # peer id as text, addresses


class _Names(ServiceListener):
    """The announcements that are there now; called in zeroconf's threads."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:  # noqa: ARG002 -- zeroconf's shape
        if len(self.names) < NAMES_MAX:
            self.names[name] = None

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:  # noqa: ARG002 -- zeroconf's shape
        self.names.pop(name, None)


async def run_mdns(network_id: str, peer_id: str, addresses: Sequence[Multiaddr], found: Found) -> None:
    """Announces this node and looks for others until cancelled; without multicast it does nothing.

    On loopback only, when the node listens there only. What is announced is told again each second.
    """
    listener = _Names()
    zeroconf = await trio.to_thread.run_sync(_start, listener, network_id, peer_id, addresses)
    if zeroconf is None:
        return
    try:
        await _tell(zeroconf, listener, network_id, peer_id, found)
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_SECONDS):
            await trio.to_thread.run_sync(zeroconf.close, abandon_on_cancel=True)


async def _tell(zeroconf: Zeroconf, listener: _Names, network_id: str, own_id: str, found: Found) -> None:
    while True:
        for name in tuple(listener.names):
            peer, addresses = _look_up(zeroconf, listener, name, network_id)
            if addresses and peer != own_id:
                found(peer, addresses)
        await trio.sleep(TELL_SECONDS)


def _look_up(zeroconf: Zeroconf, listener: _Names, name: str, network_id: str) -> tuple[str, list[Multiaddr]]:
    """What is announced under this name; nothing, and its place is free, for one that can't be a node's."""
    try:
        info = ServiceInfo(SERVICE_TYPE, name)
        return _read(info, network_id) if info.load_from_cache(zeroconf) else ("", [])
    except (ZeroconfError, ValueError) as error:  # anybody on the local network can announce anything
        log.debug("an announcement by mDNS makes no sense: %s", error)
        listener.names.pop(name, None)
        return "", []


def _read(info: ServiceInfo, network_id: str) -> tuple[str, list[Multiaddr]]:
    """The peer's id and addresses; no addresses when it is of another network or makes no sense."""
    told = info.decoded_properties
    if not info.port or told.get("network") != network_id:
        return "", []
    try:
        addresses = [_multiaddr(host, info.port) for host in info.parsed_addresses()[:ADDRESSES_MAX]]
    except (MultiaddrError, ValueError):
        addresses = []
    return told.get("peer") or "", addresses


def _start(listener: _Names, network_id: str, peer_id: str, addresses: Sequence[Multiaddr]) -> Zeroconf | None:
    hosts, port = _hosts(addresses)
    if not hosts:
        return None
    loopback = all(ipaddress.ip_address(host).is_loopback for host in hosts)
    try:
        zeroconf = Zeroconf(interfaces=["127.0.0.1"] if loopback else InterfaceChoice.All)
    except (OSError, RuntimeError) as error:  # RuntimeError: no interface at all
        log.warning("mDNS can't be used here, other nodes must be configured: %s", error)
        return None
    info = ServiceInfo(
        SERVICE_TYPE,
        f"{peer_id}.{SERVICE_TYPE}",
        port=port,
        properties={"peer": peer_id, "network": network_id},
        server=f"{peer_id}.local.",
        parsed_addresses=hosts,
    )
    try:
        # The name is the node's id, so nobody has to be asked whether it is free.
        zeroconf.register_service(info, cooperating_responders=True)
    except (OSError, ZeroconfError) as error:
        log.warning("this node can't announce itself by mDNS: %s", error)
    ServiceBrowser(zeroconf, SERVICE_TYPE, listener)
    return zeroconf


def _hosts(addresses: Sequence[Multiaddr]) -> tuple[list[str], int]:
    """The IP addresses to announce, with "any" spelled out, and the port."""
    hosts: list[str] = []
    port = 0
    for address in addresses:
        protocols = [protocol.name for protocol in address.protocols()]
        if protocols[:2] not in (["ip4", "tcp"], ["ip6", "tcp"]):
            continue
        host = str(address.value_for_protocol(protocols[0]))
        port = port or int(str(address.value_for_protocol("tcp")))
        hosts += _interfaces(protocols[0]) if ipaddress.ip_address(host).is_unspecified else [host]
    return list(dict.fromkeys(hosts)), port


def _interfaces(kind: str) -> list[str]:
    """Global and local addresses of this machine; link-local IPv6 ones need a zone and are left out."""
    every = [ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    texts = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for ip in every if ip.is_IPv4 == (kind == "ip4")]
    return [text for text in texts if not ipaddress.ip_address(text).is_link_local]


def _multiaddr(host: str, port: int) -> Multiaddr:
    return Multiaddr(f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}")
