"""The simulator finds a rule that is broken: else its green runs would mean nothing."""

import pickle

import pytest

from tests.sim.broken_rules import BROKEN
from tests.sim.run import run_seed

SEEDS = 200  # in which each must be found; those that find it are tried first, for the sake of time
FIRST = {
    "double vote allowed": 43,
    "threshold at 50 %": 181,
    "settle without attestation": 8,
    "destroy without proof": 14,
    "stop forgotten": 109,
}


def test_each_has_its_seed() -> None:
    assert FIRST.keys() == BROKEN.keys()
    assert all(1 <= seed <= SEEDS for seed in FIRST.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_rule, expected = BROKEN[name]
    break_rule(monkeypatch)
    for seed in (FIRST[name], *range(1, SEEDS + 1)):
        broken = run_seed(seed).broken
        if broken is not None:
            assert broken.name in expected, broken
            return
    pytest.fail(f"{SEEDS} seeds have not found it")


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST)
def test_its_seed_is_green_where_the_rule_stands(name: str) -> None:
    result = run_seed(FIRST[name])
    assert result.broken is None, result.report()


@pytest.mark.slow
def test_a_failure_says_how_to_run_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "settle without attestation"
    BROKEN[name][0](monkeypatch)
    result = run_seed(FIRST[name])
    report = result.report()
    assert report.startswith(f"seed {FIRST[name]}, step {result.steps}, at ")
    assert "settled_in_time" in report
    assert report.endswith(f"again: scripts/sim --seed {FIRST[name]}")
    assert run_seed(FIRST[name]).report() == report
    assert pickle.loads(pickle.dumps(result)).report() == report, "it reaches the process that prints it"
