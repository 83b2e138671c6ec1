"""`xnode` with a sampler of its CPU time: `python -m tests.support.sampled_node FILE run ...`, its counts in FILE.

Each few ms of the process' CPU time, on whatever thread, the stack of the main thread says what kind of work that was.
Work in C counts for the frame that called it. Where the main thread only waits, another thread has worked: the HTTP
server, LevelDB's compaction.
"""

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

from xnode_cmd.main import main

EVERY_SECONDS: Final = 0.004
WRITTEN_EVERY: Final = 10  # samples
OTHER: Final = "other"
WAITING: Final = "other threads"
# The innermost frame whose file has one of these in its path decides.
KINDS: Final = (
    ("/xnode/store/", "store"),
    ("/xnode/core/blocks.py", "decode"),
    ("/xnode/core/rules.py", "judge"),
    ("/xnode/core/ledger.py", "judge"),
    ("/xnode/core/authority.py", "judge"),
    ("/xnode/core/held.py", "judge"),
    ("/xnode/roles/bulk_intake.py", "judge"),
    ("/xnode/roles/replica.py", "judge"),
    ("/xnode/roles/ledger_sync.py", "store"),
    ("/xnode/checking/", "wire"),
    ("/xnode/net/", "wire"),
    ("/libp2p/", "wire"),
    ("/noise/", "wire"),
    ("/trio/_highlevel", "wire"),
    ("/trio/_socket", "wire"),
    ("/trio/_core/_io_epoll.py", WAITING),
    ("/xnode/", OTHER),
)


def kind_of(frame: FrameType | None) -> str:
    """What the main thread was at."""
    while frame is not None:
        path = frame.f_code.co_filename
        for part, kind in KINDS:
            if part in path and not path.endswith(("/codec.py", "/hashing.py", "/values.py")):
                return kind
        frame = frame.f_back
    return OTHER


def sample(path: Path) -> None:
    """Begins to count."""
    counts: Counter[str] = Counter()

    def take(_number: int, frame: FrameType | None) -> None:
        counts[kind_of(frame)] += 1
        if counts.total() % WRITTEN_EVERY == 0:
            path.write_text(json.dumps(counts))

    signal.signal(signal.SIGPROF, take)
    signal.setitimer(signal.ITIMER_PROF, EVERY_SECONDS, EVERY_SECONDS)


if __name__ == "__main__":
    sample(Path(sys.argv.pop(1)))
    sys.exit(main())
