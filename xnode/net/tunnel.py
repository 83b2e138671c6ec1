"""The stream /xnode/tunnel/1.0.0: raw bytes to a machine's SSH port, for who holds a key of its lease (section 12).

`core/tunnel.py` has the handshake's steps and messages. A tunnel counts against its lease and the node from the moment
its signature is verified; handshakes before that have slots of their own, so that strangers can't take tunnels away.
One that reaches a machine here through this node's own HTTP API counts like those of peers (`Tunnels.enter`).
A live tunnel has no deadline: it ends when its ends do, or when its lease is closed.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, NamedTuple

import trio

from xnode.core import tunnel as core
from xnode.core.faults import Fault, PeerFault, Unavailable
from xnode.core.hashing import NetworkKey
from xnode.core.tunnel import Handshake, Step, TunnelAnswer
from xnode.core.values import HASH_BYTES, SIGNATURE_BYTES, Hash, PublicKey, Signature
from xnode.net.ports import StreamHost
from xnode.net.sessions import PeerSlots, time_limit
from xnode.net.streams import PeerId, Stream, splice

PROTOCOL: Final = "/xnode/tunnel/1.0.0"
HANDSHAKE_SECONDS_MAX: Final = 10.0  # a client must have signed by then
DIAL_SECONDS_MAX: Final = 10.0
ANSWER_SECONDS_MAX: Final = 10.0
OPEN_SECONDS_MAX: Final = 30.0  # the whole handshake, for the client


class TunnelLimits(NamedTuple):
    """How many at once."""

    tunnels_max: int = 100
    per_lease_max: int = 16
    handshakes_max: int = 64
    handshakes_per_peer_max: int = 16


DEFAULT_LIMITS: Final = TunnelLimits()


class TunnelAccess(ABC):
    """What a provider's tunnels need of it."""

    @abstractmethod
    def keys(self, lease_hash: Hash) -> tuple[PublicKey, ...]:
        """Whose signature opens a tunnel. Raises NotFound, Ended, WrongState: a Fault that tells the client why."""

    @abstractmethod
    async def dial(self, lease_hash: Hash) -> trio.SocketStream:
        """Connects to the machine's SSH port. Raises a Fault, or OSError."""


class LiveTunnels:
    """The tunnels that are served now, by lease, each with what ends it."""

    def __init__(self, limits: TunnelLimits) -> None:
        self._limits = limits
        self._ends: dict[Hash, set[Callable[[], object]]] = {}

    def counts(self) -> dict[Hash, int]:
        """How many, by lease."""
        return {lease_hash: len(ends) for lease_hash, ends in self._ends.items()}

    def close(self, lease_hash: Hash) -> int:
        """Ends those of one lease; how many."""
        ends = tuple(self._ends.get(lease_hash, ()))
        for end in ends:
            end()
        return len(ends)

    def enter(self, lease_hash: Hash, end: Callable[[], object]) -> Callable[[], None]:
        """Counts a tunnel, which `close` ends by `end`, until what is returned is called, be it twice.

        Raises Unavailable where it is one too many.
        """
        ends = self._ends.get(lease_hash, set())
        if len(ends) >= self._limits.per_lease_max:
            raise Unavailable("tunnel_busy", f"this lease has {len(ends)} tunnels; close one", retryable=True)
        if sum(map(len, self._ends.values())) >= self._limits.tunnels_max:
            raise Unavailable("tunnel_busy", "this provider has no free tunnel; try again later", retryable=True)
        self._ends.setdefault(lease_hash, ends).add(end)
        return partial(self._leave, lease_hash, end)

    @contextmanager
    def add(self, lease_hash: Hash) -> Iterator[trio.CancelScope]:
        """Counts a tunnel during the block, which `close` cancels; raises Unavailable where it is one too many."""
        with trio.CancelScope() as scope:
            leave = self.enter(lease_hash, scope.cancel)
            try:
                yield scope
            finally:
                leave()

    def _leave(self, lease_hash: Hash, end: Callable[[], object]) -> None:
        ends = self._ends.get(lease_hash, set())
        ends.discard(end)
        if not ends:
            self._ends.pop(lease_hash, None)


