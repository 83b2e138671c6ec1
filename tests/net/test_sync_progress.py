"""How far sync is, and when the ledger is good for votes."""

from xnode.net import sync_progress as subject
from xnode.net.sync_progress import Phase, SyncProgress


def test_alone_it_settles_soon() -> None:
    progress = SyncProgress(0.0)
    assert progress.phase(False, subject.ALONE_SECONDS - 0.1) is Phase.STARTING
    assert progress.phase(False, subject.ALONE_SECONDS) is Phase.SETTLED


def test_with_peers_it_settles_when_one_has_told_all() -> None:
    progress = SyncProgress(0.0)
    assert progress.phase(True, 20.0) is Phase.STARTING
    progress.on_met()
    assert progress.phase(True, 20.0) is Phase.SETTLED


def test_peers_that_bring_nothing_keep_nobody_from_settling() -> None:
    progress = SyncProgress(0.0)
    assert progress.phase(True, subject.START_SECONDS_MAX - 0.1) is Phase.STARTING
    assert progress.phase(True, subject.START_SECONDS_MAX) is Phase.SETTLED


def test_many_blocks_are_catching_up_until_a_peer_has_no_more() -> None:
    progress = SyncProgress(0.0)
    progress.on_met()
    progress.on_applied(subject.BEHIND_BLOCKS - 1, 1.0)
    assert progress.phase(True, 1.0) is Phase.SETTLED
    progress.on_applied(1, 1.0)
    assert progress.phase(True, 1.0) is Phase.CATCHING_UP
    progress.on_met()
    assert progress.phase(True, 1.0) is Phase.SETTLED


def test_who_claims_a_little_more_changes_nothing() -> None:
    progress = SyncProgress(0.0)
    progress.on_met()
    progress.on_target(7 + subject.BEHIND_BLOCKS - 1, 7, 5.0)
    assert progress.look(7, True, 5.0).phase is Phase.SETTLED
    assert progress.look(7, True, 5.0).target == 7


def test_a_claim_that_nothing_follows_is_believed_once_and_briefly() -> None:
    progress = SyncProgress(0.0)
    progress.on_met()
    progress.on_target(10**9, 7, 5.0)
    assert progress.phase(True, 5.0) is Phase.CATCHING_UP  # or the first blocks would be voted on by wrong weights
    over = 5.0 + subject.STALL_SECONDS
    assert progress.phase(True, over) is Phase.SETTLED
    progress.on_target(10**9, 7, over + subject.CLAIM_REST_SECONDS - 1)
    assert progress.phase(True, over + subject.CLAIM_REST_SECONDS - 1) is Phase.SETTLED
    progress.on_target(10**9, 7, over + subject.CLAIM_REST_SECONDS)
    assert progress.phase(True, over + subject.CLAIM_REST_SECONDS) is Phase.CATCHING_UP


def test_a_trickle_does_not_keep_a_claim_alive() -> None:
    progress = SyncProgress(0.0)
    progress.on_met()
    catching_up = 0
    for second in range(3_000):
        now = float(second)
        progress.on_target(10**6, 7, now)
        if second % 9 == 0:
            progress.on_applied(1, now)
        catching_up += progress.phase(True, now) is Phase.CATCHING_UP
    assert catching_up <= 5 * subject.STALL_SECONDS  # 3,000 s hold five rests


def test_a_trickle_does_not_keep_a_node_starting() -> None:
    progress = SyncProgress(0.0)
    for second in range(int(subject.START_SECONDS_MAX)):
        progress.on_applied(1, float(second))
    assert progress.phase(True, subject.START_SECONDS_MAX) is Phase.SETTLED


def test_as_long_as_enough_blocks_follow_a_claim_it_is_believed() -> None:
    progress = SyncProgress(0.0)
    progress.on_met()
    progress.on_target(10**6, 7, 0.0)
    for turn in range(1, 20):
        now = turn * (subject.STALL_SECONDS - 1)
        progress.on_applied(subject.RENEWAL_BLOCKS, now)
        assert progress.phase(True, now) is Phase.CATCHING_UP


def test_a_stall_ends_catching_up() -> None:
    progress = SyncProgress(0.0)
    progress.on_applied(subject.BEHIND_BLOCKS, 10.0)
    assert progress.phase(True, 10.0 + subject.STALL_SECONDS - 0.1) is Phase.CATCHING_UP
    assert progress.phase(True, 10.0 + subject.STALL_SECONDS) is Phase.SETTLED


def test_rate_and_estimate() -> None:
    progress = SyncProgress(0.0)
    progress.on_target(10_000, 0, 0.0)
    for second in range(1, 21):
        progress.on_applied(100, float(second))
    seen = progress.look(2_000, True, 20.0)
    assert (seen.blocks, seen.target, round(seen.rate)) == (2_000, 10_000, 100)
    assert seen.eta is not None
    assert 75 <= seen.eta <= 85


def test_no_rate_no_estimate() -> None:
    progress = SyncProgress(0.0)
    progress.on_target(10, 0, 0.0)
    assert progress.look(0, True, 1.0).eta is None
