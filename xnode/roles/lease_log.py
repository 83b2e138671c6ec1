"""What this node saw of each lease, step by step, for people and for GET /leases/{hash}/events; in memory, bounded."""

from collections.abc import Callable
from typing import Final

from xnode.core.values import Hash

LEASES_MAX: Final = 1_000
STEPS_MAX: Final = 200  # of one lease; later ones push the earliest but the first out

Step = tuple[int, str, str]  # ns, a stable word, a detail for people


class LeaseLog:
    """Steps by lease, oldest first. Written on the loop, read on any thread."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._steps: dict[Hash, tuple[Step, ...]] = {}

    def record(self, lease_hash: Hash, step: str, detail: str = "") -> None:
        """Adds a step, unless it only repeats the last one."""
        steps = self._steps.pop(lease_hash, ())
        if not steps or steps[-1][1:] != (step, detail):
            steps = (*steps, (self._clock(), step, detail))
        if len(steps) > STEPS_MAX:
            steps = (steps[0], *steps[2:])
        if len(self._steps) >= LEASES_MAX:
            del self._steps[next(iter(self._steps))]
        self._steps[lease_hash] = steps

    def steps(self, lease_hash: Hash) -> tuple[Step, ...]:
        """All that is remembered of a lease; empty where nothing is."""
        return self._steps.get(lease_hash, ())
