"""Networks of voters on virtual time (tests/support/vote_network.py): what is confirmed is one block, everywhere.

Safety must hold in any weather and with up to 34 % of traitors; progress is promised without faults, and in bad weather
once it is over. Broken rules must be caught, else the tests that find nothing say nothing.
"""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.vote_network import (
    TICK_NS,
    Conflict,
    VoteNetwork,
    Weather,
    dark_lease_network,
    dark_network,
    fork_number,
    hash_number,
    lease_network,
    position_number,
    publish_forks,
    rough_network,
)
from xnode.core import weights
from xnode.core.lease import LeaseState
from xnode.core.rivalry import Rivalry
from xnode.core.steps import Step
from xnode.core.tally import Ballot, Tally
from xnode.core.values import NS, Address, Hash

SEEDS = 200
CALM_NS = 120 * NS


@pytest.mark.slow
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_no_two_honest_nodes_ever_confirm_different_blocks_and_all_confirm_one_in_the_end(seed: int) -> None:
    network = rough_network(seed)
    network.run(CALM_NS)  # raises Conflict
    assert network.is_decided() or not network.is_live()


@pytest.mark.slow
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_the_barest_majority_is_as_safe(seed: int) -> None:
    dark_network(seed).run(60 * NS)


@pytest.mark.slow
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_of_two_blocks_that_want_one_step_of_a_lease_never_both_are_confirmed(seed: int) -> None:
    network = lease_network(seed)
    network.run(CALM_NS)  # raises Conflict
    assert network.is_decided() or not network.is_live() or network.byzantine  # who may have split final votes for ever


@pytest.mark.slow
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_a_step_is_as_safe_with_the_barest_majority(seed: int) -> None:
    dark_lease_network(seed).run(60 * NS)


@pytest.mark.slow
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), weights=st.lists(st.integers(1, 1000), min_size=2, max_size=8))
def test_without_faults_an_acceptance_against_a_cancellation_is_decided_in_a_bounded_number_of_rounds(
    seed: int, weights: list[int]
) -> None:
    network = VoteNetwork(seed, weights, frozenset(), Weather())
    publish_lease(network)
    network.run(ROUNDS_CONTESTED * TICK_NS)
    assert network.is_decided()
    assert len(network.takers) == 1


def publish_lease(network: VoteNetwork) -> None:
    """An acceptance that half of the members see first, and a cancellation that the others do."""
    step = Step(hash_number(7), LeaseState.CREATED)
    for number in range(len(network.members)):
        position = position_number(number % 2)
        network.publish(position, fork_number(position, 0), number, step=step)


ROUNDS_ALONE = 2  # in ticks: an honest account waits for no tick at all, only for messages
ROUNDS_CONTESTED = 24


@given(seed=st.integers(0, 2**32), weights=st.lists(st.integers(1, 1000), min_size=1, max_size=8))
def test_without_faults_a_single_block_is_confirmed_as_fast_as_messages_travel(seed: int, weights: list[int]) -> None:
    network = VoteNetwork(seed, weights, frozenset(), Weather())
    publish_forks(network, position_number(0), 1)
    network.run(ROUNDS_ALONE * TICK_NS)
    assert network.is_decided()
    assert network.now <= 3 * network.weather.delay_max  # the block, our votes, our final votes


@pytest.mark.slow
@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32),
    weights=st.lists(st.integers(1, 1000), min_size=2, max_size=8),
    forks=st.integers(2, 10),
)
def test_without_faults_forks_are_decided_in_a_bounded_number_of_rounds(
    seed: int, weights: list[int], forks: int
) -> None:
    network = VoteNetwork(seed, weights, frozenset(), Weather())
    publish_forks(network, position_number(0), forks)
    network.run(ROUNDS_CONTESTED * TICK_NS)
    assert network.is_decided()


@pytest.mark.slow
@pytest.mark.parametrize("members", [2, 4, 6, 10])
def test_votes_that_are_split_evenly_are_decided(members: int) -> None:
    for seed in range(3):
        network = VoteNetwork(seed, [1] * members, frozenset(), Weather())
        publish_forks(network, position_number(0), 2)
        network.run(ROUNDS_CONTESTED * TICK_NS)
        assert network.is_decided()


def test_silent_traitors_below_a_third_stop_nothing() -> None:
    network = VoteNetwork(1, [33, 33, 34], frozenset({0}), Weather())
    publish_forks(network, position_number(0), 2)
    network.run(ROUNDS_CONTESTED * TICK_NS)
    assert network.is_decided()


def test_without_67_percent_nothing_is_ever_confirmed() -> None:
    network = VoteNetwork(1, [34, 33, 33], frozenset({0}), Weather())
    publish_forks(network, position_number(0), 1)
    network.run(CALM_NS)
    assert not network.decided


def test_a_network_is_reproduced_by_its_seed() -> None:
    one, other = rough_network(7), rough_network(7)
    one.run(CALM_NS)
    other.run(CALM_NS)
    assert (one.now, one.decided) == (other.now, other.decided)


def seeds_until_conflict(make: Callable[[int], VoteNetwork]) -> int | None:
    for seed in range(SEEDS):
        try:
            make(seed).run(60 * NS)
        except Conflict:
            return seed
    return None


@pytest.mark.slow
def test_a_threshold_of_50_percent_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "QUORUM_PERCENT", 50)
    assert seeds_until_conflict(rough_network) is not None
    assert seeds_until_conflict(dark_network) is not None


@pytest.mark.slow
def test_a_final_vote_that_counts_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    count = Tally.count

    def count_forgetting(self: Tally, who: Address, ballot: Ballot, held: tuple[Hash, ...]) -> object:
        self.ballots.pop(who, None)
        return count(self, who, ballot, held)

    monkeypatch.setattr(Tally, "count", count_forgetting)
    assert seeds_until_conflict(rough_network) is not None


@pytest.mark.slow
def test_a_second_final_vote_after_a_restart_is_caught() -> None:
    def forgetful(seed: int) -> VoteNetwork:
        network = dark_network(seed)
        network.restore_finals = False
        return network

    assert seeds_until_conflict(forgetful) is not None


@pytest.mark.slow
def test_final_votes_once_for_each_position_only_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rivalry, "lets", lambda rivalry, block_hash: True)
    assert seeds_until_conflict(dark_lease_network) is not None
