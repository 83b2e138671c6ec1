"""What this node saw of each lease, step by step, for people and for GET /leases/{hash}/events; in memory, bounded."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import trio

from xnode.core.codec import Plain
from xnode.core.tunnel import clip_text
from xnode.core.values import U64_MAX, Hash

LEASES_MAX: Final = 1_000
STEPS_MAX: Final = 200  # of one lease; later ones push the earliest but the first out
TOLD_MAX: Final = 64  # steps that one answer carries
WORD_BYTES_MAX: Final = 64
DETAIL_BYTES_MAX: Final = 512
PROVIDERS: Final = "provider_"  # begins the words of steps that the provider's node has told


class Step(NamedTuple):
    """One step: when (ns), a stable word, a detail for people, how long it took (ms; None where nothing was timed)."""

    at: int
    step: str
    detail: str
    duration_ms: int | None = None


class LeaseLog:
    """Steps by lease, oldest first, no two at one time. Written on the loop, read on any thread."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._steps: dict[Hash, tuple[Step, ...]] = {}

    def record(self, lease_hash: Hash, step: str, detail: str = "", duration_ms: int | None = None) -> None:
        """Adds a step, unless it only repeats the last one."""
        self._add(lease_hash, Step(self._clock(), step, detail, duration_ms))

    def stopwatch(self, lease_hash: Hash, began: float | None = None) -> "Stopwatch":
        """For steps that follow each other, from now on or from an earlier time (s, trio's)."""
        return Stopwatch(self, lease_hash, trio.current_time() if began is None else began)

    def take(self, lease_hash: Hash, told: Sequence[Step]) -> None:
        """Adds what the provider has told of its own steps, at the times that it names as far as they can be."""
        for step in told:
            at = min(step.at, self._clock())
            self._add(lease_hash, step._replace(at=at, step=PROVIDERS + step.step))

    def _add(self, lease_hash: Hash, added: Step) -> None:
        steps = self._steps.pop(lease_hash, ())
        if not steps or steps[-1][1:3] != added[1:3]:
            at = max(added.at, steps[-1].at + 1) if steps else added.at
            steps = (*steps, added._replace(at=at))
        if len(steps) > STEPS_MAX:
            steps = (steps[0], *steps[2:])
        if len(self._steps) >= LEASES_MAX:
            del self._steps[next(iter(self._steps))]
        self._steps[lease_hash] = steps

    def steps(self, lease_hash: Hash) -> tuple[Step, ...]:
        """All that is remembered of a lease; empty where nothing is."""
        return self._steps.get(lease_hash, ())

    def since(self, lease_hash: Hash, after: int) -> tuple[Step, ...]:
        """The first ones behind a time (ns), TOLD_MAX at most."""
        return tuple(step for step in self.steps(lease_hash) if step.at > after)[:TOLD_MAX]


class Stopwatch:
    """Times each step from the one before it."""

    def __init__(self, log: LeaseLog, lease_hash: Hash, began: float) -> None:
        self._log = log
        self._lease_hash = lease_hash
        self._began = self._last = began

    def step(self, word: str, detail: str = "") -> int:
        """Records a step that has just ended; its ms."""
        now = trio.current_time()
        duration_ms, self._last = round((now - self._last) * 1000), now
        self._log.record(self._lease_hash, word, detail, duration_ms)
        return duration_ms

    def whole(self, word: str, detail: str = "") -> None:
        """Records the end of all of it."""
        self._log.record(self._lease_hash, word, detail, round((trio.current_time() - self._began) * 1000))


def steps_wire(steps: Sequence[Step]) -> tuple[Plain, ...]:
    """As they go to the consumer's node."""
    return tuple(
        (step.at, clip_text(step.step, WORD_BYTES_MAX), clip_text(step.detail, DETAIL_BYTES_MAX), step.duration_ms)
        for step in steps
    )


def steps_read(wire: Plain) -> tuple[Step, ...]:
    """What of it makes sense; a provider may say anything of its own steps."""
    found = []
    for item in wire[:TOLD_MAX] if isinstance(wire, tuple) else ():
        match item:
            case (int(at), str(word), str(detail), (int() | None) as duration_ms) if 0 <= at <= U64_MAX:
                word = clip_text(word, WORD_BYTES_MAX)
                found.append(Step(int(at), word, clip_text(detail, DETAIL_BYTES_MAX), duration_ms))
    return tuple(found)
