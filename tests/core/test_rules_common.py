"""The checks that every block passes (protocol section 4): cheap before dear, and one name for each refusal."""

import pytest

from tests.support.ledger import NOW, RICH, MemoryLedger, address_of, find_work, key_of, make_genesis, play_all_types
from tests.support.rules import UNKNOWN, accepted, account_of, new_ledger, refused
from xnode.core.blocks import Block, BlockType, Send, decode_block, encode_block
from xnode.core.genesis import Allocation
from xnode.core.ledger import (
    GAPS,
    HELD,
    ISSUED,
    Bucket,
    Context,
    Effects,
    Move,
    Outcome,
    Refusal,
    moves_balance,
    new_account,
    supply_balances,
)
from xnode.core.rules import RULES, check_alone, judge, judge_checked
from xnode.core.values import NS, ZERO_HASH, Asset, Signature
from xnode.core.work import is_valid_work, work_value

BOB, CAROL = address_of("bob"), address_of("carol")
HARD = 0xF000_0000_0000_0000


def without_work(block: Block, difficulty: int) -> Block:
    nonce = next(nonce for nonce in range(1000) if not is_valid_work(block.work_root, nonce, difficulty))
    return block._replace(work=nonce)


def test_every_type_has_a_rule() -> None:
    assert set(RULES) == set(BlockType)


def test_every_type_is_accepted_in_its_place_live_or_synced() -> None:
    played = new_ledger()
    assert set(play_all_types(played)) == set(BlockType)
    again = new_ledger()
    for block in played.blocks.values():
        accepted(again, decode_block(encode_block(block)), now=None)
    assert again.accounts == played.accounts
    assert again.leases == played.leases


# work


def test_too_little_work_is_refused() -> None:
    ledger = new_ledger(work_difficulty=HARD)
    good = ledger.chain("alice").send(ledger, BOB, 1)
    refused(ledger, without_work(good, HARD), Outcome.BAD_WORK)
    accepted(ledger, good)


def test_work_may_just_reach_the_difficulty() -> None:
    good = new_ledger().chain("alice").send(new_ledger(), BOB, 1)
    value = work_value(good.work_root, 0)
    for difficulty, enough in ((value, True), (value + 1, False)):
        ledger = new_ledger(work_difficulty=difficulty)
        block = ledger.chain("alice").next(ledger, Send(BOB, 1), Asset.XUSD, -1) if enough else good
        block = block._replace(work=0)
        refusal = check_alone(block, Context(ledger.genesis, NOW))
        assert (refusal is None or refusal.outcome is not Outcome.BAD_WORK) is enough


def test_work_of_a_first_block_is_for_its_account() -> None:
    ledger = new_ledger(work_difficulty=HARD)
    first = ledger.chain("alice").send(ledger, BOB, 1)
    assert first.work == find_work(address_of("alice"), HARD)
    head = accepted(ledger, first).block_hash
    second = ledger.chain("alice").send(ledger, BOB, 1)
    assert second.work == find_work(head, HARD)
    accepted(ledger, second)


# signature


def test_a_signature_by_another_key_is_refused() -> None:
    ledger = new_ledger()
    block = ledger.chain("alice").send(ledger, BOB, 1)
    forged = key_of("bob").sign(ledger.chain("alice").hash_of(block))
    refused(ledger, block._replace(signature=forged), Outcome.BAD_SIGNATURE)
    refused(ledger, block._replace(signature=Signature(bytes(64))), Outcome.BAD_SIGNATURE)


def test_a_changed_block_is_refused() -> None:
    ledger = new_ledger()
    block = ledger.chain("alice").send(ledger, BOB, 1)
    refused(ledger, block._replace(balance=RICH), Outcome.BAD_SIGNATURE)
    refused(ledger, block._replace(body=Send(CAROL, 1)), Outcome.BAD_SIGNATURE)
    refused(ledger, block._replace(account=BOB), Outcome.BAD_SIGNATURE)


def test_a_block_of_another_network_is_refused() -> None:
    there = new_ledger(network_id="there")
    refused(new_ledger(), there.chain("alice").send(there, BOB, 1), Outcome.BAD_SIGNATURE)


