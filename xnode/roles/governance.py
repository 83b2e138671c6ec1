"""Governance: every state block enters here, wherever it comes from, and lands in one atomic batch (section 9).

A state block is judged (`core.state_chain`), applied, and then announced: to the roles by `watch`, to the network by
gossip. Level-triggered: sync asks every peer for what we miss, so no lost message is lost for good.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import trio

from xnode.core.codec import Malformed
from xnode.core.faults import PeerFault
from xnode.core.genesis import Genesis
from xnode.core.state_blocks import StateBlock, decode_state_block, encode_state_block, state_hash
from xnode.core.state_chain import Arrival, StateEffects, StateOutcome, StateRefusal, judge_state
from xnode.core.values import Hash
from xnode.net.state_sync import StateLedger
from xnode.roles.replica import Publish
from xnode.roles.review import stage_review
from xnode.store.schema import number
from xnode.store.store import Store

STATE_TOPIC: Final = "xnode/state"
FORK_SPACE: Final = "state-fork"  # note space: number -> the second block that the DAO signed there
FORKS_MAX: Final = 100
APPLIED_AT_ONCE: Final = 16  # blocks of a synced page, then others may run

log = logging.getLogger(__name__)

Watcher = Callable[[StateEffects], None]


class StateSubmission(NamedTuple):
    """What became of a state block that somebody offered."""

    block_hash: Hash
    outcome: StateOutcome
    detail: str


class Governance(StateLedger):
    """The one writer of the state chain. `clock` gives ns."""

    def __init__(self, store: Store, genesis: Genesis, clock: Callable[[], int], publish: Publish) -> None:
        self._store = store
        self._genesis = genesis
        self._clock = clock
        self._publish = publish
        self._watchers: list[Watcher] = []
        self._forks: dict[int, Hash] = {}
        self.outcomes: Counter[str] = Counter()
        with store.snapshot() as view:
            for key, wire in view.notes(FORK_SPACE, FORKS_MAX):
                self._forks[int.from_bytes(key, "big")] = self._hash(decode_state_block(wire))

    def watch(self, watcher: Watcher) -> None:
        """Calls `watcher` with every block's effects once they are durable; it must be quick and must not raise."""
        self._watchers.append(watcher)

    async def submit(self, block: StateBlock) -> StateSubmission:
        """Offers a live block of an API client; gossips it when it is new and good."""
        submission = self.take(block)
        if submission.outcome in (StateOutcome.PROGRESS, StateOutcome.FORK):
            await self._publish(STATE_TOPIC, encode_state_block(block))
        return submission

    def take(self, block: StateBlock) -> StateSubmission:
        """Judges a live block and applies it if it is good."""
        return self._intake(block, Arrival(self._clock(), is_live=True))

    def preview(self, wire: bytes) -> tuple[StateBlock | None, StateOutcome, str]:
        """What `take` would say of a gossiped block; changes nothing. A fork that we know of is `old`."""
        try:
            block = decode_state_block(wire)
        except Malformed as error:
            return None, StateOutcome.BAD_FORMAT, str(error)
        with self._store.snapshot() as view:
            verdict = judge_state(view, self._genesis, block, Arrival(self._clock(), is_live=True))
        if isinstance(verdict, StateEffects):
            return block, StateOutcome.PROGRESS, ""
        is_known = verdict.outcome is StateOutcome.FORK and block.number in self._forks
        return block, StateOutcome.OLD if is_known else verdict.outcome, verdict.detail

    def tip_number(self) -> int:
        """See StateLedger."""
        with self._store.snapshot() as view:
            return view.state_tip().number

    def wires(self, first: int, count: int) -> list[bytes]:
        """See StateLedger."""
        with self._store.snapshot() as view:
            found = view.state_blocks(first - 1, count) if first > 0 else view.state_blocks(None, count)
        return [encode_state_block(stored.block) for stored in found]

    def is_ours(self, number: int, wire: bytes) -> bool:
        """See StateLedger."""
        block = _decoded(wire)
        if block.number != number:
            raise PeerFault("malformed", f"state-sync: block {block.number} came, {number} was asked for")
        with self._store.snapshot() as view:
            return view.state_hash_at(number) == self._hash(block)

    async def take_synced(self, wires: Sequence[bytes]) -> int:
        """See StateLedger."""
        good = 0
        for wire in wires:
            submission = self._intake(_decoded(wire), Arrival(self._clock(), is_live=False))
            if submission.outcome not in (StateOutcome.PROGRESS, StateOutcome.OLD):
                if submission.outcome is not StateOutcome.FORK:  # that was logged when it was first seen
                    log.warning("a peer's state block is refused: %s, %s", submission.outcome, submission.detail)
                break
            good += 1
            if good % APPLIED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return good

    def check(self) -> tuple[bool, str]:
        """Whether the DAO has spoken with one voice, and a sentence for people."""
        if not self._forks:
            return True, f"state block {self.tip_number()}"
        at = min(self._forks)
        text = f"the DAO has signed two blocks at index {at}: this node keeps the one it saw first, and refuses "
        return False, f"{text}{self._forks[at].hex()}; other nodes may keep that one: ask the DAO which one counts"

    def figures(self) -> dict[str, int]:
        """Counters of outcomes, and gauges."""
        return {**self.outcomes, "forks": len(self._forks), "tip": self.tip_number()}

    def _hash(self, block: StateBlock) -> Hash:
        return state_hash(self._genesis.network_key, block)

    def _intake(self, block: StateBlock, arrival: Arrival) -> StateSubmission:
        identity = self._hash(block)
        with self._store.transaction() as transaction:
            verdict = judge_state(transaction, self._genesis, block, arrival)
            if isinstance(verdict, StateRefusal):
                self.outcomes[verdict.outcome] += 1
                if verdict.outcome is StateOutcome.FORK:
                    transaction.discard()
                    self._remember_fork(block, identity)
                return StateSubmission(identity, *verdict)
            transaction.stage_state(verdict)
            stage_review(transaction, block.timestamp)
            transaction.commit()
        self.outcomes[StateOutcome.PROGRESS] += 1
        log.info("state block %d holds from %d ns on: %s", block.number, block.timestamp, _described(block))
        for watcher in self._watchers:
            watcher(verdict)
        return StateSubmission(identity, StateOutcome.PROGRESS, "")

    def _remember_fork(self, block: StateBlock, identity: Hash) -> None:
        """On disk, so that it is shown after a restart too."""
        if block.number in self._forks or len(self._forks) >= FORKS_MAX:
            return
        with self._store.transaction() as transaction:
            transaction.put_note(FORK_SPACE, number(block.number), encode_state_block(block))
            transaction.commit()
        self._forks[block.number] = identity
        log.error("%s", self.check()[1])


def _decoded(wire: bytes) -> StateBlock:
    try:
        return decode_state_block(wire)
    except Malformed as error:
        raise PeerFault("malformed", f"state-sync: no state block: {error}") from error


def _described(block: StateBlock) -> str:
    return ", ".join(f"{op.action} {op.key}" for op in block.ops)
