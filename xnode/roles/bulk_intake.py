"""Old blocks by the hundred: checked elsewhere, judged in small steps, landed in one batch (protocol section 10).

Theory of operation. A page's own checks run in the `checker` while earlier pages are judged. Judging takes a few blocks
at a time and then lets others run, with the store's transaction staying open: whoever else needs one meanwhile settles
it first, so it only ever holds whole blocks. A batch is committed when it is full, in two steps, and at the end of a
session. How far the peer was followed lands with the last blocks of a page, so that a node killed at any moment goes on
where its ledger is, or a page before. Held blocks that a block sets free are judged in its step or the following ones,
never in one go.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

import trio

from xnode.checking.checker import Checker, Checking
from xnode.checking.checks import Checked, Finding
from xnode.core.blocks import Block, open_block
from xnode.core.codec import decode, encode
from xnode.core.faults import PeerFault
from xnode.core.genesis import Genesis
from xnode.core.held import HELD_MAX
from xnode.core.ledger import GAPS, Context, Effects, Outcome
from xnode.core.values import Hash
from xnode.net.streams import PeerId
from xnode.net.sync_plan import PAGE_BLOCKS, Resume, Taken
from xnode.net.sync_port import SyncSink
from xnode.roles.replica import RELEASED_MAX, Replica
from xnode.store.store import Store
from xnode.store.transaction import Transaction

RESUME_SPACE: Final = "sync-resume"  # note space: peer id -> parts, arrival number
RESUMES_MAX: Final = 64  # peers whose place is remembered
STEP_BLOCKS: Final = 32  # judged before others run: about 3 ms
BATCH_BLOCKS: Final = 256  # landed at once: each half of it takes a few ms
_GOOD: Final = int(Finding.GOOD)


class BulkIntake(SyncSink):
    """Where sync's blocks go."""

    def __init__(self, store: Store, genesis: Genesis, replica: Replica, checker: Checker | None = None) -> None:
        self._store = store
        self._replica = replica
        self._checker = checker or Checker(genesis.network_key, genesis.work_difficulty)
        self._turn = trio.Lock()
        self._transaction: Transaction | None = None
        self._staged: list[Effects] = []
        self._released: deque[Hash] = deque()
        self._freed: deque[Block] = deque()  # they are held no longer, and not judged yet
        self._resumes = self._read_resumes()

    def start(self, peer_id: PeerId, wires: Sequence[bytes]) -> "Page":
        """See SyncSink."""
        return Page(self, peer_id, wires, self._checker.start(wires))

    def flush(self) -> None:
        """See SyncSink."""
        transaction, self._transaction = self._transaction, None
        if transaction is None or not transaction.is_open:
            return
        self._store.lend(None)
        staged, self._staged = self._staged, []
        transaction.commit()
        self._replica.announce(staged)

    def resume(self, peer_id: PeerId) -> Resume | None:
        """See SyncSink."""
        return self._resumes.get(peer_id)

    def is_crowded(self) -> bool:
        """See SyncSink."""
        return len(self._replica.held) > HELD_MAX // 2

    async def land(self, page: "Page", findings: Sequence[Checked], resume: Resume | None) -> Taken:
        """Judges and applies a page, in order; raises PeerFault at the first that is bad by itself."""
        async with self._turn:
            counts = dict.fromkeys(("applied", "known", "held", "refused"), 0)
            for start in range(0, len(page.wires), STEP_BLOCKS):
                end = start + STEP_BLOCKS
                self._judge(page, page.wires[start:end], findings[start:end], counts)
                await trio.lowlevel.checkpoint()
                if len(self._staged) >= BATCH_BLOCKS:
                    await self._settle()
            await self._work_off(counts)
            self._note(page.peer_id, resume)
            if len(page.wires) < PAGE_BLOCKS:
                await self._settle()
            return Taken(**counts)

    def _judge(self, page: "Page", wires: Sequence[bytes], findings: Sequence[Checked], counts: dict[str, int]) -> None:
        transaction, context = self._open(), self._replica.synced_context()
        for wire, (finding, identity) in zip(wires, findings, strict=True):
            if finding != _GOOD:
                name = Finding(finding).name.lower()
                raise PeerFault(name, f"{page.peer_id} sent a block that is bad whoever looks: {name}")
            self._stage(transaction, open_block(wire), identity, wire, context, counts)
        self._release(counts)

    def _stage(
        self,
        transaction: Transaction,
        block: Block,
        identity: Hash,
        wire: bytes,
        context: Context,
        counts: dict[str, int],
    ) -> None:
        verdict = self._replica.stage_bulk(transaction, block, identity, wire, context)
        if isinstance(verdict, Effects):
            counts["applied"] += 1
            self._staged.append(verdict)
            self._released.append(identity)
        else:
            counts[_name_of(verdict)] += 1

    def _release(self, counts: dict[str, int]) -> None:
        held, context = self._replica.held, self._replica.synced_context()
        if not len(held):
            self._released.clear()
        for _ in range(RELEASED_MAX):
            while self._released and not self._freed:
                self._freed += held.take(self._released.popleft())
            if not self._freed:
                return
            block = self._freed.popleft()
            self._stage(self._open(), block, self._replica.hash_of(block), b"", context, counts)

    async def _work_off(self, counts: dict[str, int]) -> None:
        while self._released or self._freed:
            self._release(counts)
            await trio.lowlevel.checkpoint()
            if len(self._staged) >= BATCH_BLOCKS:
                await self._settle()

    async def _settle(self) -> None:
        """Lands the batch in two steps; who needs a transaction between them lands it before."""
        if self._transaction is not None and self._transaction.is_open:
            self._transaction.prepare()
            try:
                await trio.lowlevel.checkpoint()
            finally:  # nothing can be staged any more, so it must not wait for whoever comes next
                self.flush()
        else:
            self.flush()

    def _open(self) -> Transaction:
        if self._transaction is None or not self._transaction.is_open:
            self._transaction = self._store.transaction()
            self._store.lend(self.flush)
        return self._transaction

    def _note(self, peer_id: PeerId, resume: Resume | None) -> None:
        if resume is None:
            return
        self._resumes[peer_id] = resume
        self._open().put_note(RESUME_SPACE, peer_id.encode(), encode(tuple(resume)))
        if len(self._resumes) > RESUMES_MAX:
            gone = next(iter(self._resumes))
            del self._resumes[gone]
            self._open().delete_note(RESUME_SPACE, gone.encode())

    def _read_resumes(self) -> dict[PeerId, Resume]:
        with self._store.snapshot() as view:
            notes = list(view.notes(RESUME_SPACE, RESUMES_MAX))
        return {PeerId(key.decode()): Resume(*decode(value)) for key, value in notes}  # type: ignore[arg-type]


class Page:
    """A page under check."""

    def __init__(self, intake: BulkIntake, peer_id: PeerId, wires: Sequence[bytes], checking: Checking) -> None:
        self.peer_id = peer_id
        self.wires = wires
        self._intake = intake
        self._checking = checking

    async def land(self, resume: Resume | None) -> Taken:
        """See Judging."""
        return await self._intake.land(self, await self._checking.findings(), resume)


def _name_of(outcome: Outcome) -> str:
    if outcome is Outcome.OLD:
        return "known"
    return "held" if outcome in GAPS else "refused"
