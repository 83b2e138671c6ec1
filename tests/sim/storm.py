"""The internet of a run: what befalls messages is drawn from the run's own randomness, and told to the journal."""

from collections.abc import Collection, Sequence
from heapq import heappop, heappush
from itertools import count, product
from math import inf
from typing import NamedTuple

import trio

from tests.sim.journal import Journal
from tests.support.memory_network import Internet, MemoryNetwork
from tests.support.streams import MemoryStream
from xnode.net.pulse import Pulse
from xnode.net.streams import PeerId


class Weather(NamedTuple):
    """Chances of 1 for each gossip hop; delays in seconds. A slow hop is overtaken by others."""

    loss: float = 0.0
    double: float = 0.0
    slow: float = 0.0
    delay_max: float = 0.05
    slow_max: float = 5.0


CALM = Weather()
DELAY_MIN = 0.005


class Storm(Internet):
    """Partitions are directed cuts: messages from the first to the second of a pair don't arrive."""

    def __init__(self, seed: int, journal: Journal) -> None:
        super().__init__(seed)
        self.journal = journal
        self.now = CALM
        self._mail: list[tuple[float, int, MemoryNetwork, PeerId, str, bytes]] = []
        self._serial = count()
        self._news = Pulse()
        self._next_at = inf
        self._cuts: list[tuple[frozenset[PeerId], frozenset[PeerId]]] = []

    def delay(self) -> float:
        return self.random.uniform(DELAY_MIN, self.now.delay_max)

    def hops(self, sender: PeerId, receiver: PeerId, topic: str, data: bytes) -> Sequence[float]:
        if self._is_cut_one_way(sender, receiver):
            self.journal.counts["message cut off"] += 1
            return ()
        if self.random.random() < self.now.loss:
            self.journal.counts["message lost"] += 1
            return ()
        copies = 1
        if self.random.random() < self.now.double:
            self.journal.counts["message doubled"] += 1
            copies = 2
        return [self._hop_delay() for _ in range(copies)]

    def _hop_delay(self) -> float:
        if self.random.random() < self.now.slow:
            self.journal.counts["message delayed, overtaken"] += 1
            return self.random.uniform(0.0, self.now.slow_max)
        return self.delay()

    def carry(self, sender: MemoryNetwork, receiver: PeerId, topic: str, data: bytes, delay: float) -> None:
        at = trio.current_time() + delay
        heappush(self._mail, (at, next(self._serial), sender, receiver, topic, data))
        if at < self._next_at:
            self._news.fire()

    async def keep_carrying(self) -> None:
        """Delivers gossip; runs for as long as the network. One task for all of it, for they are many."""
        while True:
            while self._mail and self._mail[0][0] <= trio.current_time():
                _, _, sender, receiver, topic, data = heappop(self._mail)
                sender.deliver(receiver, topic, data)
            self._next_at = self._mail[0][0] if self._mail else inf
            await self._news.wait(self._next_at - trio.current_time())

    def on_heard(self, sender: PeerId, receiver: PeerId, topic: str, data: bytes) -> None:
        self.journal.feed(topic, f"{sender} {receiver}", data)

    def on_stream(self, near: MemoryStream, far: MemoryStream, protocol: str) -> None:
        ends = f"{far.peer_id} {near.peer_id}"
        self.journal.feed(protocol, ends, b"")
        near.on_write = lambda data: self.journal.feed("stream", ends, data)
        far.on_write = lambda data: self.journal.feed("stream back", ends, data)

    def is_cut(self, left: PeerId, right: PeerId) -> bool:
        """Streams need both ways."""
        return self._is_cut_one_way(left, right) or self._is_cut_one_way(right, left)

    def _is_cut_one_way(self, sender: PeerId, receiver: PeerId) -> bool:
        return bool(self._cuts) and any(sender in some and receiver in others for some, others in self._cuts)

    async def cut(self, island: Collection[PeerId], others: Collection[PeerId], both_ways: bool) -> None:
        """From now on nothing from the island reaches the others; with `both_ways` nor back, and connections end."""
        self._cuts.append((frozenset(island), frozenset(others)))
        if both_ways:
            self._cuts.append((frozenset(others), frozenset(island)))
        for left, right in product(sorted(island), sorted(others)):
            host = self.hosts.get(left)
            if host is not None and both_ways:
                await host.disconnect(right)
            elif host is not None:
                await host.reset_streams(right)

    def sides(self) -> tuple[frozenset[PeerId], frozenset[PeerId]] | None:
        """What the first partition divides; None where there is none."""
        return self._cuts[0] if self._cuts else None

    def heal(self) -> None:
        """No partitions any more."""
        self._cuts.clear()
