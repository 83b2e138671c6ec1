"""`scripts/bench leases [IN_TURN] [AT_ONCE]`: real machines leased one after another (20) and at once (6), in a network
of whole nodes in this process; then nothing may be left of them: process, file, port, cgroup, reserved capacity, note.

It prints how long each kind took, as a ratio to the first lease, and fails where something is left.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil
import trio

from tests.support.qemu import IMAGE_STORE, new_consumer, open_driver, settings
from tests.support.role_node import FORM, RoleNode, Village, until
from xnode.core.genesis import DEFAULT_TIMING
from xnode.core.lease import LeaseState, Resources
from xnode.core.machine import machine_name
from xnode.core.market import GuestImage
from xnode.vm import cgroups
from xnode.vm.qemu import QemuDriver

LEAST: Final = Resources(1, 128, 1)
DURATION_S: Final = 3
LEASE_S: Final = 120.0
FILES_SPARE: Final = 3
GONE_S: Final = 60.0


class Held(NamedTuple):
    """What leases take up."""

    children: int
    directories: tuple[str, ...]
    listening: int
    groups: tuple[str, ...]
    available: Resources
    notes: int


def held(bob: RoleNode, root: Path, names: set[str]) -> Held:
    """All of it, now; `names` are those of our machines, since other nodes of this host have cgroups too."""
    running = [item for item in psutil.process_iter(["cmdline"]) if str(root) in _folder(item)]
    offering = bob.roles.offering
    assert offering is not None
    with bob.store.snapshot() as view:
        notes = sum(1 for space in ("strikes", "orphan", "withdrawn") for _ in view.notes(space, 1000))
    ports = sum(len(item.net_connections("tcp")) for item in running)
    groups = tuple(sorted(cgroups.find().names() & names))
    directories = tuple(sorted(path.name for path in root.iterdir()))
    return Held(len(running), directories, ports, groups, offering.ad().available, notes)


def _folder(process: psutil.Process) -> str:
    try:
        return str(process.cwd())
    except psutil.Error:
        return ""


async def lease(village: Village, names: set[str], took: list[float]) -> None:
    """One, from the request to the settled end."""
    alice = village.nodes["alice"]
    form = FORM._replace(
        resources=LEAST, duration=DURATION_S, timeout=LEASE_S, access_pub_key=new_consumer().public_key
    )
    started = trio.current_time()
    lease_hash = await alice.roles.consumer.request(form)
    took.append(trio.current_time() - started)
    names.add(machine_name(lease_hash))

    def is_settled() -> bool:
        record = alice.lease(lease_hash)
        return record is not None and record.state is LeaseState.SETTLED

    await until(is_settled, LEASE_S, "the settlement")


async def run(root: Path, in_turn: int, at_once: int) -> None:
    machines = root / "machines"
    async with open_driver(settings(machines, IMAGE_STORE)) as driver, trio.open_nursery() as nursery:
        village = Village(nursery, root)
        village.genesis = village.genesis._replace(timing=DEFAULT_TIMING._replace(lease_duration_min=1))
        village.drivers["bob"] = driver
        await village.start(
            "bob", capacity=Resources(at_once, at_once * 128, at_once), images=(GuestImage("tiny", 128, 1),)
        )
        await village.start_market("alice")
        await measure(village, driver, machines, in_turn, at_once)
        nursery.cancel_scope.cancel()


async def measure(village: Village, driver: QemuDriver, machines: Path, in_turn: int, at_once: int) -> None:
    """Both kinds, and what is left after each."""
    bob, took = village.nodes["bob"], list[float]()
    names: set[str] = set()
    before, files = held(bob, machines, names), psutil.Process().num_fds()
    for number in range(in_turn):
        await lease(village, names, took)
        print(f"lease {number + 1}: running after {took[-1]:.1f} s", flush=True)
    await check(bob, machines, names, before)
    together: list[float] = []
    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(lease, village, names, together)
    await check(bob, machines, names, before)
    more = psutil.Process().num_fds() - files
    assert more <= FILES_SPARE, f"{more} files are left open"
    await until(lambda: driver.machines() == (), 10, "the end of the last machine")
    print(
        f"{in_turn} in turn: the slowest took {max(took) / took[0]:.2f} of the first, the last {took[-1] / took[0]:.2f}"
    )
    print(f"{at_once} at once: {min(together) / took[0]:.2f} to {max(together) / took[0]:.2f} of the first")
    print("nothing is left: " + ", ".join(f"{name} {value}" for name, value in before._asdict().items()))


async def check(bob: RoleNode, machines: Path, names: set[str], before: Held) -> None:
    """Waits until all is as it was; fails by what is not."""
    with trio.move_on_after(GONE_S):
        while held(bob, machines, names) != before:  # noqa: ASYNC110 - processes and files
            await trio.sleep(0.5)
    now = held(bob, machines, names)
    assert now == before, f"{before}, but {now}"


def main(words: list[str]) -> None:
    """See above."""
    parser = argparse.ArgumentParser(prog="scripts/bench leases")
    parser.add_argument("in_turn", nargs="?", type=int, default=20)
    parser.add_argument("at_once", nargs="?", type=int, default=6)
    asked: Any = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="xn-") as folder:
        trio.run(run, Path(folder), asked.in_turn, asked.at_once)