# timestamp


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_live_block_is_within_the_window(sign: int) -> None:
    ledger = new_ledger()
    window = ledger.genesis.timing.live_window * NS
    refused(
        ledger, ledger.chain("alice").send(ledger, BOB, 1, timestamp=NOW + sign * (window + 1)), Outcome.BAD_TIMESTAMP
    )
    accepted(ledger, ledger.chain("alice").send(ledger, BOB, 1, timestamp=NOW + sign * window))


@pytest.mark.parametrize("timestamp", [0, NOW * 10])
def test_a_synced_block_may_be_of_any_time(timestamp: int) -> None:
    ledger = new_ledger()
    accepted(ledger, ledger.chain("alice").send(ledger, BOB, 1, timestamp=timestamp), now=None)


# position


def test_an_applied_block_is_old() -> None:
    ledger = new_ledger()
    first = ledger.chain("alice").send(ledger, BOB, 1)
    accepted(ledger, first)
    refused(ledger, first, Outcome.OLD)
    accepted(ledger, ledger.chain("alice").send(ledger, BOB, 1))
    refused(ledger, first, Outcome.OLD)


def test_an_old_block_with_other_work_is_still_old() -> None:
    ledger = new_ledger()
    block = ledger.chain("alice").send(ledger, BOB, 1)
    accepted(ledger, block)
    refused(ledger, block._replace(work=block.work + 1), Outcome.OLD)


def test_another_block_at_a_taken_position_is_a_fork() -> None:
    ledger = new_ledger()
    alice = ledger.chain("alice")
    first, other_first = alice.send(ledger, BOB, 1), alice.send(ledger, CAROL, 1)
    accepted(ledger, first)
    refused(ledger, other_first, Outcome.FORK)
    second, other_second = alice.send(ledger, BOB, 1), alice.send(ledger, CAROL, 2)
    accepted(ledger, second)
    refused(ledger, other_second, Outcome.FORK)
    accepted(ledger, alice.send(ledger, BOB, 1))
    refused(ledger, other_first, Outcome.FORK)


def test_a_block_whose_previous_is_not_here_waits_for_it() -> None:
    ledger = new_ledger()
    ahead = MemoryLedger(ledger.genesis)
    first = ahead.chain("alice").send(ahead, BOB, 1)
    first_hash = accepted(ahead, first).block_hash
    second = ahead.chain("alice").send(ahead, BOB, 1)
    assert refused(ledger, second, Outcome.GAP_PREVIOUS).needs == first_hash
    accepted(ledger, first)
    accepted(ledger, second)


def test_a_first_block_of_a_new_account_with_a_previous_waits_for_it() -> None:
    ledger = new_ledger()
    block = ledger.chain("carol").claim(ledger, previous=UNKNOWN)
    assert refused(ledger, block, Outcome.GAP_PREVIOUS).needs == UNKNOWN


def test_only_gaps_name_what_they_need() -> None:
    assert {Outcome.GAP_PREVIOUS, Outcome.GAP_SOURCE} == GAPS
    ledger = new_ledger()
    assert refused(ledger, ledger.chain("carol").send(ledger, BOB, 1), Outcome.INSUFFICIENT).needs == ZERO_HASH


# order


def test_checks_run_in_their_order() -> None:
    """One block with every fault; mended one by one, each next fault shows."""
    ledger = new_ledger(work_difficulty=HARD)
    alice = ledger.chain("alice")
    late = NOW + 2 * ledger.genesis.timing.live_window * NS
    faults = {"timestamp": late, "previous": UNKNOWN, "balance": 0}
    steps = [Outcome.BAD_TIMESTAMP, Outcome.GAP_PREVIOUS, Outcome.BAD_BALANCE]
    block = alice.send(ledger, BOB, 1, **faults)
    spoilt = without_work(block._replace(signature=Signature(bytes(64))), HARD)
    refused(ledger, spoilt, Outcome.BAD_WORK)
    refused(ledger, spoilt._replace(work=block.work), Outcome.BAD_SIGNATURE)
    for outcome, name in zip(steps, list(faults), strict=True):
        refused(ledger, alice.send(ledger, BOB, 1, **faults), outcome)
        del faults[name]
    accepted(ledger, alice.send(ledger, BOB, 1, **faults))


def test_old_comes_after_the_window_and_before_the_position() -> None:
    ledger = new_ledger()
    block = ledger.chain("alice").send(ledger, BOB, 1)
    accepted(ledger, block)
    refused(ledger, block, Outcome.BAD_TIMESTAMP, now=NOW * 2)
    refused(ledger, block, Outcome.OLD, now=None)


