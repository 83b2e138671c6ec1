"""Contacts: which peer speaks for which account, by signed directory records, and calls to accounts (section 10)."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Final, NamedTuple, Protocol

import trio

from xnode.core.codec import Malformed, Plain
from xnode.core.directory import DIRECTORY, RENEWED_EVERY, Directory, DirectoryRecord
from xnode.core.faults import CallerFault, Fault, PeerFault
from xnode.core.genesis import Genesis
from xnode.core.keys import SigningKey
from xnode.core.values import Address
from xnode.net.streams import PeerId

DIRECTORY_TOPIC: Final = "xnode/directory"
EXCHANGE_METHOD: Final = "directory"
EXCHANGE_RECORDS_MAX: Final = 64  # in one rpc answer
EXCHANGE_BYTES_MAX: Final = 60 * 1024  # so that big records don't make the whole answer too large
SETTLE_SECONDS: Final = 1.0  # between a new connection and our record, so that gossip has a mesh to go by

Args = tuple[Plain, ...]


class Calls(Protocol):
    """Remote calls, as `net.rpc.Rpc` makes and serves them."""

    async def call(
        self, peer_id: PeerId, method: str, args: Args, timeout: float = ..., addresses: Sequence[str] = ...
    ) -> Args:
        """The peer's result; raises PeerFault."""

    def register(self, method: str, handler: Callable[[PeerId, Args], Awaitable[Args]]) -> None:
        """Serves `method`."""


@contextmanager
def blaming_peer() -> Iterator[None]:
    """A peer's own record names the id and addresses that are dialled, so what is wrong with them is its fault."""
    try:
        yield
    except CallerFault as fault:
        raise PeerFault("bad_record", f"its directory record is of no use: {fault}") from fault


class Whereabouts(NamedTuple):
    """Where a node can be reached."""

    peer_id: PeerId
    addresses: tuple[str, ...]


class Contacts:
    """Our own record and everybody else's."""

    def __init__(
        self,
        key: SigningKey,
        genesis: Genesis,
        calls: Calls,
        clock: Callable[[], int],
        publish: Callable[[str, bytes], Awaitable[None]],
        here: Callable[[], DirectoryRecord],
    ) -> None:
        self._key = key
        self._network_key = genesis.network_key
        self._calls = calls
        self._clock = clock
        self._publish = publish
        self._here = here
        self.directory = Directory()
        calls.register(EXCHANGE_METHOD, self._serve)

    def take(self, wire: bytes) -> bool:
        """Takes a record from anywhere; says whether it was good and new."""
        try:
            record, signed = DIRECTORY.read(self._network_key, wire)
        except Malformed:
            return False
        return signed and self.directory.put(record, wire, self._clock())

    def now(self) -> int:
        """What records are judged by, ns."""
        return self._clock()

    def is_own(self, account: Address) -> bool:
        """Whether the account is this node's."""
        return account == Address(self._key.public_key)

    def find(self, account: Address) -> Whereabouts:
        """Where the account's node is; raises PeerFault(unknown_account)."""
        record = self.directory.find(account, self._clock())
        if record is None:
            message = f"the node of {account.hex()} has not told where it is; is it running and connected?"
            raise PeerFault("unknown_account", message, retryable=True)
        return Whereabouts(PeerId(record.peer_id), record.addresses)

    async def call(self, account: Address, method: str, args: Args, timeout: float) -> Args:
        """Calls the node of an account, dialling it if need be; raises PeerFault."""
        where = self.find(account)
        with blaming_peer():
            return await self._calls.call(where.peer_id, method, args, timeout, where.addresses)

    async def exchange(self, peer_id: PeerId) -> None:
        """Right after a connection: takes the peer's records and tells everybody ours."""
        await trio.sleep(SETTLE_SECONDS)
        try:
            wires = await self._calls.call(peer_id, EXCHANGE_METHOD, ())
        except PeerFault:
            return  # the next connection or the next gossip will tell
        for wire in wires[:EXCHANGE_RECORDS_MAX]:
            if isinstance(wire, bytes):
                self.take(wire)
        await self.announce()

    async def announce(self) -> None:
        """Gossips our own record as it is now."""
        await self._publish(DIRECTORY_TOPIC, self._own())

    async def keep_announced(self) -> None:
        """Renews our record; runs for as long as the node."""
        while True:
            await self.announce()
            await trio.sleep(RENEWED_EVERY)

    def _own(self) -> bytes:
        record = self._here()
        wire = DIRECTORY.sign(self._network_key, self._key, record)
        self.directory.put(record, wire, self._clock())
        return wire

    async def _serve(self, _peer_id: PeerId, args: Args) -> Args:
        if args:
            raise Fault("malformed", "directory takes no arguments")
        self._own()
        wires = self.directory.wires(self._clock(), EXCHANGE_RECORDS_MAX)
        totals = accumulate(len(wire) for wire in wires)
        return tuple(wire for wire, total in zip(wires, totals, strict=True) if total <= EXCHANGE_BYTES_MAX)
