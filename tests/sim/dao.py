"""The DAO of a run: one honest voice that decides something now and then, and tells it to whoever hears it."""

from collections.abc import Sequence
from itertools import cycle
from typing import Final

import trio

from tests.sim.clocks import true_time
from tests.sim.journal import Journal
from tests.sim.member import Member
from tests.support.state import set_op, signed
from xnode.core.genesis import Genesis
from xnode.core.state_blocks import Op, StateBlock, genesis_state_block, state_hash
from xnode.core.state_chain import StateOutcome
from xnode.core.values import NS

TELL_EVERY: Final = 2.0  # seconds, until somebody has taken it
CHANGES: Final[dict[str, tuple[Op, ...]]] = {
    "high rates": (set_op("sys.rates", {"vcpu": 20_000, "memory_gb": 10_000, "disk_gb": 1_000}),),
    "old rates": (set_op("sys.rates", {"vcpu": 20, "memory_gb": 10, "disk_gb": 1}),),
    "a word": (set_op("motd", "hello"),),
}


class Dao:
    """It knows its own chain and so never contradicts itself. `busy` counts the decisions that nobody took yet."""

    def __init__(self, genesis: Genesis, journal: Journal) -> None:
        self._genesis = genesis
        self._journal = journal
        self._tip: StateBlock = genesis_state_block(genesis)
        self.busy = 0

    async def enact(self, what: str, ahead: float, members: Sequence[Member]) -> None:
        """Decides it, to hold in so many seconds; told to one member after the other until one has taken it."""
        timestamp = max(self._tip.timestamp, true_time() + int(ahead * NS))
        identity = state_hash(self._genesis.network_key, self._tip)
        block = StateBlock(self._tip.number + 1, identity, CHANGES[what], timestamp)
        self._tip = block = signed(self._genesis, block, "dao")
        self.busy += 1
        try:
            await self._tell(block, members)
        finally:
            self.busy -= 1
        self._journal.note("state block", "", f"{what}, number {block.number}")

    async def _tell(self, block: StateBlock, members: Sequence[Member]) -> None:
        is_taken = trio.Event()
        for member in cycle(members):
            member.start_soon(self._offer, member, block, is_taken)
            await trio.sleep(TELL_EVERY)
            if is_taken.is_set():
                return

    async def _offer(self, member: Member, block: StateBlock, is_taken: trio.Event) -> None:
        assert member.roles is not None
        submission = await member.roles.governance.submit(block)
        if member.is_honest and submission.outcome in (StateOutcome.PROGRESS, StateOutcome.OLD):
            is_taken.set()
