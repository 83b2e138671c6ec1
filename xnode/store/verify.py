"""Checks a whole store by replaying it: every stored fact must follow from the genesis and the blocks.

The replay judges all blocks anew in the order of their arrival, with the ledger in memory, and then compares what came
out with what is stored, both ways. Memory grows with accounts, open entries and leases, not with blocks.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from xnode.core.faults import OperatorFault
from xnode.core.genesis import Genesis
from xnode.core.ledger import Bucket, Context, Refusal, supply_balances
from xnode.core.rules import judge, judge_checked
from xnode.core.values import ZERO_HASH, Asset
from xnode.store.records import StoredBlock, Totals
from xnode.store.replay import Replay
from xnode.store.schema import (
    ACCOUNT,
    ARRIVAL,
    BUCKETS,
    CHAIN,
    ERA,
    FRONTIER_SUM,
    GENESIS_KEY,
    HEAVIEST,
    LEASE,
    LEASE_INDEX,
    META,
    NOTE,
    PENDING,
    PLACE,
    PLACE_BYTES,
    PREFIXES,
    PROVIDER,
    SCHEMA_KEY,
    STATE,
    STATE_BLOCK,
    STATE_TIP_KEY,
    STATE_VALUE,
    TALLY_KEY,
    UNDO,
    WEIGHT,
    place,
    unpack_account,
    unpack_arrival,
    unpack_lease,
    unpack_pending,
    unpack_standing,
)
from xnode.store.snapshot import Snapshot
from xnode.store.state_replay import StateReplay
from xnode.store.store import Store

PROBLEMS_MAX: Final = 100  # more of them say nothing new
NAMES: Final = {
    META: "meta",
    ACCOUNT: "account",
    CHAIN: "index by place",
    PLACE: "index by hash",
    ARRIVAL: "block",
    PENDING: "pending entry",
    LEASE: "lease",
    LEASE_INDEX: "lease index",
    PROVIDER: "provider record",
    UNDO: "undo record",
    WEIGHT: "weight",
    HEAVIEST: "index by weight",
    FRONTIER_SUM: "sum of frontiers",
    NOTE: "note",
    STATE_BLOCK: "state block",
    STATE_VALUE: "state value",
    ERA: "era",
}
SUMMED: Final = tuple(
    (asset, bucket) for asset in Asset for bucket in (Bucket.BALANCES, Bucket.PENDING, Bucket.ESCROW, Bucket.STAKE)
)


def verify_store(store: Store, checks_signatures: bool = True) -> list[str]:
    """Everything that is wrong with the store, PROBLEMS_MAX sentences at most; an empty list is a sound store.

    Without signatures and work it is several times faster and still finds every damage that is not a forgery.
    """
    with store.snapshot() as snapshot:
        try:
            return list(islice(_problems(store.genesis, snapshot, checks_signatures), PROBLEMS_MAX))
        except OperatorFault as fault:
            return [str(fault)]


def _problems(genesis: Genesis, snapshot: Snapshot, checks_signatures: bool) -> Iterator[str]:
    yield from _foreign_keys(snapshot)
    yield from _chain_problems(snapshot)
    state = StateReplay(genesis)
    yield from _state_problems(state, snapshot)
    replay = Replay(genesis, snapshot, state.charters())
    for key, value in snapshot.scan(ARRIVAL):
        problem = _replay_one(replay, unpack_arrival(key[1:], value), checks_signatures)
        if problem is not None:
            yield problem
            return  # everything after it would only repeat it
    for prefix, wanted in replay.facts():
        yield from _differences(snapshot, prefix, wanted)
    yield from _count_problems(replay, snapshot)


def _foreign_keys(snapshot: Snapshot) -> Iterator[str]:
    known = {SCHEMA_KEY, GENESIS_KEY, TALLY_KEY, STATE_TIP_KEY}
    for key, _ in snapshot.scan(b""):
        if key[:1] not in PREFIXES or (key[:1] == META and key not in known):
            yield f"an unknown key {key.hex()}"


def _state_problems(state: StateReplay, snapshot: Snapshot) -> Iterator[str]:
    yield from state.problems(snapshot)
    for prefix in STATE:
        yield from _differences(snapshot, prefix, {key: row for key, row in state.rows.items() if key[:1] == prefix})
    if snapshot.state_tip() != state.state_tip():
        yield f"the last state block should be {state.state_tip().number} and is {snapshot.state_tip().number}"


def _chain_problems(snapshot: Snapshot) -> Iterator[str]:
    """Each block is where both of its indexes say, and each index entry has its block."""
    blocks = 0
    for key, value in snapshot.scan(ARRIVAL):
        blocks += 1
        stored = unpack_arrival(key[1:], value)
        if snapshot.block(stored.block_hash) != stored:
            yield f"block {stored.block_hash.hex()} is not where its index says"
        if place(stored.block.account, stored.height) != value[:PLACE_BYTES]:
            yield f"block {stored.block_hash.hex()} stands in another account's chain"
    standings = 0
    for key, value in snapshot.scan(CHAIN):
        standings += 1
        standing = unpack_standing(key[1:], value)
        if snapshot.standing(standing.block_hash) != standing:
            yield f"what stands at {key[1:].hex()} is not where its index says"
    places = sum(1 for _ in snapshot.scan(PLACE))
    if not blocks == places == standings:
        yield f"{blocks} blocks, {places} entries by hash and {standings} by place"


def _replay_one(replay: Replay, stored: StoredBlock, checks_signatures: bool) -> str | None:
    sequence = stored.sequence
    context = Context(replay.genesis, now=None)
    effects = (judge if checks_signatures else judge_checked)(replay, stored.block, context)
    if isinstance(effects, Refusal):
        return f"block {stored.block_hash.hex()} (arrival {sequence}) is refused: {effects.outcome}, {effects.detail}"
    if (stored.block_hash, stored.height) != (effects.block_hash, effects.account.height):
        return f"block {stored.block_hash.hex()} (arrival {sequence}) has another hash or height than it should"
    return replay.apply(effects, sequence)


def _differences(snapshot: Snapshot, prefix: bytes, wanted: dict[bytes, bytes]) -> Iterator[str]:
    """Takes from `wanted` what is found, so it ends empty when all is well."""
    name = NAMES[prefix]
    for key, value in snapshot.scan(prefix):
        expected = wanted.pop(key, None)
        if expected is None:
            yield f"{name} {key[1:].hex()} should not be there"
        elif expected != value:
            yield f"{name} {key[1:].hex()} is not what its blocks say"
    for key in wanted:
        yield f"{name} {key[1:].hex()} is missing"


def _count_problems(replay: Replay, snapshot: Snapshot) -> Iterator[str]:
    counted, stored = replay.counter.tally(replay.changed), snapshot.tally()
    counted = counted._replace(sequence=max(counted.sequence, stored.sequence))  # the last ones may be taken back
    for name, should, is_ in zip(counted._fields, counted, stored, strict=True):
        if should != is_:
            yield f"the counted {name} should be {should!r} and are {is_!r}"
    if not supply_balances(stored.totals):
        yield "the supply identity does not hold"
    sums = _sums(snapshot)
    for asset, bucket in SUMMED:
        if stored.totals[(asset, bucket)] != sums[(asset, bucket)]:
            yield f"{bucket} of {asset.name} should be {sums[(asset, bucket)]} and is {stored.totals[(asset, bucket)]}"


def _sums(snapshot: Snapshot) -> Totals:
    """What is held, added up from the stored records: a second way to the same totals."""
    sums = dict.fromkeys(BUCKETS, 0)
    for key, value in snapshot.scan(ACCOUNT):
        account = unpack_account(key[1:], value)
        for asset in Asset:
            sums[(asset, Bucket.BALANCES)] += account.balance(asset)
    for key, value in snapshot.scan(PENDING):
        entry = unpack_pending(key, value)
        sums[(entry.asset, Bucket.PENDING)] += entry.amount
    for key, value in snapshot.scan(LEASE):
        lease = unpack_lease(key[1:], value)
        if not lease.is_final:
            sums[(Asset.XUSD, Bucket.ESCROW)] += lease.cost
            sums[(Asset.XUSD, Bucket.STAKE)] += 0 if lease.accept_hash == ZERO_HASH else lease.stake
    return sums
