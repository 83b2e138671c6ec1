"""The state chain as its blocks alone make it: what `verify` compares the stored rows with."""

from collections.abc import Iterator

from xnode.core.charter import Charters, genesis_charters
from xnode.core.genesis import Genesis
from xnode.core.state_blocks import genesis_state_block, state_hash
from xnode.core.state_chain import StateEffects, StateRefusal, StateTip, StateView, judge_state
from xnode.core.values import Hash
from xnode.store.schema import STATE_BLOCK, STATE_TIP_KEY, STATE_VALUE
from xnode.store.snapshot import Snapshot
from xnode.store.state import StoredState, changed_rows, opening_state, unpack_state, unpack_tip


class StateReplay(StateView):
    """The state chain in memory after the blocks so far; `rows` is all that must be stored of it."""

    def __init__(self, genesis: Genesis) -> None:
        block = genesis_state_block(genesis)
        self._genesis = genesis
        self._hashes = [state_hash(genesis.network_key, block)]
        self._charters = genesis_charters(genesis)
        self.rows = {key: value for key, value in opening_state(genesis).items() if value is not None}

    def state_tip(self) -> StateTip:
        return unpack_tip(self.rows[STATE_TIP_KEY])

    def state_hash_at(self, number: int) -> Hash | None:
        return self._hashes[number] if number < len(self._hashes) else None

    def state_value(self, key: str) -> str | None:
        value = self.rows.get(STATE_VALUE + key.encode())
        return None if value is None else value.decode()

    def charters(self) -> Charters:
        return self._charters

    def problems(self, snapshot: Snapshot) -> Iterator[str]:
        """Judges all stored blocks anew, in order; ends at the first that can't be."""
        for _, value in snapshot.scan(STATE_BLOCK):
            stored = unpack_state(value)
            if stored.block.number > 0 or stored.block_hash != self._hashes[0]:
                problem = self._apply(stored)
                if problem:
                    yield problem
                    return

    def _apply(self, stored: StoredState) -> str:
        verdict = judge_state(self, self._genesis, stored.block, arrival=None)
        if isinstance(verdict, StateRefusal):
            return f"state block {stored.block.number} is refused: {verdict.outcome}, {verdict.detail}"
        if verdict.block_hash != stored.block_hash:
            return f"state block {stored.block.number} has another hash than it should"
        self._take(verdict)
        return ""

    def _take(self, effects: StateEffects) -> None:
        for key, value in changed_rows(effects, self._charters).items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        self._hashes.append(effects.block_hash)
        self._charters = self._charters.extended(effects.era)
