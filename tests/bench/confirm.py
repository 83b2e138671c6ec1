"""How long a block takes from its submission to its confirmation, on a network of five processes, and where it goes.

Each block is submitted at the consumer's node by HTTP, one after another. Every node says when it applied, voted for
and confirmed it (GET /blocks/{hash}/times; one clock, since all run here). A quorum's time of a stage is that of the
representative with whom 67 % of the weight have reached it. The network's own delay is what one gossip message takes
from one node to the farther of a quorum: measured on the blocks themselves; three such hops lie on the way.
"""

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from tests.support.devnet import running_devnet
from tests.support.sending import send_block
from xnode.core.values import NS
from xnode.core.weights import quorum_of
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.devnet_plan import Plan
from xnode_cmd.signing import submit

SUBMITTER: Final = "consumer1"
WAIT_S: Final = 30.0
POLL_S: Final = 0.02
HOPS: Final = 3  # the block, the votes, the final votes
GOAL_S: Final = 1.0
SYNC_TRIES: Final = 100
SHARES: Final = (
    "submit: HTTP, judge, store with its disk sync, at the submitter",
    "the block's hop to a quorum, judged and stored there",
    "votes wait to be bundled (50 ms), are signed and sent",
    "the votes' hop, until a quorum is sure",
    "final votes wait to be bundled, are on disk, sent",
    "the final votes' hop, the confirmation with its disk sync",
)
Times = dict[str, dict[str, int]]  # node -> stage -> ns


def main(words: list[str]) -> None:
    """Prints medians and 95th percentiles in ms."""
    parser = argparse.ArgumentParser(prog="scripts/bench confirm")
    parser.add_argument("--blocks", type=int, default=50)
    blocks = max(2, parser.parse_args(words).blocks)
    with running_devnet(Plan()) as network:
        weights = _weights(network)
        rows = [_confirm_one(network) for _ in range(blocks)]
        http = [_seconds_of_health(network) for _ in range(blocks)]
    _print(rows, weights, http)


def _weights(network: Devnet) -> dict[str, int]:
    names = {member.account: member.name for member in network.members}
    with network.client(SUBMITTER) as client:
        return {names[item["address"]]: item["weight"] for item in client.get("/representatives")}


def _confirm_one(network: Devnet) -> tuple[int, float, Times]:
    """When one was submitted (ns), how long its signing and work took before (s), and what all nodes say of it."""
    started = time.perf_counter()
    block = send_block(network, SUBMITTER)
    made = time.perf_counter() - started
    genesis = network.process(SUBMITTER).data_dir.load_genesis()
    with network.client(SUBMITTER) as client:
        client.get("/health")  # the connection is there before the clock starts
        submitted = time.time_ns()
        identity = submit(client, genesis, block)
    return submitted, made, {member.name: _times(network, member.name, identity) for member in network.members}


def _times(network: Devnet, name: str, identity: str) -> dict[str, int]:
    deadline = time.monotonic() + WAIT_S
    with network.client(name) as client:
        while time.monotonic() < deadline:
            found: dict[str, Any] | None = client.find(f"/blocks/{identity}/times")
            if found is not None and found["confirmed"]:
                return found
            time.sleep(POLL_S)
    raise SystemExit(f"{name} has not confirmed block {identity} within {WAIT_S:.0f} s")


def _seconds_of_health(network: Devnet) -> float:
    with network.client(SUBMITTER) as client:
        client.get("/health")
        started = time.perf_counter()
        client.get("/health")
        return time.perf_counter() - started


def _quorum_time(times: Times, weights: dict[str, int], stage: str) -> int:
    """When representatives of 67 % of all weight had reached a stage, or were past it: the others' votes may decide
    before one has given or sent its own."""
    reached, needed = 0, quorum_of(sum(weights.values()))
    for at, weight in sorted((times[name][stage] or times[name]["confirmed"], weights[name]) for name in weights):
        reached += weight
        if reached >= needed:
            return at
    raise SystemExit("the representatives have no quorum")


def _shares(submitted: int, times: Times, weights: dict[str, int]) -> list[float]:
    """Seconds of each of SHARES for one block; they add up to its confirmation at the submitter."""
    stages = ("applied", "vote_sent", "final_voted", "final_sent")
    quorum = [_quorum_time(times, weights, stage) for stage in stages]
    points = [submitted, times[SUBMITTER]["applied"], *quorum, times[SUBMITTER]["confirmed"]]
    return [(after - before) / NS for before, after in itertools.pairwise(points)]


def _sync_seconds() -> float:
    """What one append with fdatasync takes where the nodes keep their stores."""
    tries = []
    with tempfile.TemporaryDirectory(prefix="xn-") as folder, (Path(folder) / "log").open("wb", buffering=0) as log:
        for _ in range(SYNC_TRIES):
            started = time.perf_counter()
            log.write(bytes(300))
            os.fdatasync(log.fileno())
            tries.append(time.perf_counter() - started)
    return median(tries)


def _print(rows: list[tuple[int, float, Times]], weights: dict[str, int], http: list[float]) -> None:
    at_submitter = [(times[SUBMITTER]["confirmed"] - submitted) / NS for submitted, _, times in rows]
    at_others = [
        (seen["confirmed"] - submitted) / NS
        for submitted, _, times in rows
        for name, seen in times.items()
        if name != SUBMITTER
    ]
    hops = [(_quorum_time(times, weights, "applied") - times[SUBMITTER]["applied"]) / NS for _, _, times in rows]
    delay = HOPS * median(hops)
    print(f"{len(rows)} blocks, one after another, five processes; ms: median, 95th percentile")
    _line("from submission to confirmed at the submitter", at_submitter)
    _line("from submission to confirmed at the others", at_others)
    _line("before that, not counted: read, sign, work at the client", [made for _, made, _ in rows])
    print("where it goes, up to the submitter's confirmation:")
    for title, seconds in zip(
        SHARES, zip(*(_shares(at, seen, weights) for at, _, seen in rows), strict=True), strict=True
    ):
        _line("  " + title, seconds)
    print("the network's own delay in this run:")
    _line("  one gossip hop to a quorum, with judging and storing the block", hops)
    _line("  one HTTP round trip to the submitter", http)
    print(f"  one append with fdatasync: {1000 * _sync_seconds():.2f}")
    beyond = median(at_submitter) - delay
    print(f"median beyond {HOPS} hops: {1000 * beyond:.0f} ms; the goal is below {1000 * GOAL_S:.0f} ms")


def _line(title: str, seconds: Iterable[float]) -> None:
    values = sorted(seconds)
    print(f"{title:<66} {1000 * median(values):7.1f} {1000 * quantiles(values, n=20, method='inclusive')[-1]:7.1f}")
