"""The state chain's rules: (view, block) -> effects or a named refusal (protocol section 9). Pure.

Theory of operation. The chain is one line. Block i is judged by the map and the keyset that block i - 1 left. Its
timestamp is the moment from which it holds, never before that of the block before it, so that `Charters` can say what
held at any time.

A change must be heard before it holds: nodes that judged a lease meanwhile would have judged it otherwise. So a live
block (gossiped or submitted) that holds since more than LATE_MAX is refused; a synced one is not, for whoever was away
must be able to catch up. No block may be dated further than AHEAD_MAX ahead: everything behind it would have to wait as
long.

A second block at an index, signed as the first, is a fork: the DAO has contradicted itself. The first one that was seen
stays, for what was judged by it can't be judged again; the second is refused as `fork` and must be shown to people.
"""

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Final, NamedTuple

from xnode.core.charter import Charter, Charters, Era
from xnode.core.genesis import Genesis
from xnode.core.keyset import Keyset, all_verify, quorum_flaw
from xnode.core.state_blocks import Action, Op, StateBlock, state_hash
from xnode.core.state_values import KEY, SYSTEM_PREFIX, BadValue, read_value, with_value
from xnode.core.values import NS, Hash

LATE_MAX: Final = 600 * NS  # how long a live block may hold already when it is heard
AHEAD_MAX: Final = 30 * 86_400 * NS  # how far ahead a block may be dated


class StateOutcome(StrEnum):
    """What becomes of a state block; every word is stable and documented in docs/refusals.md."""

    PROGRESS = "progress"  # good and new: it may be applied
    OLD = "old"  # already applied: success without effect
    FORK = "fork"  # the DAO has signed another block at this index
    GAP_PREVIOUS = "gap_previous"  # the block before it is not here yet
    BAD_FORMAT = "bad_format"  # not one canonical state block
    BAD_PREVIOUS = "bad_previous"  # it builds on another block than the one before it
    BAD_SIGNATURE = "bad_signature"  # one of its signatures is not good, or not of a DAO key
    FEW_SIGNATURES = "few_signatures"  # fewer than the threshold
    BAD_TIMESTAMP = "bad_timestamp"  # before the block before it, too late for a live one, or too far ahead
    BAD_OPS = "bad_ops"  # none, or two for one key
    BAD_KEY = "bad_key"  # not of the form of a key, or nothing to delete there
    BAD_VALUE = "bad_value"  # not canonical JSON, or too long
    SYSTEM_DELETE = "system_delete"  # a sys. key can't be deleted
    UNKNOWN_SYSTEM_KEY = "unknown_system_key"  # a sys. key that this program can't obey
    BAD_KEYSET = "bad_keyset"  # no DAO keyset that could sign
    BAD_TIMEKEEPERS = "bad_timekeepers"  # no list of timekeepers that could agree
    BAD_RATES = "bad_rates"  # no rates


class StateRefusal(NamedTuple):
    """Why a state block has no effects; `detail` is for people."""

    outcome: StateOutcome
    detail: str


class Refused(Exception):
    """Carries a refusal out of a rule; never leaves this module."""

    def __init__(self, outcome: StateOutcome, detail: str) -> None:
        super().__init__(detail)
        self.refusal = StateRefusal(outcome, detail)


class StateTip(NamedTuple):
    """The last state block."""

    number: int
    block_hash: Hash
    timestamp: int


class StateView(ABC):
    """What the rules may look at."""

    @abstractmethod
    def state_tip(self) -> StateTip:
        """The last block; block 0 of a new network."""

    @abstractmethod
    def state_hash_at(self, number: int) -> Hash | None:
        """The hash of the block at an index, or None above the tip."""

    @abstractmethod
    def state_value(self, key: str) -> str | None:
        """A key's value as canonical JSON text, or None."""

    @abstractmethod
    def charters(self) -> Charters:
        """What held when."""


class Arrival(NamedTuple):
    """How a block came: at `now` (ns), live or synced."""

    now: int
    is_live: bool


class StateEffects(NamedTuple):
    """What a good state block does: its ops on the map, and the era that it begins."""

    block: StateBlock
    block_hash: Hash
    era: Era