def test_judge_is_check_alone_then_judge_checked() -> None:
    ledger = new_ledger()
    context = Context(ledger.genesis, NOW)
    good = ledger.chain("alice").send(ledger, BOB, 1)
    unsigned = good._replace(signature=Signature(bytes(64)))
    assert check_alone(good, context) is None
    assert judge(ledger, good, context) == judge_checked(ledger, good, context)
    assert judge(ledger, unsigned, context) == check_alone(unsigned, context)
    assert isinstance(judge_checked(ledger, unsigned, context), Effects)


# effects


def test_effects_step_the_chain() -> None:
    ledger = new_ledger()
    first = accepted(ledger, ledger.chain("alice").send(ledger, BOB, 1))
    second = accepted(ledger, ledger.chain("alice").send(ledger, BOB, 2))
    assert [(item.account.height, item.account.head) for item in (first, second)] == [
        (1, first.block_hash),
        (2, second.block_hash),
    ]
    assert second.account.xusd == RICH - 3


def test_judging_changes_nothing() -> None:
    ledger = new_ledger()
    before = (dict(ledger.accounts), dict(ledger.pendings), dict(ledger.leases), dict(ledger.blocks))
    ledger.judge(ledger.chain("alice").send(ledger, BOB, 1))
    assert (ledger.accounts, ledger.pendings, ledger.leases, ledger.blocks) == before


# representatives


def test_an_account_delegates_as_the_genesis_says_until_a_block_of_its_own_names_another() -> None:
    genesis = make_genesis(allocations=(*make_genesis().allocations, Allocation(CAROL, Asset.XE, 9)))
    alice, carol, dave = (new_account(address_of(name), genesis) for name in ("alice", "carol", "dave"))
    assert (alice.representative, alice.xusd, alice.xe) == (genesis.representative, RICH, 0)
    assert (carol.representative, carol.xusd, carol.xe) == (genesis.representative, 0, 9)
    assert (dave.representative, dave.xusd, dave.xe) == (genesis.representative, 0, 0)
    assert (dave.head, dave.height, dave.last_claim) == (ZERO_HASH, 0, 0)
    assert [dave.balance(asset) for asset in Asset] == [0, 0]


def test_an_account_may_hold_both_assets_from_the_start() -> None:
    opened = (Allocation(CAROL, Asset.XUSD, 4), Allocation(CAROL, Asset.XE, 9))
    record = new_account(CAROL, make_genesis(allocations=opened))
    assert (record.xusd, record.xe) == (4, 9)


def test_any_block_may_move_the_delegation_and_none_keeps_it() -> None:
    ledger = new_ledger()
    alice = ledger.chain("alice")
    accepted(ledger, alice.send(ledger, BOB, 1))
    assert account_of(ledger, "alice").representative == ledger.genesis.representative
    accepted(ledger, alice.send(ledger, BOB, 1, representative=CAROL))
    assert account_of(ledger, "alice").representative == CAROL
    accepted(ledger, alice.claim(ledger))
    assert account_of(ledger, "alice").representative == CAROL


# supply


def test_buckets_are_held_or_issued() -> None:
    assert sorted((*HELD, *ISSUED)) == sorted(Bucket)


def test_supply_identity_is_for_each_asset() -> None:
    good = {(Asset.XUSD, Bucket.GENESIS): 5, (Asset.XUSD, Bucket.BALANCES): 3, (Asset.XUSD, Bucket.ESCROW): 2}
    assert supply_balances({})
    assert supply_balances(good)
    assert not supply_balances(good | {(Asset.XUSD, Bucket.BALANCES): 4})
    assert not supply_balances(good | {(Asset.XE, Bucket.MINTED): 1, (Asset.XUSD, Bucket.GENESIS): 6})


def test_moves_balance() -> None:
    out, into = Move(Asset.XE, Bucket.BALANCES, -5), Move(Asset.XE, Bucket.PENDING, 5)
    assert moves_balance(())
    assert moves_balance((out, into))
    assert not moves_balance((out,))
    assert not moves_balance((out, into._replace(asset=Asset.XUSD)))


def test_a_refusal_is_plain() -> None:
    assert Refusal(Outcome.FORK, "why") == (Outcome.FORK, "why", ZERO_HASH)
