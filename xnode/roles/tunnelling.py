"""Who may reach a machine, and how: dialled by its provider, through a tunnel by its consumer (section 12)."""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from xnode.core.access import UsedProofs
from xnode.core.faults import Ended, MachineFault, NotAllowed, NotFound, PeerFault
from xnode.core.genesis import Genesis
from xnode.core.keys import SigningKey
from xnode.core.lease import LeaseRecord
from xnode.core.tunnel import check_access
from xnode.core.values import Address, Hash, PublicKey, Signature
from xnode.net.streams import PeerId, Stream
from xnode.net.tunnel import DIAL_SECONDS_MAX, TunnelAccess, Tunnels
from xnode.roles.contacts import Contacts, blaming_peer
from xnode.store.store import Store

LOCAL_PEER: Final = PeerId("local")

Dial = Callable[[Hash], Awaitable[trio.SocketStream]]


def live_lease(store: Store, lease_hash: Hash) -> LeaseRecord:
    """The lease; raises NotFound(lease_unknown), Ended(lease_ended)."""
    with store.snapshot() as view:
        lease = view.lease(lease_hash)
    if lease is None:
        raise NotFound("lease_unknown", "this node knows no such lease; look at GET /leases")
    if lease.is_final:
        raise Ended("lease_ended", f"the lease is {lease.state}, so its machine is gone")
    return lease


class HostAccess(TunnelAccess):
    """A provider's answer to those who come through the network."""

    def __init__(self, store: Store, address: Address, dial: Dial) -> None:
        self._store = store
        self._address = address
        self._dial = dial

    def keys(self, lease_hash: Hash) -> tuple[PublicKey, ...]:
        """The lease's access key and its consumer's account."""
        lease = live_lease(self._store, lease_hash)
        if lease.provider != self._address:
            raise NotFound("lease_unknown", "that lease is another provider's")
        return lease.access_pub_key, PublicKey(lease.consumer)

    async def dial(self, lease_hash: Hash) -> trio.SocketStream:
        """The machine's SSH port."""
        return await self._dial(lease_hash)


class LocalEnd:
    """Ends a tunnel to a machine on this host, when its lease is closed, in the dial as well as later."""

    def __init__(self) -> None:
        self.dialling = trio.CancelScope()
        self.socket: trio.SocketStream | None = None

    def close(self) -> None:
        """At once, whoever reads or writes."""
        self.dialling.cancel()
        if self.socket is not None:
            self.socket.socket.close()


class LocalStream(Stream):
    """A machine's SSH port on this host, in the shape of a peer's stream; `leave` is called when it ends."""

    def __init__(self, socket: trio.SocketStream, leave: Callable[[], None]) -> None:
        self.peer_id = LOCAL_PEER
        self._socket = socket
        self._leave = leave

    async def read(self, count: int) -> bytes:
        """Up to `count` bytes; raises PeerFault(stream_reset)."""
        try:
            return bytes(await self._socket.receive_some(count))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerFault("stream_reset", "the machine closed the connection") from error

    async def write(self, data: bytes) -> None:
        """All of it; raises PeerFault(stream_reset)."""
        try:
            await self._socket.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerFault("stream_reset", "the machine closed the connection") from error

    async def close_write(self) -> None:
        """Half-close; raises PeerFault(stream_reset)."""
        try:
            await self._socket.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerFault("stream_reset", "the machine closed the connection") from error

    async def aclose(self) -> None:
        """Both ways."""
        self._leave()
        await self._socket.aclose()

    async def reset(self) -> None:
        """At once."""
        self._leave()
        await trio.aclose_forcefully(self._socket)


class Tunnelling:
    """Opens the way to a lease's machine for the HTTP API. `dial` is None where this node hosts nothing."""

    def __init__(
        self,
        store: Store,
        genesis: Genesis,
        key: SigningKey,
        contacts: Contacts,
        tunnels: Tunnels,
        dial: Dial | None,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._network_key = genesis.network_key
        self._key = key
        self._address = Address(key.public_key)
        self._contacts = contacts
        self._tunnels = tunnels
        self._dial = dial
        self._clock = clock
        self._used = UsedProofs()

    async def open(self, lease_hash: Hash, proof: tuple[Signature, int] | None) -> Stream:
        """A stream to the SSH port; `proof` is (signature, timestamp in ns) of one who is not this node's operator.

        Raises NotFound, Ended, NotAllowed, WrongState, PeerFault.
        """
        lease = live_lease(self._store, lease_hash)
        self._authorise(lease, proof)
        if lease.provider == self._address and self._dial is not None:
            return await self._open_here(self._dial, lease_hash)
        if lease.consumer != self._address:
            message = "this node is neither the lease's consumer nor its provider; ask one of theirs"
            raise NotAllowed("not_your_lease", message)
        where = self._contacts.find(lease.provider)
        with blaming_peer():
            return await self._tunnels.open(where.peer_id, lease_hash, self._key.sign, where.addresses)

    async def _open_here(self, dial: Dial, lease_hash: Hash) -> Stream:
        """Counted like those of peers, from before the machine is dialled."""
        end = LocalEnd()
        leave = self._tunnels.enter(lease_hash, end.close)
        try:
            with end.dialling:
                end.socket = await _dialled(dial, lease_hash)
            if end.socket is not None and not end.dialling.cancel_called:
                return LocalStream(end.socket, leave)
            end.close()
            raise Ended("lease_ended", "the lease was closed while its machine was dialled")
        except BaseException:
            leave()
            raise

    def _authorise(self, lease: LeaseRecord, proof: tuple[Signature, int] | None) -> None:
        if proof is not None:
            keys = (lease.access_pub_key, PublicKey(lease.consumer))
            signature, timestamp = proof
            now = self._clock()
            check_access(self._network_key, lease.lease_hash, keys, signature, timestamp, now, self._used)
        elif self._address not in (lease.consumer, lease.provider):
            raise NotAllowed("not_your_lease", "sign with the lease's access key (X-Access-Signature)")


async def _dialled(dial: Dial, lease_hash: Hash) -> trio.SocketStream:
    """Raises MachineFault where nothing answers in time."""
    try:
        with trio.fail_after(DIAL_SECONDS_MAX):
            return await dial(lease_hash)
    except OSError as error:
        raise MachineFault("machine_unreachable", f"the machine's SSH port: {error.strerror}") from error
    except trio.TooSlowError:
        text = "the machine does not answer; look at its status and try again"
        raise MachineFault("machine_unreachable", text) from None
