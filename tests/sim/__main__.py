"""`scripts/sim --seeds N [--start S] [--seed X] [--jobs J]`: networks under faults (docs/simulator.md)."""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from typing import Final

from tests.sim.run import run_seed
from tests.sim.world import Result

PROGRESS_EVERY: Final = 2.0  # seconds
FAILURES_MAX: Final = 5  # reports; after that many the run ends


def main(words: list[str]) -> int:
    """0 where every invariant held at every seed; 1 after a failure, which is printed with its seed."""
    parser = argparse.ArgumentParser(prog="scripts/sim")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds")
    parser.add_argument("--start", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one only, with all that it did")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; by default one for each core")
    options = parser.parse_args(words)
    if options.seed is not None:
        return _run_one(options.seed)
    return _run_many(range(options.start, options.start + options.seeds), options.jobs)


def _run_one(seed: int) -> int:
    result = run_seed(seed)
    print(result.report())
    print(summary(Counter(result.counts)))
    return 1 if result.broken else 0


def _run_many(seeds: range, jobs: int) -> int:
    started, printed = time.monotonic(), 0.0
    counts: Counter[str] = Counter()
    failures: list[Result] = []
    done = 0
    with ProcessPoolExecutor(jobs) as pool:
        for done, result in enumerate(pool.map(run_seed, seeds, chunksize=4), start=1):
            counts.update(result.counts)
            if result.broken:
                failures.append(result)
                print(result.report(), flush=True)
            if len(failures) >= FAILURES_MAX:
                pool.shutdown(cancel_futures=True)
                break
            if time.monotonic() > printed + PROGRESS_EVERY or done == len(seeds):
                printed = time.monotonic()
                print(_progress(result.seed, done, len(seeds), printed - started), file=sys.stderr, flush=True)
    print(summary(counts))
    print(f"{done} seeds from {seeds.start}, {len(failures)} broke an invariant")
    for failure in failures:
        print(f"  seed {failure.seed}: {failure.broken}")
    return 1 if failures else 0


def _progress(seed: int, done: int, wanted: int, seconds: float) -> str:
    left = timedelta(seconds=round(seconds / done * (wanted - done)))
    return f"seed {seed}: {done} of {wanted}, {done / seconds:.2f} a second, {left} to go"


def summary(counts: Counter[str]) -> str:
    """How often each kind of thing happened."""
    return "\n".join(f"{count:>9}  {kind}" for kind, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
