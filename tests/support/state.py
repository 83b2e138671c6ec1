"""A state chain on paper: a DAO of three keys of which two sign, blocks that are good or altered, the map in a dict."""

from typing import Any

from tests.support.ledger import NOW, key_of, make_genesis
from xnode.core.charter import Charters, genesis_charters
from xnode.core.genesis import Genesis
from xnode.core.keyset import Keyset, make_keyset
from xnode.core.state_blocks import Action, Op, StateBlock, genesis_state_block, sign_state_block, state_hash
from xnode.core.state_chain import (
    Arrival,
    StateEffects,
    StateOutcome,
    StateRefusal,
    StateTip,
    StateView,
    judge_state,
)
from xnode.core.state_values import render_value
from xnode.core.values import NS, Hash

DAO_NAMES = ("dao-1", "dao-2", "dao-3")
LIVE = Arrival(NOW, is_live=True)
SYNCED = Arrival(NOW, is_live=False)
SOON = NOW + 60 * NS
OTHER_RATES = {"vcpu": 40, "memory_gb": 20, "disk_gb": 2}


def keyset_of(*names: str, threshold: int = 2) -> Keyset:
    """The keyset of these people."""
    return make_keyset([key_of(name).public_key for name in names], threshold)


def dao_genesis(**changes: Any) -> Genesis:
    """The tests' network with a DAO of three."""
    return make_genesis(**({"dao": keyset_of(*DAO_NAMES)} | changes))


def set_op(key: str, value: object) -> Op:
    """Sets a key."""
    return Op(Action.SET, key, render_value(value))


def delete_op(key: str) -> Op:
    """Deletes a key."""
    return Op(Action.DELETE, key, None)


def keys_json(*names: str, threshold: int = 2) -> dict[str, object]:
    """The JSON of a keyset, its keys in order."""
    return {"keys": sorted(key_of(name).public_key.hex() for name in names), "threshold": threshold}


def signed(genesis: Genesis, block: StateBlock, *names: str) -> StateBlock:
    """The block with the signatures of these people and no others."""
    block = block._replace(signatures=())
    for name in names:
        block = sign_state_block(genesis.network_key, key_of(name), block)
    return block


def next_block(
    view: StateView, genesis: Genesis, *ops: Op, names: tuple[str, ...] = DAO_NAMES[:2], **changes: Any
) -> StateBlock:
    """The block after the view's tip, dated SOON; `changes` replace fields before it is signed."""
    tip = view.state_tip()
    block = StateBlock(tip.number + 1, tip.block_hash, ops or (set_op("motd", "hello"),), max(SOON, tip.timestamp))
    return signed(genesis, block._replace(**changes), *names)


class StateMemory(StateView):
    """The naive state chain."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.blocks = [genesis_state_block(genesis)]
        self.map = {op.key: op.value for op in self.blocks[0].ops}
        self.held = genesis_charters(genesis)

    def state_tip(self) -> StateTip:
        return StateTip(len(self.blocks) - 1, self.hash_of(self.blocks[-1]), self.blocks[-1].timestamp)

    def state_hash_at(self, number: int) -> Hash | None:
        return self.hash_of(self.blocks[number]) if number < len(self.blocks) else None

    def state_value(self, key: str) -> str | None:
        return self.map.get(key)

    def charters(self) -> Charters:
        return self.held

    def hash_of(self, block: StateBlock) -> Hash:
        return state_hash(self.genesis.network_key, block)

    def next(self, *ops: Op, **changes: Any) -> StateBlock:
        """See next_block."""
        return next_block(self, self.genesis, *ops, **changes)

    def accepted(self, block: StateBlock, arrival: Arrival | None = LIVE) -> StateEffects:
        """Asserts that the block is good, and applies it."""
        effects = judge_state(self, self.genesis, block, arrival)
        assert isinstance(effects, StateEffects), effects
        self.blocks.append(block)
        self.held = self.held.extended(effects.era)
        for action, key, value in block.ops:
            if action is Action.SET:
                self.map[key] = value
            else:
                del self.map[key]
        return effects

    def refused(self, block: StateBlock, outcome: StateOutcome, arrival: Arrival | None = LIVE) -> StateRefusal:
        """Asserts that the block is refused for exactly this reason, in words for people."""
        refusal = judge_state(self, self.genesis, block, arrival)
        assert isinstance(refusal, StateRefusal), f"accepted, though it should be refused: {outcome}"
        assert refusal.outcome is outcome, refusal
        assert refusal.detail
        return refusal
