"""A fresh node fetches a whole ledger from another one over a real socket, against raw verification of its signatures.

Two node processes on loopback. The yardstick, one thread of libsodium over the same blocks, runs in slices between
bootstraps: while one runs it would take the cores that it is measured on.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.rounds import ratio_of
from tests.support.big_ledger import Shape, big_genesis
from tests.support.node_process import NodeProcess, ending, fill_store, wait_for
from xnode.core.blocks import block_hash, decode_block
from xnode.core.genesis import Genesis
from xnode.core.keys import verify

SLICE_BLOCKS: Final = 5_000
BOOTSTRAP_SECONDS_MAX: Final = 600.0
CONFIRM_SECONDS_MAX: Final = 300.0
LOOK_EVERY: Final = 0.25  # seconds: each look costs the node some milliseconds
DIFFICULTY: Final = 2**64 // 4 * 3  # four tries a block


class Yardstick:
    """Raw verification of the ledger's blocks."""

    def __init__(self, genesis: Genesis, wires: list[bytes]) -> None:
        blocks = [decode_block(wire) for wire in wires[:SLICE_BLOCKS]]
        self._items = [(block.account, block_hash(genesis.network_key, block), block.signature) for block in blocks]

    def rates(self) -> tuple[float, float]:
        """Verifications a second, by the wall clock and by CPU time."""
        wall, cpu = time.perf_counter(), time.thread_time()
        assert all(verify(*item) for item in self._items)
        return len(self._items) / (time.perf_counter() - wall), len(self._items) / (time.thread_time() - cpu)


class Run(NamedTuple):
    """One bootstrap: seconds, and CPU seconds of the new node's loop, its checking processes, and the serving node."""

    seconds: float
    loop: float
    checking: float
    serving: float
    confirmed_after: float


def main(words: list[str]) -> None:
    """Prints the rates, their ratio and where the time went."""
    parser = argparse.ArgumentParser(prog="scripts/bench bootstrap", description=__doc__)
    parser.add_argument("--blocks", type=int, default=100_000)
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(words)
    genesis, shape = big_genesis(DIFFICULTY), Shape(options.blocks, options.accounts)
    with tempfile.TemporaryDirectory(prefix="xn-") as folder:
        server = NodeProcess(Path(folder) / "server", genesis, "first")
        wires = fill_store(server.data_dir.store, genesis, shape)
        yardstick = Yardstick(genesis, wires)
        with ending(server):
            server.start()
            measure(Path(folder), genesis, server, wires, yardstick, options.rounds)


def measure(
    folder: Path, genesis: Genesis, server: NodeProcess, wires: list[bytes], yardstick: Yardstick, rounds: int
) -> None:
    """The rounds, and what comes out of them."""
    ratios, by_cpu = [], []
    before = yardstick.rates()
    for number in range(rounds):
        run = bootstrap(folder / f"new{number}", genesis, server, len(wires))
        after = yardstick.rates()
        wall, cpu = (before[0] + after[0]) / 2, (before[1] + after[1]) / 2
        before = after
        rate = len(wires) / run.seconds
        spent = (run.loop + run.checking + run.serving) / len(wires)
        ratios.append(rate / wall)
        by_cpu.append(1 / spent / cpu)
        print(f"{rate:,.0f} blocks/s in {run.seconds:.1f} s; raw verification {wall:,.0f}/s (by CPU time {cpu:,.0f}/s)")
        print(f"  ratio {rate / wall:.2f}; CPU time a block as verifications: {_shares(run, len(wires), cpu)}")
        print(f"  all confirmed {run.confirmed_after:.1f} s after the last block")
    if rounds > 1:
        print(f"bootstrap rate / raw verification: {ratio_of(ratios)}; all CPU time of both nodes: {ratio_of(by_cpu)}")


def _shares(run: Run, blocks: int, rate: float) -> str:
    parts = {"new node's loop": run.loop, "its checking processes": run.checking, "serving node": run.serving}
    return ", ".join(f"{name} {spent / blocks * rate:.2f}" for name, spent in parts.items())


def bootstrap(root: Path, genesis: Genesis, server: NodeProcess, blocks: int) -> Run:
    """One new node until it has and has confirmed every block."""
    node = NodeProcess(root, genesis)
    with ending(node):
        node.start()
        served = sum(server.cpu_seconds())
        started, spent = time.perf_counter(), node.cpu_seconds()
        node.add_peer(server.address)
        wait_for(lambda: node.get("/node")["block_count"] >= blocks, BOOTSTRAP_SECONDS_MAX, LOOK_EVERY)
        seconds, now = time.perf_counter() - started, node.cpu_seconds()
        serving = sum(server.cpu_seconds()) - served
        wait_for(lambda: _is_confirmed(node), CONFIRM_SECONDS_MAX, LOOK_EVERY)
        confirmed = time.perf_counter() - started - seconds
    return Run(seconds, now[0] - spent[0], now[1] - spent[1], serving, confirmed)


def _is_confirmed(node: NodeProcess) -> bool:
    return bool(node.get("/node")["sync"]["unconfirmed_chains"] == 0)
