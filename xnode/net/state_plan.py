"""State-chain sync without its input and output: messages, their limits, and the search for a fork (section 10).

Theory of operation. The asker asks by (0, first number, how many), and gets (1, number of the other side's last block,
blocks): the blocks from that number on, one after the other, as many as were asked for, as there are, or as fit into a
page, but at least one where there is one. It asks first for the block at its own tip, which shows whether both chains
are one. If they are, it asks for what comes after, page by page. If they are not, it halves its way to the first block
that differs: that one is signed by the DAO as ours is, and must be shown to people.
"""

from typing import Final, NamedTuple

from xnode.core.codec import Plain
from xnode.core.faults import PeerFault
from xnode.core.state_blocks import STATE_BLOCK_BYTES_MAX
from xnode.core.values import U64_MAX

PAGE_BLOCKS: Final = 64  # the first page; each next one is twice as large
PAGE_BLOCKS_MAX: Final = 256
PAGE_BYTES_MAX: Final = 1024 * 1024  # then a page ends, though never before its first block
SESSION_BLOCKS_MAX: Final = 10_000
QUESTION_BYTES_MAX: Final = 64
ANSWER_BYTES_MAX: Final = PAGE_BYTES_MAX + STATE_BLOCK_BYTES_MAX + 5 * PAGE_BLOCKS_MAX + 64

ASK: Final = 0
BLOCKS: Final = 1

Record = tuple[Plain, ...]


class Question(NamedTuple):
    """Blocks from number `first` on, `most` at most."""

    first: int
    most: int


class Answer(NamedTuple):
    """The blocks, in wire form, and the number of the other side's last one."""

    tip: int
    wires: tuple[bytes, ...]


def _malformed(what: str) -> PeerFault:
    return PeerFault("malformed", f"state-sync: {what}")


def question_record(question: Question) -> Record:
    """The message."""
    return (ASK, *question)


def parse_question(record: Record, given: int) -> Question:
    """What an asker who got `given` blocks in this session wants next. Raises PeerFault."""
    match record:
        case (kind, first, count) if kind == ASK and type(kind) is int:
            if _is_number(first, 0, U64_MAX) and _is_number(count, 1, PAGE_BLOCKS_MAX):
                assert isinstance(first, int)
                assert isinstance(count, int)
                if given + count > SESSION_BLOCKS_MAX + PAGE_BLOCKS_MAX:
                    raise PeerFault("too_many", f"state-sync: a session has {SESSION_BLOCKS_MAX} blocks at most")
                return Question(first, count)
    raise _malformed(f"blocks are asked for by (0, first, count), count at most {PAGE_BLOCKS_MAX}")


def answer_record(answer: Answer) -> Record:
    """The message."""
    return (BLOCKS, *answer)


def parse_answer(record: Record, question: Question) -> Answer:
    """The page that was asked for. Raises PeerFault."""
    match record:
        case (kind, tip, tuple(items)) if kind == BLOCKS and type(kind) is int and _is_number(tip, 0, U64_MAX):
            assert isinstance(tip, int)
            wires = tuple(item for item in items if isinstance(item, bytes) and 0 < len(item) <= STATE_BLOCK_BYTES_MAX)
            if len(wires) != len(items):
                raise _malformed("a page holds whole blocks")
            if len(wires) > question.most or (not wires and tip >= question.first):
                raise PeerFault("not_asked", f"state-sync: {len(wires)} blocks came, {question.most} were asked for")
            return Answer(tip, wires)
    raise _malformed("a page is (1, tip, blocks)")


def _is_number(value: Plain, low: int, high: int) -> bool:
    return isinstance(value, int) and type(value) is int and low <= value <= high


class Asking(NamedTuple):
    """The asker's side once both chains are known to be one so far."""

    next: int
    received: int = 0
    page: int = PAGE_BLOCKS
    is_over: bool = False


def ask(state: Asking) -> tuple[Asking, Question]:
    """Asks for the next page."""
    count = min(state.page, SESSION_BLOCKS_MAX - state.received)
    return state._replace(page=min(2 * state.page, PAGE_BLOCKS_MAX)), Question(state.next, count)


def on_page(state: Asking, answer: Answer) -> Asking:
    """After the blocks of a page were taken."""
    received, following = state.received + len(answer.wires), state.next + len(answer.wires)
    is_over = following > answer.tip or received >= SESSION_BLOCKS_MAX
    return state._replace(next=following, received=received, is_over=is_over)


class Search(NamedTuple):
    """For the first block that differs: that of number `same` is equal on both sides, that of `differs` is not."""

    same: int
    differs: int

    @property
    def middle(self) -> int:
        """The number to compare next."""
        return (self.same + self.differs) // 2

    @property
    def is_over(self) -> bool:
        """Whether `differs` is the first."""
        return self.differs - self.same <= 1

    def on_compared(self, is_equal: bool) -> "Search":
        """After the middle was compared."""
        return self._replace(same=self.middle) if is_equal else self._replace(differs=self.middle)
