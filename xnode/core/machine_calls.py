"""What a consumer's node asks of the provider's about a machine, and the answers: records of the call `machine`.

Every question names the lease and what is asked, and carries a proof by the lease's access key or its consumer's
account (access.py). A refusal keeps its kind, code and words on the way back, so that the consumer is told by its own
node what the provider would have told it.
"""

from enum import StrEnum
from typing import Final, NamedTuple

from xnode.core.codec import Malformed, Plain
from xnode.core.faults import (
    CallerFault,
    Ended,
    Fault,
    MachineFault,
    NotAllowed,
    NotFound,
    PeerFault,
    Unavailable,
    WrongState,
)
from xnode.core.machine import ConsolePart, MachineFigures, MachineStatus
from xnode.core.tunnel import clip_text
from xnode.core.values import HASH_BYTES, SIGNATURE_BYTES, U64_MAX, Hash, Signature

METHOD: Final = "machine"
CONSOLE_BYTES_MAX: Final = 32 * 1024  # of a console in one answer
NUMBERS_MAX: Final = 4
TEXT_BYTES_MAX: Final = 1024

Args = tuple[Plain, ...]


class Look(StrEnum):
    """What is asked besides the verbs of power.py."""

    CONSOLE = "console"
    METRICS = "metrics"
    WAIT = "wait"  # for the end of an act that takes longer than one call


class Question(NamedTuple):
    """`what` is a verb of power.py or a word of Look; `timestamp` in ns."""

    lease_hash: Hash
    what: str
    timestamp: int
    signature: Signature
    numbers: tuple[int, ...] = ()  # console: position, 1 where it counts from the end, patience in ms; wait: the act

    def wire(self) -> Args:
        """As it goes over the wire."""
        return tuple(self)


class Done(NamedTuple):
    """What became of an act: the machine's state after it, and how long it took."""

    status: MachineStatus
    duration_ms: int


def read_question(args: Args) -> Question:
    """Raises Malformed."""
    match args:
        case (bytes(lease_hash), str(what), int(timestamp), bytes(signature), tuple(numbers)):
            sizes = len(lease_hash) == HASH_BYTES and len(signature) == SIGNATURE_BYTES and len(numbers) <= NUMBERS_MAX
            plain = tuple(number for number in numbers if type(number) is int)
            if sizes and len(plain) == len(numbers) and type(timestamp) is int:
                return Question(Hash(lease_hash), what, timestamp, Signature(signature), plain)
    raise Malformed("a question about a machine is (lease hash, what, timestamp, signature, (numbers))")


_KINDS: Final[dict[str, type[Fault]]] = {
    "caller": CallerFault,
    "not_found": NotFound,
    "not_allowed": NotAllowed,
    "wrong_state": WrongState,
    "ended": Ended,
    "unavailable": Unavailable,
    "machine": MachineFault,
}


def refusal(fault: Fault) -> Args:
    """A fault as an answer."""
    kind = next((kind for kind, fault_class in _KINDS.items() if isinstance(fault, fault_class)), "other")
    return ("refused", kind, fault.code, clip_text(str(fault), TEXT_BYTES_MAX), fault.retryable)


def _raise_refusal(answer: Args) -> None:
    match answer:
        case ("refused", str(kind), str(code), str(text), bool(retryable)) if _is_code(code):
            message = clip_text(text, TEXT_BYTES_MAX) or "the provider refused without a reason"
            raise _KINDS.get(kind, PeerFault)(code, message, retryable=retryable)


def _is_code(code: str) -> bool:
    return 0 < len(code) <= 64 and code.isascii() and code.replace("_", "").isalnum()


def _malformed() -> PeerFault:
    return PeerFault("malformed", "the provider's answer makes no sense")


def done_answer(done: Done | None) -> Args:
    """None: it is not done yet."""
    return ("under_way",) if done is None else ("done", str(done.status), done.duration_ms)


def read_done(answer: Args) -> Done | None:
    """Raises the provider's own refusal, or PeerFault."""
    _raise_refusal(answer)
    match answer:
        case ("under_way",):
            return None
        case ("done", str(status), int(duration_ms)) if status in set(MachineStatus):
            return Done(MachineStatus(status), int(duration_ms))
    raise _malformed()


def console_answer(part: ConsolePart) -> Args:
    """What does not fit is left for the next question."""
    data = part.data[:CONSOLE_BYTES_MAX]
    return ("console", data, part.position - len(part.data) + len(data))


def read_console(answer: Args) -> ConsolePart:
    """Raises the provider's own refusal, or PeerFault."""
    _raise_refusal(answer)
    match answer:
        case ("console", bytes(data), int(position)) if len(data) <= CONSOLE_BYTES_MAX:
            return ConsolePart(data, int(position))
    raise _malformed()


def figures_answer(figures: MachineFigures) -> Args:
    """All of them."""
    return ("figures", tuple(figures))


def read_figures(answer: Args) -> MachineFigures:
    """Raises the provider's own refusal, or PeerFault."""
    _raise_refusal(answer)
    match answer:
        case ("figures", tuple(items)) if len(items) == len(MachineFigures._fields):
            needed, optional = items[:-3], items[-3:]
            if all(_is_figure(item) for item in needed) and all(item is None or _is_figure(item) for item in optional):
                return MachineFigures(*items)  # type: ignore[arg-type]
    raise _malformed()


def _is_figure(item: Plain) -> bool:
    return type(item) is int and 0 <= item <= U64_MAX
