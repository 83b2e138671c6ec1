"""A fresh node fetches a whole ledger from another one over a real socket, against raw verification of its signatures.

Two node processes on loopback. The yardstick, one thread of libsodium over the same blocks, runs in slices between
bootstraps: while one runs it would take the cores that it is measured on. One thread alone may be much faster than one
of several that keep all cores busy, as a bootstrap does, so both are measured. Before the bootstraps comes one whose
nodes are sampled: what kinds of work the CPU time goes to, and what kept the new node's loop.
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Final, NamedTuple

import psutil

from tests.bench.rounds import ratio_of
from tests.support.big_ledger import Shape, big_genesis
from tests.support.node_process import NodeProcess, ending, fill_store, wait_for
from xnode.core.blocks import block_hash, decode_block
from xnode.core.genesis import Genesis
from xnode.core.keys import verify

SLICE_BLOCKS: Final = 20_000
BOOTSTRAP_SECONDS_MAX: Final = 1_800.0
CONFIRM_SECONDS_MAX: Final = 900.0
LOOK_EVERY: Final = 0.25  # seconds
LOOKS_MAX: Final = 2.0  # seconds: a look costs the node some milliseconds, so it is far from the end that they are rare
LOOKS_MIN: Final = 0.02
DIFFICULTY: Final = 2**64 // 4 * 3  # four tries a block
KINDS: Final = ("verify", "decode", "judge", "store", "wire", "other", "other threads")


class Rates(NamedTuple):
    """Verifications a second of one thread: by the wall clock, by CPU time, and where every core has such a thread."""

    wall: float
    cpu: float
    among: float


class Yardstick:
    """Raw verification of the ledger's blocks."""

    def __init__(self, genesis: Genesis, wires: list[bytes]) -> None:
        blocks = [decode_block(wire) for wire in wires[:SLICE_BLOCKS]]
        self._items = [(block.account, block_hash(genesis.network_key, block), block.signature) for block in blocks]

    def rates(self) -> Rates:
        """Of one thread alone, then of each of one in every core."""
        wall, cpu = _verified(self._items)
        with ProcessPoolExecutor(CORES) as pool:
            among = mean(rate for rate, _ in pool.map(_verified, [self._items] * CORES))
        return Rates(wall, cpu, among)


def _verified(items: list[tuple[bytes, bytes, bytes]]) -> tuple[float, float]:
    """Verifications a second, by the wall clock and by CPU time."""
    wall, cpu = time.perf_counter(), time.thread_time()
    assert all(verify(*item) for item in items)
    return len(items) / (time.perf_counter() - wall), len(items) / (time.thread_time() - cpu)


class Run(NamedTuple):
    """One bootstrap: seconds, and CPU seconds of the new node's loop, its checking processes, the serving node,
    everybody else on this machine, and those that a virtual machine's host gave to others."""

    seconds: float
    loop: float
    checking: float
    serving: float
    others: float
    stolen: float
    confirmed_after: float
    kinds: Counter[str]  # samples of the new node, where it is sampled
    serving_kinds: Counter[str]
    held: list[tuple[str, float]]  # what kept the new node's loop meanwhile

    @property
    def given(self) -> float:
        """Seconds, without those in which the host let others run."""
        return self.seconds - self.stolen / CORES

    @property
    def spent(self) -> float:
        """All CPU seconds of both nodes."""
        return self.loop + self.checking + self.serving


