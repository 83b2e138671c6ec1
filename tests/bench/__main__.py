"""`scripts/bench NAME`: one module of this folder a benchmark, each with a `main` of its own options."""

import importlib
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
NOT_BENCHMARKS: Final = frozenset({"__main__", "rounds"})


def names() -> list[str]:
    """The benchmarks there are, by file."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_BENCHMARKS)


def main(words: list[str]) -> int:
    """Runs the one that is named; 2 for an unknown name."""
    if not words or words[0] not in names():
        print(f"usage: scripts/bench NAME [OPTIONS]; NAME is one of: {', '.join(names())}", file=sys.stderr)
        return 2
    benchmark = importlib.import_module(f"tests.bench.{words[0]}")
    benchmark.main(words[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
