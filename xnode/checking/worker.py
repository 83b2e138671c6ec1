"""One checking process, started as `python -m xnode.checking.worker`: orders on its input, answers on its output.

When standard input ends, the parent is gone, however it went, and so is the worker. There is one for each core, so that
none is idle; the loop goes first where both want the same one.
"""

import os
import signal
import sys
from typing import BinaryIO, Final

from xnode.checking.checks import answer, unpack_length

NICENESS: Final = 5


def serve(orders: BinaryIO, answers: BinaryIO) -> None:
    """Answers until `orders` ends."""
    while len(head := orders.read(4)) == 4:
        length = unpack_length(head)
        order = orders.read(length)
        if len(order) < length:
            return
        answers.write(answer(order))
        answers.flush()


def main() -> None:
    """The process: a terminal's interrupt is the parent's business, and a parent that is gone is no error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.nice(NICENESS)
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
