"""The stream /xnode/state-sync/1.0.0: fetches the state blocks that we miss, serves what others miss (section 10).

`state_plan.py` says what may be sent; here are the streams and their deadlines. A new peer is asked at once, then one
peer after the other, every 10 s; a peer that has served badly rests.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from xnode.core.faults import PeerFault, Unavailable
from xnode.net import state_plan as plan
from xnode.net.ports import StreamHandler, StreamHost
from xnode.net.pulse import Pulse
from xnode.net.sessions import PeerSlots, read_record, session, time_limit, write_record
from xnode.net.state_plan import Answer, Asking, Question, Search
from xnode.net.streams import PeerId, Stream
from xnode.net.sync_rota import Rota, SessionEnd

if TYPE_CHECKING:  # see net/ports.py
    from xnode.net.network import ConnectedPeer

STATE_PROTOCOL: Final = "/xnode/state-sync/1.0.0"
STEP_SECONDS_MAX: Final = 10.0  # for one message
SESSION_SECONDS_MAX: Final = 120.0
IDLE_SECONDS_MAX: Final = 30.0  # that an asker may take between two questions: it applies a page in between
LOOK_SECONDS: Final = 1.0
SERVED_MAX: Final = 16
SERVED_PER_PEER_MAX: Final = 1
SHORTER: Final = "state-sync: its chain has become shorter"
READ_AT_ONCE: Final = 32  # blocks, then others may run


class StateLedger(ABC):
    """The state chain as sync sees it. No call takes longer than a few milliseconds."""

    @abstractmethod
    def tip_number(self) -> int:
        """The number of the last block; 0 is the genesis'."""

    @abstractmethod
    def wires(self, first: int, count: int) -> list[bytes]:
        """Blocks in wire form from this number on."""

    @abstractmethod
    def is_ours(self, number: int, wire: bytes) -> bool:
        """Whether this is the block of that number here; raises PeerFault(malformed) for what is no such block."""

    @abstractmethod
    async def take_synced(self, wires: Sequence[bytes]) -> int:
        """Applies blocks in order; returns how many from the front were good. Raises PeerFault(malformed)."""