def judge_state(
    view: StateView, genesis: Genesis, block: StateBlock, arrival: Arrival | None
) -> StateEffects | StateRefusal:
    """What the block does, or why it does nothing; `arrival` is None where what is stored is judged anew."""
    identity = state_hash(genesis.network_key, block)
    try:
        _check_place(view, block, identity)
        _check_timestamp(view.state_tip(), block, arrival)
        before = view.charters().latest
        _check_signatures(before.dao, block, identity)
        return StateEffects(block, identity, Era(block.number, block.timestamp, _check_ops(view, before, block)))
    except Refused as refused:
        return refused.refusal


def _check_place(view: StateView, block: StateBlock, identity: Hash) -> None:
    tip = view.state_tip()
    if view.state_hash_at(block.number) == identity:
        raise Refused(StateOutcome.OLD, "already applied")
    if block.number > tip.number + 1:
        raise Refused(StateOutcome.GAP_PREVIOUS, f"the last state block here is {tip.number}")
    if block.number == 0:
        raise Refused(StateOutcome.BAD_PREVIOUS, "block 0 is made from the genesis document")
    if block.previous != view.state_hash_at(block.number - 1):
        raise Refused(StateOutcome.BAD_PREVIOUS, f"it does not build on state block {block.number - 1} as it is here")
    if block.number <= tip.number:
        _check_signatures(view.charters().after(block.number - 1).dao, block, identity)
        raise Refused(StateOutcome.FORK, f"the DAO has signed another block at index {block.number}, which stays")


def _check_timestamp(tip: StateTip, block: StateBlock, arrival: Arrival | None) -> None:
    if block.timestamp < tip.timestamp:
        raise Refused(StateOutcome.BAD_TIMESTAMP, "it is dated before the block before it")
    if arrival is None:
        return
    if block.timestamp > arrival.now + AHEAD_MAX:
        raise Refused(StateOutcome.BAD_TIMESTAMP, f"it is dated more than {AHEAD_MAX // (86_400 * NS)} days ahead")
    if arrival.is_live and block.timestamp < arrival.now - LATE_MAX:
        text = f"it should hold since more than {LATE_MAX // NS} s; date it ahead, so that all hear of it before"
        raise Refused(StateOutcome.BAD_TIMESTAMP, text)


def _check_signatures(keyset: Keyset, block: StateBlock, identity: Hash) -> None:
    """Exactly as many as are asked for, all good: nobody on the way can add or take away one."""
    if len(block.signatures) < keyset.threshold:
        missing = keyset.threshold - len(block.signatures)
        raise Refused(StateOutcome.FEW_SIGNATURES, f"{missing} more of the DAO's {len(keyset.keys)} keys must sign")
    flaw = quorum_flaw(keyset, block.signatures)
    if flaw:
        raise Refused(StateOutcome.BAD_SIGNATURE, flaw)
    if not all_verify(identity, block.signatures):
        raise Refused(StateOutcome.BAD_SIGNATURE, "a signature is not good")


def _check_ops(view: StateView, before: Charter, block: StateBlock) -> Charter:
    if not block.ops:
        raise Refused(StateOutcome.BAD_OPS, "a state block changes something")
    if len({op.key for op in block.ops}) != len(block.ops):
        raise Refused(StateOutcome.BAD_OPS, "a state block names each key once")
    charter = before
    for op in block.ops:
        charter = _check_op(view, charter, op)
    return charter


def _check_op(view: StateView, charter: Charter, op: Op) -> Charter:
    if KEY.fullmatch(op.key) is None:
        raise Refused(StateOutcome.BAD_KEY, f"a key must match {KEY.pattern}")
    is_system = op.key.startswith(SYSTEM_PREFIX)
    if op.action is Action.DELETE:
        if is_system:
            raise Refused(StateOutcome.SYSTEM_DELETE, f"{op.key} can't be deleted, only set")
        if view.state_value(op.key) is None:
            raise Refused(StateOutcome.BAD_KEY, f"there is nothing to delete at {op.key}")
        return charter
    assert op.value is not None, "decoding has seen to it"
    try:
        value = read_value(op.value)
        return with_value(charter, op.key, value) if is_system else charter
    except BadValue as fault:
        raise Refused(StateOutcome(fault.code), str(fault)) from fault