class Bench:
    """One served ledger, and who fetches it."""

    def __init__(self, folder: Path, genesis: Genesis, wires: list[bytes]) -> None:
        self._folder = folder
        self._genesis = genesis
        self._yardstick = Yardstick(genesis, wires)
        self._before = self._yardstick.rates()
        self._blocks = len(wires)

    def sampled(self, server: NodeProcess) -> None:
        """One bootstrap that is looked into, and what it was made of."""
        node = NodeProcess(self._folder / "sampled", self._genesis, is_sampled=True)
        with ending(node):
            run = self.bootstrap(node, server)
            later = node.held_ms()[len(run.held) :]
        print(_table(run, self._blocks, self._rates().cpu))
        print("steps that kept the new node's loop for more than 10 ms of CPU time, the longest in brackets:")
        print(f"  while it fetched {_told(run.held)}; while it confirmed {_told(later)}")

    def round(self, number: int, server: NodeProcess) -> tuple[float, ...]:
        """One bootstrap against the yardstick: the ratio by the wall clock, the same without the time that the host
        gave to others, the ratio to a thread among busy cores, and as cores would give it that do nothing else and
        never wait."""
        node = NodeProcess(self._folder / f"new{number}", self._genesis)
        with ending(node):
            run = self.bootstrap(node, server)
        wall, cpu, among = self._rates()
        ratio, spent = self._blocks / run.seconds / wall, run.spent / self._blocks * cpu
        others, stolen = run.others / run.seconds, run.stolen / run.seconds
        rate, given = self._blocks / run.seconds, self._blocks / run.given / cpu
        print(f"{rate:,.0f} blocks/s in {run.seconds:.1f} s, others took {others:.2f} cores,", end=" ")
        print(f"this machine's host {stolen:.2f}; raw verification {wall:,.0f}/s (by CPU time {cpu:,.0f}/s,", end=" ")
        print(f"one of {CORES} at once {among:,.0f}/s): ratio {ratio:.2f},", end=" ")
        print(f"without what the host took {given:.2f}, to one of {CORES} {rate / among:.2f}")
        parts = {"new node's loop": run.loop, "its checking processes": run.checking, "serving node": run.serving}
        shares = ", ".join(f"{name} {seconds / self._blocks * cpu:.2f}" for name, seconds in parts.items())
        print(f"  CPU time a block as verifications: {shares}, all {spent:.2f};", end=" ")
        print(f"all confirmed {run.confirmed_after:.1f} s after the last block")
        return ratio, given, rate / among, CORES / spent

    def _rates(self) -> Rates:
        after = self._yardstick.rates()
        before, self._before = self._before, after
        return Rates(*map(mean, zip(before, after, strict=True)))

    def bootstrap(self, node: NodeProcess, server: NodeProcess) -> Run:
        """One new node until it has and has confirmed every block."""
        node.start()
        served, busy, stolen = sum(server.cpu_seconds()), _busy_seconds(), _stolen_seconds()
        kinds, serving_kinds, held = node.samples(), server.samples(), len(node.held_ms())
        started, spent = time.perf_counter(), node.cpu_seconds()
        node.add_peer(server.address)
        self._wait_for_blocks(node, started)
        seconds, now = time.perf_counter() - started, node.cpu_seconds()
        serving, busy = sum(server.cpu_seconds()) - served, _busy_seconds() - busy
        stolen = _stolen_seconds() - stolen
        loop, checking = now[0] - spent[0], now[1] - spent[1]
        met = (node.samples() - kinds, server.samples() - serving_kinds, node.held_ms()[held:])
        wait_for(lambda: _is_confirmed(node), CONFIRM_SECONDS_MAX, LOOK_EVERY)
        confirmed = time.perf_counter() - started - seconds
        return Run(seconds, loop, checking, serving, busy - loop - checking - serving, stolen, confirmed, *met)

    def _wait_for_blocks(self, node: NodeProcess, started: float) -> None:
        """Looks again after half of the time that the rest should take."""
        while (count := node.get("/node")["block_count"]) < self._blocks:
            taken = time.perf_counter() - started
            assert taken < BOOTSTRAP_SECONDS_MAX, f"{count} blocks after {taken:.0f} s"
            time.sleep(min(max((self._blocks - count) * taken / max(1, count) / 2, LOOKS_MIN), LOOKS_MAX))


CORES: Final = os.cpu_count() or 1


def main(words: list[str]) -> None:
    """Prints where the time goes, the rates and their ratio."""
    parser = argparse.ArgumentParser(prog="scripts/bench bootstrap", description=__doc__)
    parser.add_argument("--blocks", type=int, default=100_000)
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(words)
    genesis, shape = big_genesis(DIFFICULTY), Shape(options.blocks, options.accounts)
    with tempfile.TemporaryDirectory(prefix="xn-") as folder:
        server = NodeProcess(Path(folder) / "server", genesis, "first")
        wires = fill_store(server.data_dir.store, genesis, shape)
        bench = Bench(Path(folder), genesis, wires)
        server.is_sampled = True
        with ending(server):
            server.start()
            bench.sampled(server)
        server.is_sampled = False
        with ending(server):
            server.start()
            found = [bench.round(number, server) for number in range(options.rounds)]
    if len(found) > 1:
        ratio, given, among, ceiling = map(ratio_of, map(list, zip(*found, strict=True)))
        print(f"bootstrap rate / raw verification: {ratio}; without what the host took {given};", end=" ")
        print(f"to one thread of {CORES} at once {among};", end=" ")
        print(f"if {CORES} cores did nothing else and never waited: {ceiling} at most")


def _told(held: list[tuple[str, float]]) -> str:
    """How many steps each task has kept the loop for too long, and the longest in ms."""
    counts = Counter(name.rpartition(".")[2] for name, _ in held)
    longest = {name: max(took for task, took in held if task.endswith(name)) for name in counts}
    return ", ".join(f"{name} {count} ({longest[name]:.1f})" for name, count in counts.most_common()) or "none"


def _table(run: Run, blocks: int, rate: float) -> str:
    """CPU time by kind, in verifications a block, and as a share of all."""
    verifying = min(blocks / rate, run.checking)
    columns = {
        "new node": {kind: run.loop * run.kinds[kind] / max(1, run.kinds.total()) for kind in KINDS},
        "its checking": {"verify": verifying, "decode": run.checking - verifying},
        "serving node": {
            kind: run.serving * run.serving_kinds[kind] / max(1, run.serving_kinds.total()) for kind in KINDS
        },
    }
    lines = [f"{'CPU time, verifications a block':32}" + "".join(f"{name:>14}" for name in columns) + f"{'share':>8}"]
    for kind in KINDS:
        row = [column.get(kind, 0.0) for column in columns.values()]
        figures = "".join(f"{seconds / blocks * rate:14.2f}" for seconds in row)
        lines.append(f"  {kind:30}{figures}{sum(row) / run.spent:8.0%}")
    return "\n".join(lines)


def _busy_seconds() -> float:
    """CPU seconds that this machine has worked."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "steal", 0.0))


def _stolen_seconds() -> float:
    """CPU seconds that this machine wanted and its host gave to others."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def _is_confirmed(node: NodeProcess) -> bool:
    return bool(node.get("/node")["sync"]["unconfirmed_chains"] == 0)
