"""The stream /xnode/sync/1.0.0: fetches the blocks that we miss, serves those that others miss (protocol section 10).

`sync_plan.py` says what may be sent, `sync_ranges.py` how ledgers are compared and who is asked for what, and
`sync_rota.py` whose turn it is; here are the streams and their deadlines. A few peers are asked at once, each for parts
of its own, so that a slow one costs the others nothing but the parts that it holds, for a minute at most.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

import trio

from xnode.core.faults import PeerFault
from xnode.net import sync_plan as plan
from xnode.net.ports import StreamHost
from xnode.net.pulse import Pulse
from xnode.net.sessions import session
from xnode.net.streams import PeerId, Stream
from xnode.net.sync_plan import Asking, Frontier, Resume, Summary
from xnode.net.sync_port import Judging, SyncSink, SyncSource
from xnode.net.sync_progress import Phase, Progress, SyncProgress
from xnode.net.sync_ranges import PARTS_ASKED_MAX, Shares, buckets_of, differing, pack_buckets
from xnode.net.sync_rota import Rota, SessionEnd
from xnode.net.sync_rounds import Rounds
from xnode.net.sync_serving import SESSION_SECONDS_MAX, STEP_SECONDS_MAX, Serving, receive, send

__all__ = ["STEP_SECONDS_MAX", "Phase", "Sync", "SyncSink", "SyncSource", "SyncState"]

PROTOCOL: Final = "/xnode/sync/1.0.0"
SESSION_SECONDS: Final = 60.0  # then an asker makes way for its next peer
SLOW_BLOCKS: Final = 1_000  # a session that brings fewer in this time is a slow peer's
LOOK_SECONDS: Final = 1.0  # between looks at whose turn it is
SESSIONS_MAX: Final = 4  # at once, as asker
PHASE_KEPT: Final = 0.05  # seconds for which the phase is used
LANDING_MAX: Final = 3  # pages that are checked while one is applied


class SyncState(NamedTuple):
    """For people: the session that began last, and how many peers have what we have."""

    peer_id: PeerId | None
    is_running: bool
    received: int
    applied: int
    equal_peers: int


class Sync:
    """Serves from the start; `run` must run as a task to fetch. `counters` counts sessions, blocks and faults.

    `has_peers` is whether anybody is connected, also who is not asked yet: a node with such a peer is not alone.
    """

    def __init__(
        self, host: StreamHost, source: SyncSource, sink: SyncSink, has_peers: Callable[[], bool] | None = None
    ) -> None:
        self._host = host
        self._has_peers = has_peers or (lambda: bool(host.peers()))
        self._source = source
        self._sink = sink
        self._rota = Rota()
        self._shares = Shares()
        self._rounds = Rounds()
        self._progress: SyncProgress | None = None
        self._phase: tuple[float, Phase] | None = None
        self._kicked = Pulse()
        self._peer: PeerId | None = None
        self._busy: set[PeerId] = set()
        self._followed: set[PeerId] = set()  # to the end of their log, in vain: what is left must be compared
        self.counters: Counter[str] = Counter()
        self._serving = Serving(source, self.counters)
        host.serve(PROTOCOL, self._serving.serve)

    def state(self) -> SyncState:
        """What sync does."""
        counters, equal = self.counters, self._rota.count(SessionEnd.EQUAL)
        return SyncState(self._peer, bool(self._busy), counters["blocks_received"], counters["blocks_applied"], equal)

    def progress(self) -> Progress:
        """How far sync is."""
        return self._tracker().look(self._source.extent().blocks, self._has_peers(), trio.current_time())

    def phase(self) -> Phase:
        """Whether the ledger is being filled."""
        now = trio.current_time()
        if self._phase is None or now >= self._phase[0] + PHASE_KEPT:  # asked for every block that lands
            self._phase = (now, self._tracker().phase(self._has_peers(), now))
        return self._phase[1]

    def is_met(self, awaited: AbstractSet[PeerId] | None = None) -> bool:
        """Whether every connected peer (of those that are `awaited`) has been asked, none of them has more, and one at
        least, whoever it is, has told all it had."""
        busy = self._busy if awaited is None else self._busy & awaited
        return not busy and self._rota.is_met(awaited)

    def kick(self, _peer_id: PeerId | None = None) -> None:
        """Looks at once whose turn it is, because a peer has come; fits `Handshake.on_greeted`."""
        self._kicked.fire()

    async def run(self) -> None:
        """Fetches from the connected peers, for ever."""
        self._tracker()
        async with trio.open_nursery() as nursery:
            while True:
                peer_id = self._next()
                if peer_id is None:
                    await self._kicked.wait(LOOK_SECONDS)
                else:
                    self._busy.add(peer_id)
                    nursery.start_soon(self._fetch_and_kick, peer_id)

    async def fetch(self, peer_id: PeerId) -> SessionEnd:
        """One session with one peer."""
        self._peer = peer_id
        self._busy.add(peer_id)
        try:
            end = await self._fetch(peer_id)
        except PeerFault as fault:
            self.counters[f"fault_{fault.code}"] += 1
            end = SessionEnd.FAULT
        finally:
            self._busy.discard(peer_id)
            self._shares.release(peer_id)
            self._sink.flush()
        self.counters[f"session_{end.value}"] += 1
        self._rota.on_end(peer_id, end, trio.current_time(), self._source.extent().digest)
        if self.is_met():
            self._tracker().on_met()
            self._phase = None
        return end

    def _tracker(self) -> SyncProgress:
        if self._progress is None:
            self._progress = SyncProgress(trio.current_time())
        return self._progress

    def _next(self) -> PeerId | None:
        for peer_id in list(self._serving.differing):
            self._rota.on_differs(peer_id)
        self._serving.differing.clear()
        limit = 1 if self._sink.is_crowded() else SESSIONS_MAX
        if len(self._busy) >= limit:
            return None
        peers, now = [peer.peer_id for peer in self._host.peers()], trio.current_time()
        self._followed.intersection_update(peers)
        self._rounds.keep(peers)
        if not self._rota.may_ask(peers, now, self._busy):  # spares reading our digest
            return None
        return self._rota.next(peers, now, self._source.extent().digest, self._busy)

    async def _fetch_and_kick(self, peer_id: PeerId) -> None:
        await self.fetch(peer_id)
        self._kicked.fire()

    async def _fetch(self, peer_id: PeerId) -> SessionEnd:
        stream = await self._host.open_stream(peer_id, PROTOCOL, timeout=STEP_SECONDS_MAX)
        async with session(stream, SESSION_SECONDS_MAX):
            ours = self._source.extent()
            await send(stream, (plan.DIGEST, ours.digest))
            theirs = plan.parse_summary(await receive(stream, plan.SMALL_BYTES_MAX))
            if theirs is None:
                return SessionEnd.EQUAL
            wanted = differing(self._source.parts(), theirs.parts)
            share = self._share(peer_id, wanted)
            if not share:
                await send(stream, ())
                return SessionEnd.BUSY if wanted else SessionEnd.FRUITLESS
            self._tracker().on_target(theirs.blocks, ours.blocks, trio.current_time())
            self._phase = None
            resume = None if self._sink.is_crowded() else self._resume(peer_id, share, ours.blocks, theirs)
            if resume is not None:
                await send(stream, (plan.FOLLOW, *resume))
                asking, is_late = await self._pull(stream, resume)
                if asking.is_last and not asking.taken.applied:
                    self._followed.add(peer_id)
                return _end_of(asking, is_late, False, asking.after > resume.after)  # only exact ones miss nothing
            return await self._fetch_exact(stream, sorted(share), len(share) == len(wanted))

    async def _fetch_exact(self, stream: Stream, share: list[int], is_all: bool) -> SessionEnd:
        """Asks for what is above our frontiers in parts that differ; `is_all` where no others do."""
        differ = await self._ask_buckets(stream, share)
        if not differ:
            await send(stream, ())
            return SessionEnd.FRUITLESS if is_all else SessionEnd.BUSY
        frontiers, buckets = await self._frontiers_of(self._rounds.order(stream.peer_id, differ))
        await send(stream, (plan.EXACT, pack_buckets(buckets)))
        for page in plan.frontier_pages(frontiers):
            await send(stream, page)
        is_whole = self._rounds.is_whole(stream.peer_id, differ, buckets)
        asking, is_late = await self._pull(stream, None)
        self._rounds.on_end(stream.peer_id, buckets, is_whole, asking.is_last, asking.taken.applied)
        return _end_of(asking, is_late, is_all and is_whole, False)

    def _share(self, peer_id: PeerId, wanted: Sequence[int]) -> frozenset[int]:
        peers = [peer.peer_id for peer in self._host.peers()]
        others = 0 if self._sink.is_crowded() else self._rota.askable(peers, {peer_id, *self._shares.holders})
        known = self._sink.resume(peer_id)
        preferred = [] if known is None else [part for part in wanted if known.mask >> part & 1]
        return self._shares.take(peer_id, wanted, preferred, min(1 + others, SESSIONS_MAX))

    def _resume(self, peer_id: PeerId, share: frozenset[int], ours: int, theirs: Summary) -> Resume | None:
        if peer_id in self._followed:
            self._followed.discard(peer_id)
            return None
        return plan.resume_from(self._sink.resume(peer_id), share, ours, theirs)

    async def _ask_buckets(self, stream: Stream, share: list[int]) -> list[int]:
        """The buckets of these parts that differ."""
        wanted: list[int] = []
        for start in range(0, len(share), PARTS_ASKED_MAX):
            parts = tuple(share[start : start + PARTS_ASKED_MAX])
            await send(stream, (plan.ASK_BUCKETS, parts))
            theirs = plan.parse_buckets(await receive(stream, plan.SMALL_BYTES_MAX), len(parts))
            numbers = [bucket for part in parts for bucket in buckets_of(part)]
            wanted += [numbers[index] for index in differing(self._source.buckets(parts), theirs)]
        return wanted

    async def _frontiers_of(self, buckets: list[int]) -> tuple[list[Frontier], list[int]]:
        """Our frontiers, sorted, of the first of these buckets, as many as one session may carry."""
        found: dict[int, list[Frontier]] = {}
        count = 0
        for bucket in buckets:
            if count >= plan.FRONTIERS_SENT:
                break
            rows = found[bucket] = []
            for frontier in self._source.frontiers([bucket]):
                rows.append(frontier)
                if len(rows) % 256 == 0:
                    await trio.lowlevel.checkpoint()
            count += len(rows)
            await trio.lowlevel.checkpoint()
        return [frontier for bucket in sorted(found) for frontier in found[bucket]], list(found)

    async def _pull(self, stream: Stream, resume: Resume | None) -> tuple[Asking, bool]:
        """Fetches what was asked for; also whether it made way because it took long."""
        makes_way_at = trio.current_time() + SESSION_SECONDS
        asking = Asking(resume is not None, after=resume.after if resume else 0)
        landing: deque[tuple[Judging, Resume | None]] = deque()
        while not asking.is_over and trio.current_time() <= makes_way_at:
            while plan.may_ask(asking):
                asking, question = plan.ask(asking)
                await send(stream, question)
            record = await receive(stream, plan.page_bytes_max(asking.asked[0]))
            asking, wires = plan.on_page(asking, record)
            self.counters["blocks_received"] += len(wires)
            reached = resume._replace(after=asking.after) if resume else None
            landing.append((self._sink.start(stream.peer_id, wires), reached))
            if len(landing) >= LANDING_MAX:
                asking = await self._land(asking, *landing.popleft())
        for judging, reached in landing:
            asking = await self._land(asking, judging, reached)
        return asking, trio.current_time() > makes_way_at

    async def _land(self, asking: Asking, judging: Judging, reached: Resume | None) -> Asking:
        taken = await judging.land(reached)
        self.counters["blocks_applied"] += taken.applied
        self._tracker().on_applied(taken.applied, trio.current_time())
        return plan.on_taken(asking, taken)


def _end_of(asking: Asking, is_late: bool, is_whole: bool, has_got_on: bool) -> SessionEnd:
    """Blocks that are held are no gain: a peer can send the same ones for ever."""
    if is_late and asking.received < SLOW_BLOCKS:
        return SessionEnd.SLOW
    if asking.taken.applied:
        return SessionEnd.CAUGHT_UP if is_whole and asking.is_last else SessionEnd.MORE
    if has_got_on and not asking.is_last:
        return SessionEnd.SKIMMED
    if not is_whole or not asking.is_last:
        return SessionEnd.BUSY
    return SessionEnd.CAUGHT_UP if asking.taken.held else SessionEnd.FRUITLESS