class StateSync:
    """Serves from the start; `run` must run as a task to fetch. `met` has whom we have asked since they came."""

    def __init__(self, host: StreamHost, ledger: StateLedger) -> None:
        self._host = host
        self._ledger = ledger
        self._rota = Rota()
        self._slots = PeerSlots(SERVED_MAX, SERVED_PER_PEER_MAX)
        self._kicked = Pulse()
        self.met: set[PeerId] = set()
        self.on_met: Callable[[PeerId], None] = lambda _peer_id: None
        self.counters: Counter[str] = Counter()
        host.serve(STATE_PROTOCOL, self._serve)

    def kick(self, _peer_id: PeerId | None = None) -> None:
        """Looks at once whose turn it is, because a peer has come."""
        self._kicked.fire()

    async def run(self) -> None:
        """Fetches from one connected peer after the other, for ever."""
        while True:
            peers = [peer.peer_id for peer in self._host.peers()]
            self.met &= set(peers)
            peer_id = self._rota.next(peers, trio.current_time())
            if peer_id is None:
                await self._kicked.wait(LOOK_SECONDS)
            else:
                await self.fetch(peer_id)

    async def fetch(self, peer_id: PeerId) -> SessionEnd:
        """One session with one peer."""
        try:
            end = await self._fetch(peer_id)
        except PeerFault as fault:
            self.counters[f"fault_{fault.code}"] += 1
            end = SessionEnd.FAULT
        self.counters[f"session_{end.value}"] += 1
        self._rota.on_end(peer_id, end, trio.current_time())
        if end is not SessionEnd.MORE and peer_id not in self.met:
            self.met.add(peer_id)
            self.on_met(peer_id)
        return end

    async def _fetch(self, peer_id: PeerId) -> SessionEnd:
        stream = await self._host.open_stream(peer_id, STATE_PROTOCOL, timeout=STEP_SECONDS_MAX)
        async with session(stream, SESSION_SECONDS_MAX):
            tip = self._ledger.tip_number()
            answer = await self._ask(stream, Question(tip, 1))
            if answer.tip < tip:  # it is behind us, and will ask; but is it the same chain?
                tip = answer.tip
                answer = await self._ask(stream, Question(tip, 1))
            if not answer.wires:
                raise PeerFault("not_asked", SHORTER)
            if not self._ledger.is_ours(tip, answer.wires[0]):
                await self._find_fork(stream, Search(0, tip), answer.wires[0])
                return SessionEnd.CAUGHT_UP
            if answer.tip == tip:
                return SessionEnd.EQUAL
            return await self._pull(stream, tip + 1)

    async def _pull(self, stream: Stream, first: int) -> SessionEnd:
        asking = Asking(first)
        while not asking.is_over:
            asking, question = plan.ask(asking)
            answer = await self._ask(stream, question)
            if not answer.wires:
                raise PeerFault("not_asked", SHORTER)
            good = await self._ledger.take_synced(answer.wires)
            self.counters["blocks_received"] += len(answer.wires)
            self.counters["blocks_applied"] += good
            if good < len(answer.wires):
                raise PeerFault("useless", "state-sync: a block could not be applied")
            asking = plan.on_page(asking, answer)
        return SessionEnd.MORE if asking.received >= plan.SESSION_BLOCKS_MAX else SessionEnd.CAUGHT_UP

    async def _find_fork(self, stream: Stream, search: Search, found: bytes) -> None:
        """Shows our ledger the first block that differs; block 0 is the same everywhere: the handshake compares it."""
        while not search.is_over:
            answer = await self._ask(stream, Question(search.middle, 1))
            if not answer.wires:
                raise PeerFault("not_asked", SHORTER)
            is_equal = self._ledger.is_ours(search.middle, answer.wires[0])
            found = found if is_equal else answer.wires[0]
            search = search.on_compared(is_equal)
        await self._ledger.take_synced((found,))

    async def _ask(self, stream: Stream, question: Question) -> Answer:
        with time_limit(STEP_SECONDS_MAX):
            await write_record(stream, plan.question_record(question))
            return plan.parse_answer(await read_record(stream, plan.ANSWER_BYTES_MAX), question)

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
        """Answers until the asker ends; its end between two questions is how every session ends."""
        given = 0
        while True:
            with time_limit(IDLE_SECONDS_MAX):
                try:
                    record = await read_record(stream, plan.QUESTION_BYTES_MAX)
                except PeerFault as fault:
                    if fault.code == "stream_ended":
                        return
                    raise
            question = plan.parse_question(record, given)
            answer = Answer(self._ledger.tip_number(), await self._page(question))
            with time_limit(STEP_SECONDS_MAX):
                await write_record(stream, plan.answer_record(answer))
            given += len(answer.wires)
            self.counters["served_blocks"] += len(answer.wires)

    async def _page(self, question: Question) -> tuple[bytes, ...]:
        wires: list[bytes] = []
        size = 0
        while len(wires) < question.most:
            count = min(READ_AT_ONCE, question.most - len(wires))
            found = self._ledger.wires(question.first + len(wires), count)
            for wire in found:
                size += len(wire)
                if wires and size > plan.PAGE_BYTES_MAX:
                    return tuple(wires)
                wires.append(wire)
            if len(found) < count:
                break
            await trio.lowlevel.checkpoint()
        return tuple(wires)


class StateFirst(StreamHost):
    """The host as the ledger's sync sees it: a peer is there once we have its state chain, which judges its ledger."""

    def __init__(self, host: StreamHost, state_sync: StateSync) -> None:
        self._host = host
        self._state_sync = state_sync
        self.peer_id = host.peer_id

    def peers(self) -> Sequence["ConnectedPeer"]:
        return [peer for peer in self._host.peers() if peer.peer_id in self._state_sync.met]

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        self._host.serve(protocol, handler)

    async def open_stream(
        self, peer_id: PeerId, protocol: str, addresses: Sequence[str] = (), timeout: float = 10
    ) -> Stream:
        return await self._host.open_stream(peer_id, protocol, addresses, timeout)

    def on_connected(self, callback: Callable[[PeerId, bool], None]) -> None:
        self._host.on_connected(callback)

    async def disconnect(self, peer_id: PeerId) -> None:
        await self._host.disconnect(peer_id)

    def ban(self, peer_id: PeerId, seconds: float, reason: str) -> None:
        self._host.ban(peer_id, seconds, reason)
