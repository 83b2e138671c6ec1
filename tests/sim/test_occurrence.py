"""Green runs mean something: within the 200 seeds each kind of fault really strikes, and a lease comes to each end."""

from collections import Counter

import pytest

from tests.sim.fake_leveldb import Strike
from tests.sim.plan import (
    CANCELS_LATE,
    DOUBLE_SPENDS,
    FORCE_SETTLES,
    LIES_ABOUT_TIME,
    NEVER_SETTLES,
    SETTLES_EARLY,
    SETTLES_LATE,
    VOTES_TWICE,
    Plan,
    make_plan,
)
from tests.sim.run import run_seed
from tests.sim.seeds import SEEDS

MUST_OCCUR = frozenset(
    {
        *("message lost", "message doubled", "message delayed, overtaken", "message cut off"),
        *("one-way partition", "two-way partition", "partitions healed", "crash", "host power cut", "clock step"),
        *(str(strike) for strike in Strike),
        *(*DOUBLE_SPENDS, CANCELS_LATE, FORCE_SETTLES, VOTES_TWICE, LIES_ABOUT_TIME),
        *(NEVER_SETTLES, SETTLES_EARLY, SETTLES_LATE, "boots fail", "taken back", "lease done"),
        *("lease ended by LeaseSettle", "lease ended by LeaseCancel", "lease ended by LeaseForceSettle"),
        *("state block", "joint payment done", "joint receipt done", "joint rotation done", "drained", "joins late"),
        *("burst done", "machine stop done", "machine start done", "machine reboot done", "machine pause done"),
        *("large clock step", "catch-up: confirmed", "step money_back", "ended by its disk"),
        *("machine made", "machine destroyed, settled", "machine destroyed, cancelled", "machine destroyed, expired"),
    }
)


def features(plan: Plan) -> set[str]:
    """What is planned, by kind."""
    evils = {evil for role in plan.roles for evil in role.evils}
    joining = {f"late, {plan.history}" for role in plan.roles if role.joins_at}
    return (
        evils
        | joining
        | {f"{deed.kind} {deed.details[:1] if deed.kind in ('abuse', 'crash', 'disk') else ''}" for deed in plan.deeds}
    )


def most_varied_first() -> list[int]:
    """All seeds, each time the one next whose plan adds most to those before it, and then starts over."""
    left = {seed: features(make_plan(seed)) for seed in SEEDS}
    order: list[int] = []
    seen: set[str] = set()
    while left:
        seed = max(left, key=lambda one: (len(left[one] - seen), -one))
        seen = seen | left.pop(seed) if left.get(seed, set()) - seen else set()
        order.append(seed)
        left.pop(seed, None)
    return order


@pytest.mark.slow
def test_all_of_it_occurs() -> None:
    counts: Counter[str] = Counter()
    for seed in most_varied_first():
        counts.update(run_seed(seed).counts)
        if counts.keys() >= MUST_OCCUR:
            return
    pytest.fail(f"never seen in {len(SEEDS)} seeds: {sorted(MUST_OCCUR - counts.keys())}")
