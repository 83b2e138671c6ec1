"""Contacts: which peer speaks for which account, by signed directory records, and calls to accounts (section 10)."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from math import inf
from typing import Final, NamedTuple, Protocol

import trio

from xnode.core.codec import Malformed, Plain
from xnode.core.directory import DIRECTORY, RENEWED_EVERY, Directory, DirectoryRecord
from xnode.core.faults import CallerFault, Fault, PeerFault
from xnode.core.genesis import Genesis
from xnode.core.keys import SigningKey
from xnode.core.values import NS, Address
from xnode.net.streams import PeerId
from xnode.roles.rotation import Rotation

DIRECTORY_TOPIC: Final = "xnode/directory"
EXCHANGE_METHOD: Final = "directory"
EXCHANGE_RECORDS_MAX: Final = 64  # in one rpc answer
EXCHANGE_BYTES_MAX: Final = 60 * 1024  # so that big records don't make the whole answer too large
EXCHANGE_PEERS_MAX: Final = 8  # asked for all that they know, after our clock was set
ASKED_PEERS_MAX: Final = 4  # asked for an account that is called and not known
NAMED_MAX: Final = 16  # accounts in one question
ASK_SECONDS_MAX: Final = 5.0
ASK_AGAIN_SECONDS: Final = 10.0  # before peers are asked for the same account again
ASKED_MAX: Final = 1_000  # accounts remembered as asked for
SETTLE_SECONDS: Final = 1.0  # between a new connection and our record, so that gossip has a mesh to go by
LOOK_EVERY: Final = 15.0  # seconds between looks at our clock, and at who is missing
LOOK_EVERY_MAX: Final = 240.0  # the latter, while the same ones are missing
CLOCK_SET_SECONDS: Final = 5.0  # by which a clock must have moved against the monotonic one to count as set

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
        peers: Callable[[], Sequence[PeerId]],
        needed: Callable[[], Iterable[Address]],
    ) -> None:
        self._key = key
        self._network_key = genesis.network_key
        self._calls = calls
        self._clock = clock
        self._publish = publish
        self._here = here
        self._peers = peers
        self._needed = needed
        self._for_all, self._for_needed, self._for_one = Rotation(), Rotation(), Rotation()
        self._asked: dict[Address, float] = {}  # when peers were last asked for whom, trio's seconds
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
        """Calls the node of an account, dialling it if need be; peers are asked where it is if we don't know. Raises
        PeerFault."""
        if not self._knows(account):
            await self._ask_for(account)
        where = self.find(account)
        with blaming_peer():
            return await self._calls.call(where.peer_id, method, args, timeout, where.addresses)

    async def exchange(self, peer_id: PeerId) -> None:
        """Right after a connection: takes the peer's records and tells everybody ours."""
        await trio.sleep(SETTLE_SECONDS)
        await self._hear(peer_id, ())
        await self.announce()

    async def announce(self) -> None:
        """Gossips our own record as it is now."""
        await self._publish(DIRECTORY_TOPIC, self._own())

    async def keep_announced(self) -> None:
        """Renews our record, and soon after our clock was set; runs for as long as the node."""
        while True:
            await self.announce()
            if await self._until_set(RENEWED_EVERY):
                await self._hear_all(self._for_all.next(self._peers(), EXCHANGE_PEERS_MAX), ())

    def pin(self) -> None:
        """Made-up accounts must not push those out of the directory whom this node needs."""
        self.directory.pin(self._needed())

    async def keep_pinned(self) -> None:
        """Asks a peer for needed accounts that we don't know, ever less often while they are the same ones; runs for as
        long as the node."""
        wait, known_missing = LOOK_EVERY, frozenset[Address]()
        while True:
            await trio.sleep(wait)
            self.pin()
            missing = self.directory.missing(self._clock())
            is_new = not missing or known_missing != set(missing)
            wait = LOOK_EVERY if is_new else min(2 * wait, LOOK_EVERY_MAX)
            known_missing = frozenset(missing)
            peers = self._for_needed.next(self._peers(), 1) if missing else []
            for start in range(0, len(missing), NAMED_MAX):
                await self._hear_all(peers, missing[start : start + NAMED_MAX])

    async def _until_set(self, seconds: float) -> bool:
        """Waits; ends early, with True, when our clock was set: before, we refused records of others and they ours."""
        end, began = trio.current_time() + seconds, self._ahead()
        while trio.current_time() < end:
            await trio.sleep(LOOK_EVERY)
            if abs(self._ahead() - began) > CLOCK_SET_SECONDS * NS:
                return True
        return False

    def _ahead(self) -> int:
        """By how much the clock that can be set is ahead of the one that can't; only changes of it mean anything."""
        return self._clock() - round(trio.current_time() * NS)

    def _knows(self, account: Address) -> bool:
        return self.directory.find(account, self._clock()) is not None

    async def _ask_for(self, account: Address) -> None:
        """Asks a few peers where the account is, unless they were asked just now."""
        now = trio.current_time()
        if now < self._asked.get(account, -inf) + ASK_AGAIN_SECONDS:
            return
        self._asked.pop(account, None)
        if len(self._asked) >= ASKED_MAX:
            del self._asked[next(iter(self._asked))]
        self._asked[account] = now
        await self._hear_all(self._for_one.next(self._peers(), ASKED_PEERS_MAX), (account,))

    async def _hear_all(self, peers: Sequence[PeerId], accounts: Sequence[Address]) -> None:
        """Asks them at once; ends when all accounts that were named are known, or all peers have answered."""

        async def hear(peer_id: PeerId) -> None:
            await self._hear(peer_id, accounts)
            if accounts and all(self._knows(account) for account in accounts):
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for peer_id in peers:
                nursery.start_soon(hear, peer_id)

    async def _hear(self, peer_id: PeerId, accounts: Sequence[Address]) -> None:
        """Takes a peer's records, of these accounts or (none named) the newest of all."""
        try:
            wires = await self._calls.call(peer_id, EXCHANGE_METHOD, tuple(accounts), ASK_SECONDS_MAX)
        except PeerFault:
            return  # the next connection, look or gossip will tell
        for wire in wires[:EXCHANGE_RECORDS_MAX]:
            if isinstance(wire, bytes):
                self.take(wire)

    def _own(self) -> bytes:
        record = self._here()
        wire = DIRECTORY.sign(self._network_key, self._key, record)
        self.directory.put(record, wire, self._clock())
        return wire

    async def _serve(self, _peer_id: PeerId, args: Args) -> Args:
        self._own()
        now = self._clock()
        known = self.directory
        wires = known.wires_of(_read_accounts(args), now) if args else known.wires(now, EXCHANGE_RECORDS_MAX)
        totals = accumulate(len(wire) for wire in wires)
        return tuple(wire for wire, total in zip(wires, totals, strict=True) if total <= EXCHANGE_BYTES_MAX)


def _read_accounts(args: Args) -> tuple[Address, ...]:
    accounts = tuple(Address(arg) for arg in args if isinstance(arg, bytes))
    if len(accounts) != len(args) or len(args) > NAMED_MAX:
        raise Fault("malformed", f"directory takes no arguments, or {NAMED_MAX} accounts at most")
    return accounts
