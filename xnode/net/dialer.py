"""Dialling: each address in turn, never twice at once, and configured peers for ever.

Defects of py-libp2p 0.8.1 that this replaces: a failed dial blocks the peer for 60 s, only one address of
a peer is tried, and a bootstrap peer is forgotten after three failures.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

import trio
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from xnode.core.faults import CallerFault, PeerFault

log = logging.getLogger(__name__)

ADDRESS_ERRORS: Final = (MultiaddrError, ValueError)  # what multiaddr raises on text from outside
DIAL_TIMEOUT_SECONDS: Final = 10.0
BACKOFF_FIRST_SECONDS: Final = 0.5
BACKOFF_MAX_SECONDS: Final = 30.0
RECHECK_SECONDS: Final = 0.5  # how soon a lost connection to a configured peer is noticed
PEERS_MAX: Final = 256  # configured peers that are kept dialled
DISCOVERED_MAX: Final = 64
DISCOVERED_TRIES: Final = 8  # failures in a row until a discovered peer is forgotten
ADDRESSES_MAX: Final = 8  # tried in one dial
NAMES: Final = {"dns": trio.socket.AF_UNSPEC, "dns4": trio.socket.AF_INET, "dns6": trio.socket.AF_INET6}


def parse_peer(multiaddr: str) -> tuple[ID, Multiaddr]:
    """The id and bare address of e.g. /ip4/10.0.0.1/tcp/4001/p2p/12D3Koo..; CallerFault(bad_peer_address)."""
    try:
        whole = Multiaddr(multiaddr)
        text = str(whole.value_for_protocol("p2p"))
        whole.value_for_protocol("tcp")
    except ADDRESS_ERRORS as error:
        message = f"{multiaddr!r} is no peer address: write it as /ip4/HOST/tcp/PORT/p2p/PEERID"
        raise CallerFault("bad_peer_address", message) from error
    return ID.from_string(text), whole.decapsulate(Multiaddr(f"/p2p/{text}"))


def parse_peer_id(text: str) -> ID:
    """Raises CallerFault(bad_peer_id)."""
    try:
        is_canonical = Multiaddr(f"/p2p/{text}").value_for_protocol("p2p") == text
    except ADDRESS_ERRORS:
        is_canonical = False
    if not is_canonical:
        raise CallerFault("bad_peer_id", f"{text!r} is no peer id: it is base58 text as 12D3Koo...")
    return ID.from_string(text)


class _Kept:
    def __init__(self) -> None:
        self.addresses: list[Multiaddr] = []
        self.forever = False


class Dialer:
    """Dials by `swarm.dial_addr`; `random(n)` gives n random bytes, for jitter."""

    def __init__(self, swarm: Swarm, random: Callable[[int], bytes], nursery: trio.Nursery) -> None:
        self._swarm = swarm
        self._random = random
        self._nursery = nursery
        self._turns: dict[ID, trio.Lock] = {}
        self._kept: dict[ID, _Kept] = {}

    def is_connected(self, peer: ID) -> bool:
        """Whether there is a live connection to the peer."""
        return any(not conn.is_closed for conn in self._swarm.connections.get(peer, ()))

    @property
    def keeps_any(self) -> bool:
        """Whether any peer is kept dialled for ever."""
        return any(kept.forever for kept in self._kept.values())

    def keep(self, peer: ID, address: Multiaddr, forever: bool = True) -> bool:
        """Keeps the peer dialled; several addresses of one peer add up. False when there are too many.

        `forever` false: a discovered peer, forgotten after some failures.
        """
        if peer == self._swarm.get_peer_id():
            return True
        kept = self._kept.get(peer)
        if kept is None:
            alike = sum(other.forever == forever for other in self._kept.values())
            if alike >= (PEERS_MAX if forever else DISCOVERED_MAX):
                return False
            kept = self._kept[peer] = _Kept()
            self._nursery.start_soon(self._keep_dialled, peer, kept, name=f"dial {peer}")
        kept.forever = kept.forever or forever
        if address not in kept.addresses:
            kept.addresses.append(address)
            del kept.addresses[:-ADDRESSES_MAX]
        return True

    async def dial(self, peer: ID, addresses: Sequence[Multiaddr]) -> None:
        """Returns when connected. Raises PeerFault(peer_unreachable) when no address leads to the peer."""
        if peer == self._swarm.get_peer_id():
            raise PeerFault("peer_unreachable", "that peer is this node itself")
        turn = self._turns.setdefault(peer, trio.Lock())
        try:
            async with turn:
                await self._dial_in_turn(peer, addresses)
        finally:
            if not turn.statistics().tasks_waiting and not turn.locked():
                self._turns.pop(peer, None)

    async def _dial_in_turn(self, peer: ID, addresses: Sequence[Multiaddr]) -> None:
        if self.is_connected(peer):
            return
        # Library code that comes upon this peer (gossip, identify) must not meet the 60 s block.
        self._swarm.unblock_peer(peer)
        reason = "no address is known"
        for address in list(addresses)[:ADDRESSES_MAX]:
            try:
                with trio.fail_after(DIAL_TIMEOUT_SECONDS):
                    await self._swarm.dial_addr(await _resolved(address), peer)
                return
            except (SwarmException, OSError, trio.TooSlowError, *ADDRESS_ERRORS) as error:
                reason = str(error) or type(error).__name__
        raise PeerFault("peer_unreachable", f"peer {peer} can't be reached: {reason}", retryable=True)

    async def _keep_dialled(self, peer: ID, kept: "_Kept") -> None:
        failures = 0
        while kept.forever or failures < DISCOVERED_TRIES:
            if self.is_connected(peer):
                failures = 0
                await trio.sleep(RECHECK_SECONDS)
                continue
            try:
                await self.dial(peer, kept.addresses)
            except PeerFault as fault:
                log.debug("%s", fault)
                await trio.sleep(min(BACKOFF_FIRST_SECONDS * 2**failures, BACKOFF_MAX_SECONDS) * self._jitter())
                failures = min(failures + 1, DISCOVERED_TRIES)
        del self._kept[peer]

    def _jitter(self) -> float:
        return 0.75 + int.from_bytes(self._random(2), "big") / 2**17  # 0.75 to 1.25


async def _resolved(address: Multiaddr) -> Multiaddr:
    """The address with its name looked up, for libp2p's TCP dials numbers only. Raises OSError."""
    kind = address.protocols()[0].name
    if kind not in NAMES:
        return address
    name, port = str(address.value_for_protocol(kind)), str(address.value_for_protocol("tcp"))
    family, *_, place = (await trio.socket.getaddrinfo(name, port, NAMES[kind], trio.socket.SOCK_STREAM))[0]
    return Multiaddr(f"/{'ip6' if family == trio.socket.AF_INET6 else 'ip4'}/{place[0]}/tcp/{port}")
