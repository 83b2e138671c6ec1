"""The seeds that every change must pass, in parts that run in different processes, and what must occur in each part."""

from collections import Counter
from typing import Final

from tests.sim.evil import NEVER_SETTLES, SETTLES_EARLY, VOTES_TWICE
from tests.sim.fake_leveldb import Strike
from tests.sim.plan import CANCELS_LATE, DOUBLE_SPENDS, FORCE_SETTLES, LIES_ABOUT_TIME
from tests.sim.run import run_seed

PART: Final = 50
MUST_OCCUR: Final = frozenset(
    {
        *("message lost", "message doubled", "message delayed, overtaken", "message cut off"),
        *("one-way partition", "two-way partition", "partitions healed", "crash", "host power cut", "clock step"),
        *(str(strike) for strike in Strike),
        *(*DOUBLE_SPENDS, VOTES_TWICE, LIES_ABOUT_TIME, NEVER_SETTLES, SETTLES_EARLY, CANCELS_LATE),
        FORCE_SETTLES,
        *(
            "lease done",
            "lease ended by LeaseForceSettle",
            "lease ended by LeaseSettle",
            "lease ended by LeaseCancel",
            "taken back",
            "boots fail",
        ),
        *("machine made", "machine destroyed, settled", "machine destroyed, cancelled", "step expire_failed"),
    }
)


def check_part(number: int) -> None:
    """Runs one part of 200 seeds; fails with the first broken run's report, or where something never occurred."""
    counts: Counter[str] = Counter()
    for seed in range(1 + PART * number, 1 + PART * (number + 1)):
        result = run_seed(seed)
        counts.update(result.counts)
        assert result.broken is None, result.report()
    missing = MUST_OCCUR - counts.keys()
    assert not missing, f"these seeds have lost: {sorted(missing)}"