class Tunnels:
    """Opens tunnels, and serves them where `access` is given. `random(n)` gives n unpredictable bytes.

    `counters` counts tunnels opened, refused and dropped in the handshake, on the serving side.
    """

    def __init__(
        self,
        host: StreamHost,
        network_key: NetworkKey,
        access: TunnelAccess | None,
        random: Callable[[int], bytes],
        limits: TunnelLimits = DEFAULT_LIMITS,
    ) -> None:
        self._host = host
        self._network_key = network_key
        self._random = random
        self._slots = PeerSlots(limits.handshakes_max, limits.handshakes_per_peer_max)
        self._live = LiveTunnels(limits)
        self.counters: Counter[str] = Counter()
        if access is not None:
            host.serve(PROTOCOL, partial(self._serve, access))

    def counts(self) -> dict[Hash, int]:
        """Tunnels that are served now, by lease."""
        return self._live.counts()

    def close_lease(self, lease_hash: Hash) -> int:
        """Ends the tunnels of a lease that are served here; how many. Later ones are up to `TunnelAccess.keys`."""
        return self._live.close(lease_hash)

    def close_all(self) -> int:
        """Ends all tunnels that are served here, before the node stops; how many."""
        return sum(self._live.close(lease_hash) for lease_hash in self._live.counts())

    def enter(self, lease_hash: Hash, end: Callable[[], object]) -> Callable[[], None]:
        """Counts a tunnel that reaches a machine here by another way than a peer's stream; see `LiveTunnels.enter`."""
        try:
            leave = self._live.enter(lease_hash, end)
        except Unavailable:
            self.counters["refused_busy"] += 1
            raise
        self.counters["opened"] += 1
        return leave

    async def open(
        self,
        peer_id: PeerId,
        lease_hash: Hash,
        sign: Callable[[bytes], Signature],
        addresses: Sequence[str] = (),
    ) -> Stream:
        """A stream to the machine's SSH port, ready for raw bytes; `sign` by a key of the lease.

        Raises PeerFault where the provider can't be reached or breaks the rules, else what it answered: NotFound,
        Ended, NotAllowed, WrongState or Unavailable with its text.
        """
        is_open = False
        with time_limit(OPEN_SECONDS_MAX):
            stream = await self._host.open_stream(peer_id, PROTOCOL, addresses, OPEN_SECONDS_MAX)
            try:
                await self._ask(stream, lease_hash, sign)
                is_open = True
            finally:
                if not is_open:
                    await stream.reset()
        return stream

    async def _ask(self, stream: Stream, lease_hash: Hash, sign: Callable[[bytes], Signature]) -> None:
        await stream.write(lease_hash)
        challenge = await stream.read_exactly(core.CHALLENGE_BYTES)
        await stream.write(sign(core.tunnel_message(self._network_key, lease_hash, challenge)))
        answer = (await stream.read_exactly(1))[0]
        if answer != TunnelAnswer.OPEN:
            raise core.fault_of(answer, await _read_text(stream))

    async def _serve(self, access: TunnelAccess, stream: Stream) -> None:
        has_ended = False
        try:
            with self._slots.take(stream.peer_id), time_limit(HANDSHAKE_SECONDS_MAX):
                state = await self._prove(access, stream)
            has_ended = await self._serve_proved(access, stream, state)
        except (PeerFault, Unavailable) as fault:  # it broke the rules, left, or there are too many like it
            self.counters[f"dropped_{fault.code}"] += 1
        finally:
            if not has_ended:
                await stream.reset()

    async def _prove(self, access: TunnelAccess, stream: Stream) -> Handshake:
        lease_hash = await stream.read_exactly(HASH_BYTES)
        state = core.on_lease_hash(Handshake(), lease_hash, self._random(core.CHALLENGE_BYTES))
        await stream.write(state.challenge)
        signature = await stream.read_exactly(SIGNATURE_BYTES)
        try:
            keys = access.keys(state.lease_hash)
        except Fault as fault:
            return core.on_fault(state, fault)
        return core.on_signature(state, self._network_key, keys, signature)

    async def _serve_proved(self, access: TunnelAccess, stream: Stream, state: Handshake) -> bool:
        """Whether the stream has ended; it has not where its lease was closed meanwhile."""
        if state.step is Step.REFUSED:
            await self._refuse(stream, state)
            return True
        try:
            with self._live.add(state.lease_hash) as scope:
                await self._connect(access, stream, state)
        except Unavailable as fault:
            await self._refuse(stream, core.on_fault(state, fault))
            return True
        return not scope.cancelled_caught

    async def _connect(self, access: TunnelAccess, stream: Stream, state: Handshake) -> None:
        try:
            with trio.fail_after(DIAL_SECONDS_MAX):
                sock = await access.dial(state.lease_hash)
        except Fault as fault:
            await self._refuse(stream, core.on_fault(state, fault))
        except (OSError, trio.TooSlowError):
            text = "the machine does not answer; look at its status and try again"
            await self._refuse(stream, core.refuse(state, TunnelAnswer.UNREACHABLE, text))
        else:
            await self._join(stream, sock, core.on_dialled(state))

    async def _join(self, stream: Stream, sock: trio.SocketStream, state: Handshake) -> None:
        try:
            await _answer(stream, state)
            self.counters["opened"] += 1
            await splice(stream, sock, b"", False)
        finally:
            await trio.aclose_forcefully(sock)

    async def _refuse(self, stream: Stream, state: Handshake) -> None:
        self.counters[f"refused_{state.answer.name.lower()}"] += 1
        await _answer(stream, state)
        await stream.aclose()


async def _answer(stream: Stream, state: Handshake) -> None:
    with time_limit(ANSWER_SECONDS_MAX):
        await stream.write(core.answer_bytes(state))


async def _read_text(stream: Stream) -> bytes:
    text = bytearray()
    while len(text) < core.REFUSAL_TEXT_BYTES_MAX:
        piece = await stream.read(core.REFUSAL_TEXT_BYTES_MAX - len(text))
        if not piece:
            break
        text += piece
    return bytes(text)
