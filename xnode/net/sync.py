"""The stream /xnode/sync/1.0.0: fetches the blocks that we miss, serves those that others miss (protocol section 10).

`sync_plan.py` says what may be sent and whose turn it is; here are the streams and their deadlines. One session is
asked for at a time, so a slow peer costs the others at most one session's time, and rests after a fault.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import trio

from xnode.core.faults import PeerFault, Unavailable
from xnode.core.values import Address
from xnode.net import sync_plan as plan
from xnode.net.ports import StreamHost
from xnode.net.sessions import PeerSlots, read_record, session, time_limit, write_record
from xnode.net.streams import PeerId, Stream
from xnode.net.sync_plan import Asking, Comparison, Frontier, Record, Rota, SessionEnd

PROTOCOL: Final = "/xnode/sync/1.0.0"
STEP_SECONDS_MAX: Final = 10.0  # for one message of the peer that serves us
ASKER_STEP_SECONDS_MAX: Final = 60.0  # for one message of a peer that we serve: it applies a page in between
SESSION_SECONDS: Final = 60.0  # then an asker makes way for its next peer
SESSION_SECONDS_MAX: Final = 600.0  # then any session is cut
LOOK_SECONDS: Final = 1.0  # between looks at whose turn it is
SERVED_MAX: Final = 16
SERVED_PER_PEER_MAX: Final = 1


class SyncSource(ABC):
    """What this node can give. No call, and no step of an iterator, takes longer than a few milliseconds."""

    @abstractmethod
    def digest(self) -> bytes:
        """32 bytes, equal on two nodes exactly if all their frontiers are."""

    @abstractmethod
    def frontiers(self) -> Iterator[Frontier]:
        """(account, height, head) of every account with blocks, sorted by account."""

    @abstractmethod
    def missing(self, theirs: Mapping[Address, int], limit: int) -> Iterator[bytes]:
        """Up to `limit` wire blocks above these heights (0 where unnamed), in their order of arrival here.

        May yield b"" where it searches for long, so that others can run.
        """


class SyncSink(ABC):
    """Where fetched blocks go."""

    @abstractmethod
    async def take(self, peer_id: PeerId, wires: Sequence[bytes]) -> int:
        """Judges and applies blocks that a peer sent, in order; how many were new and good."""


class SyncState(NamedTuple):
    """For people: the session that runs or ran last, and how many peers have what we have."""

    peer_id: PeerId | None
    is_running: bool
    received: int
    applied: int
    equal_peers: int


class Sync:
    """Serves from the start; `run` must run as a task to fetch. `counters` counts sessions, blocks and faults."""

    def __init__(self, host: StreamHost, source: SyncSource, sink: SyncSink) -> None:
        self._host = host
        self._source = source
        self._sink = sink
        self._rota = Rota()
        self._slots = PeerSlots(SERVED_MAX, SERVED_PER_PEER_MAX)
        self._kicked = trio.Event()
        self._peer: PeerId | None = None
        self._is_running = False
        self._asking = Asking()
        self.counters: Counter[str] = Counter()
        host.serve(PROTOCOL, self._serve)

    def state(self) -> SyncState:
        """How far sync is."""
        equal = self._rota.count(SessionEnd.EQUAL)
        return SyncState(self._peer, self._is_running, self._asking.received, self._asking.applied, equal)

    def kick(self, _peer_id: PeerId | None = None) -> None:
        """Looks at once whose turn it is, because a peer has come; fits `Handshake.on_greeted`."""
        self._kicked.set()

    async def run(self) -> None:
        """Fetches from one connected peer after the other, for ever."""
        while True:
            self._kicked = trio.Event()
            peers = [peer.peer_id for peer in self._host.peers()]
            peer_id = self._rota.next(peers, trio.current_time())
            if peer_id is None:
                with trio.move_on_after(LOOK_SECONDS):
                    await self._kicked.wait()
            else:
                await self.fetch(peer_id)

    async def fetch(self, peer_id: PeerId) -> SessionEnd:
        """One session with one peer."""
        self._peer, self._is_running, self._asking = peer_id, True, Asking()
        try:
            end = await self._fetch(peer_id)
        except PeerFault as fault:
            self.counters[f"fault_{fault.code}"] += 1
            end = SessionEnd.FAULT
        finally:
            self._is_running = False
        self.counters[f"session_{end.value}"] += 1
        self._rota.on_end(peer_id, end, trio.current_time())
        return end

    async def _fetch(self, peer_id: PeerId) -> SessionEnd:
        stream = await self._host.open_stream(peer_id, PROTOCOL, timeout=STEP_SECONDS_MAX)
        async with session(stream, SESSION_SECONDS_MAX):
            await _send(stream, (plan.DIGEST, self._source.digest()))
            if plan.parse_is_equal(await _receive(stream, plan.FRONTIERS_FRAME_BYTES_MAX)):
                return SessionEnd.EQUAL
            for page in plan.frontier_pages(self._source.frontiers()):
                await _send(stream, page)
            return await self._pull(stream)

    async def _pull(self, stream: Stream) -> SessionEnd:
        makes_way_at = trio.current_time() + SESSION_SECONDS
        while not self._asking.is_over:
            if trio.current_time() > makes_way_at:
                return SessionEnd.MORE
            self._asking, question = plan.ask(self._asking)
            await _send(stream, question)
            record = await _receive(stream, plan.page_bytes_max(self._asking.asked))
            self._asking, wires = plan.on_page(self._asking, record)
            await self._apply(stream.peer_id, wires)
        return SessionEnd.MORE if self._asking.received >= plan.SESSION_BLOCKS_MAX else SessionEnd.CAUGHT_UP

    async def _apply(self, peer_id: PeerId, wires: Sequence[bytes]) -> None:
        if wires:
            applied = await self._sink.take(peer_id, wires)
            self.counters["blocks_received"] += len(wires)
            self.counters["blocks_applied"] += applied
            self._asking = plan.on_applied(self._asking, len(wires), applied)

    async def _serve(self, stream: Stream) -> None:
        try:
            with self._slots.take(stream.peer_id):
                async with session(stream, SESSION_SECONDS_MAX):
                    await self._serve_session(stream)
                self.counters["served"] += 1
        except Unavailable:
            self.counters["served_busy"] += 1
            await stream.reset()
        except PeerFault as fault:  # its stream is reset; nothing else of the peer suffers
            self.counters[f"served_{fault.code}"] += 1

    async def _serve_session(self, stream: Stream) -> None:
        digest = plan.parse_digest(await _receive(stream, plan.FRONTIERS_FRAME_BYTES_MAX))
        if digest == self._source.digest():
            await _send(stream, (plan.EQUAL,))
            return
        await _send(stream, (plan.DIFFERENT,))
        await self._send_blocks(stream, await self._receive_heights(stream))

    async def _receive_heights(self, stream: Stream) -> dict[Address, int]:
        """What the asker has, letting others run while it is compared with ours."""
        comparison, is_last = Comparison(self._source.frontiers()), False
        while not is_last:
            is_last = comparison.add(await _receive(stream, plan.FRONTIERS_FRAME_BYTES_MAX))
            while not comparison.advance(plan.FRONTIERS_PAGE_MAX):
                await trio.lowlevel.checkpoint()
        return comparison.heights

    async def _send_blocks(self, stream: Stream, heights: Mapping[Address, int]) -> None:
        blocks = self._source.missing(heights, plan.SESSION_BLOCKS_MAX)
        sent, is_last = 0, False
        while not is_last and sent < plan.SESSION_BLOCKS_MAX:
            record = await _receive(stream, plan.FRONTIERS_FRAME_BYTES_MAX, ASKER_STEP_SECONDS_MAX)
            page, is_last = await _next_page(blocks, plan.parse_ask(record, sent))
            await _send(stream, (plan.BLOCKS, page, is_last), ASKER_STEP_SECONDS_MAX)
            sent += len(page)
            self.counters["served_blocks"] += len(page)


async def _next_page(blocks: Iterator[bytes], count: int) -> tuple[tuple[bytes, ...], bool]:
    page: list[bytes] = []
    while len(page) < count:
        wire = next(blocks, None)
        if wire is None:
            return tuple(page), True
        if wire:
            page.append(wire)
        else:
            await trio.lowlevel.checkpoint()
    return tuple(page), False


async def _send(stream: Stream, record: Record, seconds: float = STEP_SECONDS_MAX) -> None:
    with time_limit(seconds):
        await write_record(stream, record)


async def _receive(stream: Stream, bytes_max: int, seconds: float = STEP_SECONDS_MAX) -> Record:
    with time_limit(seconds):
        return await read_record(stream, bytes_max)
