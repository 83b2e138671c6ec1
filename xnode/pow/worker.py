"""One searching process, started as `python -m xnode.pow.worker`.

Theory of operation: orders come in on standard input and answers go out on standard output, both of a fixed
size below PIPE_BUF, so that each is read whole. A new order replaces the one being searched; job 0 only stops
it. When standard input ends, the parent is gone, however it went (a pipe closes with SIGKILL too), and so is
the worker.
"""

import os
import select
import signal
from struct import Struct
from typing import Final, NamedTuple

from xnode.core.values import U64_MAX
from xnode.pow.kernel import CHUNK_TRIES, search

ROOT_BYTES: Final = 32
NICENESS: Final = 10  # the node's own loop goes first where both want a core
IDLE_JOB: Final = 0

_ORDER: Final = Struct(f"<QQQ{ROOT_BYTES}s")
_ANSWER: Final = Struct("<QQ")
ORDER_BYTES: Final = _ORDER.size
ANSWER_BYTES: Final = _ANSWER.size


class Order(NamedTuple):
    """What to search: job number, difficulty, first nonce and the 32-byte root."""

    job: int
    difficulty: int
    start: int
    root: bytes

    def encode(self) -> bytes:
        """ORDER_BYTES bytes."""
        return _ORDER.pack(*self)


class Answer(NamedTuple):
    """The nonce found for a job."""

    job: int
    nonce: int

    def encode(self) -> bytes:
        """ANSWER_BYTES bytes."""
        return _ANSWER.pack(*self)


STOP: Final = Order(IDLE_JOB, 0, 0, bytes(ROOT_BYTES))


def decode_order(data: bytes) -> Order:
    """The inverse of Order.encode."""
    return Order(*_ORDER.unpack(data))


def decode_answer(data: bytes | bytearray) -> Answer:
    """The inverse of Answer.encode."""
    return Answer(*_ANSWER.unpack(data))


def serve(orders_fd: int, answers_fd: int) -> None:
    """Searches until `orders_fd` ends."""
    order = STOP
    while True:
        busy = order.job != IDLE_JOB
        if select.select([orders_fd], [], [], 0 if busy else None)[0]:
            data = os.read(orders_fd, ORDER_BYTES)
            if len(data) < ORDER_BYTES:
                return
            order = decode_order(data)
        else:
            order = _step(order, answers_fd)


def _step(order: Order, answers_fd: int) -> Order:
    nonce = search(order.root, order.difficulty, order.start, CHUNK_TRIES)
    if nonce is None:
        return order._replace(start=(order.start + CHUNK_TRIES) & U64_MAX)
    os.write(answers_fd, Answer(order.job, nonce).encode())
    return STOP


def main() -> None:
    """The process: a terminal's interrupt is the parent's business, and a parent that is gone is no error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.nice(NICENESS)
    serve(0, 1)


if __name__ == "__main__":
    main()
