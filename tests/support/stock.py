"""Runs every probe on the library as it ships, in a process of its own, for the layer patches what it touches.

    python -m tests.support.stock

prints one JSON object: the probe's name, and whether the library is well in that respect.
"""

import atexit
import functools
import json
import logging
import subprocess
import sys
from pathlib import Path

import trio

from tests.support import probes_gossip, probes_peers, probes_streams
from tests.support.libp2p_kit import Probe, StockKit

ROOT = Path(__file__).resolve().parents[2]
PROBE_SECONDS = 45.0
RUN_SECONDS = 180.0
AT_ONCE = 6

ALL: dict[str, Probe] = {**probes_peers.PROBES, **probes_streams.PROBES, **probes_gossip.PROBES}


@functools.cache
def start_stock() -> subprocess.Popen[str]:
    """Starts the process, if that was not done."""
    command = [sys.executable, "-m", "tests.support.stock"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.communicate()


@functools.cache
def stock_verdicts() -> dict[str, bool]:
    """What the probes say of the stock library; the first call waits for the process."""
    output, errors = start_stock().communicate(timeout=RUN_SECONDS)
    assert start_stock().returncode == 0, errors[-4000:]
    verdicts: dict[str, bool] = json.loads(output)
    return verdicts


async def _run(name: str, verdicts: dict[str, bool]) -> None:
    verdicts[name] = False
    with trio.move_on_after(PROBE_SECONDS):
        try:
            verdicts[name] = await ALL[name](StockKit())
        except Exception as error:  # noqa: BLE001 -- a sick library raises anything, groups too
            sys.stderr.write(f"{name}: {error!r}\n")


async def _run_in_turn(name: str, verdicts: dict[str, bool], turns: trio.CapacityLimiter) -> None:
    await _run(name, verdicts)
    turns.release_on_behalf_of(name)


async def main() -> None:
    """Several at once, for most of them wait; but those that stop the loop one by one, afterwards."""
    verdicts: dict[str, bool] = {}
    turns = trio.CapacityLimiter(AT_ONCE)
    async with trio.open_nursery() as nursery:
        for name in ALL:
            if name not in probes_peers.ALONE:
                await turns.acquire_on_behalf_of(name)
                nursery.start_soon(_run_in_turn, name, verdicts, turns)
    for name in probes_peers.ALONE:
        await _run(name, verdicts)
    sys.stdout.write(json.dumps(verdicts))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    trio.run(main)
