"""Serving the stream /xnode/sync/1.0.0: fingerprints and blocks out, as stored, at the asker's pace."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import trio

from xnode.core.faults import PeerFault, Unavailable
from xnode.net import sync_plan as plan
from xnode.net.sessions import PeerSlots, read_record, session, time_limit, write_record
from xnode.net.streams import PeerId, Stream
from xnode.net.sync_plan import Comparison, Record
from xnode.net.sync_port import Logged, SyncSource
from xnode.net.sync_ranges import PARTS, PARTS_ASKED_MAX, parse_parts, unpack_buckets, unpack_parts

STEP_SECONDS_MAX: Final = 10.0  # for one message of the other side
ASKER_STEP_SECONDS_MAX: Final = 60.0  # for one message of a peer that we serve: it applies a page in between
SESSION_SECONDS_MAX: Final = 600.0  # then any session is cut
SERVED_MAX: Final = 16
SERVED_PER_PEER_MAX: Final = 1
LOG_STEPS_MAX: Final = 4_096  # entries of the log that one page looks at
STEPS_AT_ONCE: Final = 64  # of a search or a page, before others run
COMPARED_AT_ONCE: Final = 8  # frontiers, likewise: each may be a search of its own


class Serving:
    """One asker's session after another, SERVED_MAX at once; `on_differs` hears whose ledger differs from ours."""

    def __init__(self, source: SyncSource, counters: Counter[str]) -> None:
        self._source = source
        self._slots = PeerSlots(SERVED_MAX, SERVED_PER_PEER_MAX)
        self._counters = counters
        self.differing: dict[PeerId, None] = {}  # peers that told a digest other than ours, until somebody has looked

    async def serve(self, stream: Stream) -> None:
        """One session; fits `StreamHost.serve`."""
        try:
            with self._slots.take(stream.peer_id):
                async with session(stream, SESSION_SECONDS_MAX):
                    await self._serve(stream)
                self._counters["served"] += 1
        except Unavailable:
            self._counters["served_busy"] += 1
            await stream.reset()
        except PeerFault as fault:  # its stream is reset; nothing else of the peer suffers
            self._counters[f"served_{fault.code}"] += 1

    async def _serve(self, stream: Stream) -> None:
        digest = plan.parse_digest(await receive(stream, plan.SMALL_BYTES_MAX))
        ours = self._source.extent()
        if digest == ours.digest:
            await send(stream, (plan.EQUAL,))
            return
        self.differing[stream.peer_id] = None
        await send(stream, (plan.DIFFERENT, self._source.parts(), ours.blocks, ours.last_arrival))
        record = await self._serve_buckets(stream)
        if record == ():
            return  # it has nothing to ask for
        if record[:1] == (plan.FOLLOW,):
            resume = plan.parse_follow(record)
            await self._send_log(stream, self._source.log(unpack_parts(resume.mask), resume.after), resume.after)
            return
        buckets = unpack_buckets(plan.parse_exact(record))
        await self._send_missing(stream, await self._compare(stream, buckets))

    async def _serve_buckets(self, stream: Stream) -> Record:
        """Answers questions for buckets; returns the first record that is none."""
        for _ in range(PARTS // PARTS_ASKED_MAX + 1):
            record = await receive(stream, plan.SMALL_BYTES_MAX)
            match record:
                case (kind, parts) if plan.is_int(kind, plan.ASK_BUCKETS, plan.ASK_BUCKETS):
                    await send(stream, (plan.BUCKETS, self._source.buckets(parse_parts(parts))))
                case _:
                    return record
        raise PeerFault("too_many", "sync: too many questions for buckets")

    async def _compare(self, stream: Stream, buckets: list[int]) -> Comparison:
        """What the asker lacks, letting others run while its frontiers are compared with ours."""
        comparison, is_last = Comparison(self._source.frontiers(buckets)), False
        while not is_last:
            is_last = comparison.add(await receive(stream, plan.SMALL_BYTES_MAX))
            while not comparison.advance(COMPARED_AT_ONCE):
                await trio.lowlevel.checkpoint()
        return comparison

    async def _send_missing(self, stream: Stream, comparison: Comparison) -> None:
        blocks = self._source.missing(comparison.wanted, plan.SESSION_BLOCKS_MAX)
        sent, is_last = 0, False
        while not is_last and sent < plan.SESSION_BLOCKS_MAX:
            count = plan.parse_ask(await receive(stream, plan.SMALL_BYTES_MAX, ASKER_STEP_SECONDS_MAX), sent)
            page, is_last = await _next_page(blocks, count)
            sent += await self._send_page(stream, page, 0, is_last)

    async def _send_log(self, stream: Stream, log: Iterator[Logged], after: int) -> None:
        sent, pages, is_last = 0, 0, False
        while not is_last and sent < plan.SESSION_BLOCKS_MAX and pages < plan.SESSION_PAGES_MAX:
            count = plan.parse_ask(await receive(stream, plan.SMALL_BYTES_MAX, ASKER_STEP_SECONDS_MAX), sent)
            page, after, is_last = await _next_log_page(log, count, after)
            sent += await self._send_page(stream, page, after, is_last)
            pages += 1

    async def _send_page(self, stream: Stream, page: tuple[bytes, ...], after: int, is_last: bool) -> int:
        await send(stream, (plan.BLOCKS, page, after, is_last), ASKER_STEP_SECONDS_MAX)
        self._counters["served_blocks"] += len(page)
        return len(page)


async def _next_page(blocks: Iterator[bytes], count: int) -> tuple[tuple[bytes, ...], bool]:
    page: list[bytes] = []
    while len(page) < count:
        wire = next(blocks, None)
        if wire is None:
            return tuple(page), True
        if wire:
            page.append(wire)
        if not wire or len(page) % STEPS_AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return tuple(page), False


async def _next_log_page(log: Iterator[Logged], count: int, after: int) -> tuple[tuple[bytes, ...], int, bool]:
    page: list[bytes] = []
    for step in range(LOG_STEPS_MAX):
        if len(page) == count:
            break
        entry = next(log, None)
        if entry is None:
            return tuple(page), after, True
        after = entry.arrival
        if entry.wire:
            page.append(entry.wire)
        if step % STEPS_AT_ONCE == STEPS_AT_ONCE - 1:
            await trio.lowlevel.checkpoint()
    return tuple(page), after, False


async def send(stream: Stream, record: Record, seconds: float = STEP_SECONDS_MAX) -> None:
    """One message, in bounded time."""
    with time_limit(seconds):
        await write_record(stream, record)


async def receive(stream: Stream, bytes_max: int, seconds: float = STEP_SECONDS_MAX) -> Record:
    """One message of so many bytes at most, in bounded time."""
    with time_limit(seconds):
        return await read_record(stream, bytes_max)
