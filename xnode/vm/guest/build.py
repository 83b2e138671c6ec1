"""The program behind scripts/build-guest: progress on standard error, the image's directory on standard output."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from xnode.core.faults import Fault
from xnode.vm.guest.build_cloud import build_cloud
from xnode.vm.guest.build_debian import build_debian
from xnode.vm.guest.build_tiny import build_tiny

_BUILDERS = {"tiny": build_tiny, "debian": build_debian, "cloud": build_cloud}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 with a sentence on what to do."""
    parser = argparse.ArgumentParser(prog="build-guest", description="Builds a guest image into the image store.")
    parser.add_argument("kind", nargs="?", choices=sorted(_BUILDERS), default="tiny")
    parser.add_argument("--store", type=Path, help="the image store (default: .cache/images of the checkout)")
    parser.add_argument("--default-store", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    started = time.monotonic()

    def report(step: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.1f} s  {step}\n")
        sys.stderr.flush()

    try:
        image = _BUILDERS[options.kind]((options.store or options.default_store).absolute(), report)
    except Fault as fault:
        sys.stderr.write(f"{fault.code}: {fault}\n")
        return 1
    sys.stdout.write(f"{image}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
