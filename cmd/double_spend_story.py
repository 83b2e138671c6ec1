"""The story of the double spend: two lease blocks at one position, one to each provider, and what every node says."""

import json
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

from xnode.core import price
from xnode.core.blocks import Block, Body, Claim, Lease, block_hash, block_to_json
from xnode.core.keys import SEED_BYTES, SigningKey
from xnode.core.lease import Resources
from xnode.core.values import ZERO_HASH, Address, Asset
from xnode_cmd.client import ApiRefusal
from xnode_cmd.demo_login import DemoFailure, expect
from xnode_cmd.demo_story import wait_for
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.devnet_process import running_machines
from xnode_cmd.output import short
from xnode_cmd.signing import read_position, sign_block, submit
from xnode_cmd.timeline import Timeline

SIZE: Final = Resources(vcpus=1, memory_mb=256, disk_gb=1)
DURATION_S: Final = 3600
CONFIRM_WAIT_S: Final = 30.0
DECIDE_WAIT_S: Final = 60.0
MACHINE_WAIT_S: Final = 120.0
WATCH_S: Final = 0.1
LATER_S: Final = 5.0  # after the decision, in which the loser's provider is watched on


class Rival(NamedTuple):
    """One of the two leases, and the nodes that are shown it first."""

    label: str
    provider: str
    block: Block
    block_hash: str
    shown_to: tuple[str, ...]


class DoubleSpendStory:
    """A consumer without a node, who signs what no honest node would, on a running network."""

    def __init__(self, network: Devnet, timeline: Timeline) -> None:
        self.network = network
        self.timeline = timeline
        self.key = SigningKey(secrets.token_bytes(SEED_BYTES))
        self.account = Address(self.key.public_key)
        self.genesis = network.process("tk1").data_dir.load_genesis()
        self.names = [member.name for member in network.members]
        self.rivals: tuple[Rival, ...] = ()
        self._started = 0.0
        self._told: dict[str, str] = {}

    def tell(self) -> None:
        """All of it; raises DemoFailure, click.ClickException or Fault at the first thing that does not hold."""
        step = self.timeline.step
        with step("a consumer claims XUSD from the faucet"):
            self.claim()
        with step("it signs two leases at one position of its chain and shows each to other nodes, at once"):
            self.spend_twice()
        with step("the representatives vote; no machine starts for a lease that is not confirmed"):
            winner, loser = self.watch()
        with step("the winner's machine starts"):
            self.check_machine(winner)
        with step("the loser's never does"):
            self.check_no_machine(loser)
        with step("what the losing side is told"):
            self.check_told(winner, loser)
        with step("every node has one ledger, and the supply identity holds"):
            self.check_ledgers()

    def claim(self) -> None:
        """The faucet's amount, confirmed on every node."""
        claim = self._submit(Claim(), self.genesis.faucet.amount)
        for name in self.names:
            self._wait_for_status(name, claim, "confirmed", CONFIRM_WAIT_S)
        self.timeline.report(f"{self.genesis.faucet.amount} XUSD, confirmed on all {len(self.names)} nodes")

    def _submit(self, body: Body, delta: int) -> str:
        with self.network.client("tk1") as client:
            position = read_position(client, self.genesis, self.account)
            block = sign_block(self.genesis, self.key, position, Asset.XUSD, delta, body, None)
            return submit(client, self.genesis, block)

    def _wait_for_status(self, name: str, wanted: str, status: str, timeout_s: float) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            block: dict[str, Any] | None = client.find(f"/blocks/{wanted}")
            return block if block is not None and block["status"] == status else None

        with self.network.client(name) as client:
            return dict(wait_for(look, timeout_s, f"{name} does not show block {short(wanted)}... as {status}"))

    def spend_twice(self) -> None:
        """A to its provider and a voter, B to the other provider and two voters, all within a few milliseconds."""
        first = self._lease("A", "provider1", ("provider1", "tk1"))
        second = self._lease("B", "provider2", ("provider2", "tk2", "tk3"))
        expect(first.block.previous == second.block.previous, "the two leases do not stand at one position")
        self.rivals = (first, second)
        for rival in self.rivals:
            self.timeline.report(f"lease {rival.label} {short(rival.block_hash)}... is for {rival.provider}")
        shown = [(name, rival) for rival in self.rivals for name in rival.shown_to]
        self._started = time.monotonic()
        with ThreadPoolExecutor(len(shown)) as pool:
            for line in pool.map(self._show, shown):
                self.timeline.report(line)

    def _lease(self, label: str, provider: str, shown_to: tuple[str, ...]) -> Rival:
        cost = price.cost(SIZE, DURATION_S, self.genesis.rates, price.MULTIPLIER_DEFAULT)
        destination = Address(bytes.fromhex(self.network.member(provider).account))
        body = Lease(destination, cost, *SIZE, DURATION_S, self.key.public_key, ZERO_HASH, price.MULTIPLIER_DEFAULT)
        with self.network.client("tk1") as client:
            position = read_position(client, self.genesis, self.account)
        block = sign_block(self.genesis, self.key, position, Asset.XUSD, -cost, body, None)
        return Rival(label, provider, block, block_hash(self.genesis.network_key, block).hex(), shown_to)

    def _show(self, shown: tuple[str, Rival]) -> str:
        name, rival = shown
        try:
            with self.network.client(name) as client:
                outcome = client.post("/blocks", block_to_json(rival.block))["outcome"]
        except ApiRefusal as refusal:
            outcome = f"{refusal.code}: {refusal}"
        return f"{self._now()} {name} is shown lease {rival.label}: {outcome}"

    def _now(self) -> str:
        return f"{time.monotonic() - self._started:6.2f} s"

    def watch(self) -> tuple[Rival, Rival]:
        """Until every node has confirmed the same one, and those that saw the other have rejected it; no machine runs
        before that."""
        deadline = time.monotonic() + DECIDE_WAIT_S
        while True:
            seen = [tuple(self._status(name, rival) for rival in self.rivals) for name in self.names]
            for name, statuses in zip(self.names, seen, strict=True):
                self._tell_if_new(name, self._describe(name, statuses))
            if not any("confirmed" in statuses for statuses in seen):
                self._expect_no_machines()
            if all("confirmed" in statuses and "pending" not in statuses for statuses in seen):
                winners = {statuses.index("confirmed") for statuses in seen}
                expect(len(winners) == 1, f"the nodes have confirmed different leases: {seen}")
                winner = winners.pop()
                return self.rivals[winner], self.rivals[1 - winner]
            expect(time.monotonic() < deadline, f"undecided after {DECIDE_WAIT_S:.0f} s: {seen}")
            time.sleep(WATCH_S)

    def _status(self, name: str, rival: Rival) -> str:
        with self.network.client(name) as client:
            block = client.find(f"/blocks/{rival.block_hash}")
        return "unknown" if block is None else str(block["status"])

    def _describe(self, name: str, statuses: Sequence[str]) -> str:
        told = [f"{rival.label} {status}" for rival, status in zip(self.rivals, statuses, strict=True)]
        with self.network.client(name) as client:
            conflicts = client.get("/conflicts")
        for conflict in conflicts:
            if conflict["account"] == self.account.hex():
                votes = {item["hash"]: item for item in conflict["candidates"]}
                counted = [
                    _share(rival, votes.get(rival.block_hash), conflict["total_weight"]) for rival in self.rivals
                ]
                told.append("votes " + ", ".join(counted))
        return "; ".join(told)

    def _tell_if_new(self, name: str, text: str) -> None:
        if self._told.get(name) != text:
            self._told[name] = text
            self.timeline.report(f"{self._now()} {name}: {text}")

    def _machines(self, provider: str) -> int:
        return len(running_machines(self.network.process(provider).data_dir))

    def _expect_no_machines(self) -> None:
        for rival in self.rivals:
            expect(self._machines(rival.provider) == 0, f"{rival.provider} runs a machine for an unconfirmed lease")

    def check_machine(self, winner: Rival) -> None:
        """The winner's provider boots it and accepts the lease."""

        def look() -> str | None:
            with self.network.client(winner.provider) as client:
                lease = client.find(f"/leases/{winner.block_hash}")
            return str(lease["state"]) if lease is not None and lease["state"] == "accepted" else None

        wait_for(look, MACHINE_WAIT_S, f"{winner.provider} does not accept lease {winner.label}")
        expect(
            self._machines(winner.provider) == 1, f"{winner.provider} runs {self._machines(winner.provider)} machines"
        )
        self.timeline.report(f"{self._now()} {winner.provider} runs one machine and has accepted lease {winner.label}")

    def check_no_machine(self, loser: Rival) -> None:
        """Neither now nor earlier: no process, no directory, no step towards one in the provider's log."""
        time.sleep(LATER_S)
        machines = self.network.process(loser.provider).data_dir.machines
        found = sorted(path.name for path in machines.glob("*")) if machines.exists() else []
        with self.network.client(loser.provider) as client:
            shown = client.get("/vms")
        expect(self._machines(loser.provider) == 0, f"{loser.provider} runs a machine")
        expect(not any(loser.block_hash in name for name in found), f"{loser.provider} has made {found}")
        expect(shown == [], f"{loser.provider} shows {shown}")
        self.timeline.report(f"{loser.provider} has no machine, no files of one, and shows none")

    def check_told(self, winner: Rival, loser: Rival) -> None:
        """Who was shown it names the reason; the events of the lost lease say how it ended; again it is refused."""
        for name in loser.shown_to:
            block = self._wait_for_status(name, loser.block_hash, "rejected", CONFIRM_WAIT_S)
            expect(block["reason"].startswith("fork_lost") and winner.block_hash in block["reason"], str(block))
        self.timeline.report(f"GET /blocks/{short(loser.block_hash)}...: rejected, {block['reason']}")
        with self.network.client(loser.provider) as client:
            steps = _steps(client.lines(f"/leases/{loser.block_hash}/events"))
            try:
                client.get(f"/leases/{loser.block_hash}")
                raise DemoFailure(f"{loser.provider} still shows the lost lease")
            except ApiRefusal as refusal:
                self.timeline.report(f"GET /leases/{short(loser.block_hash)}...: {refusal.code}: {refusal}")
        expect("booting" not in [step for step, _ in steps], f"{loser.provider} has booted: {steps}")
        for step, detail in steps:
            self.timeline.report(f"{loser.provider}, its events: {step}: {detail}")
        again = self._show((loser.provider, loser))
        expect("fork" in again, again)
        self.timeline.report(again)

    def check_ledgers(self) -> None:
        """The same totals everywhere, and balanced."""
        seen = set()
        for name in self.names:
            with self.network.client(name) as client:
                supply = client.get("/supply")
            expect(supply["balanced"] is True, f"{name}: {supply}")
            seen.add(json.dumps(supply, sort_keys=True))
        expect(len(seen) == 1, f"the nodes differ: {seen}")
        self.timeline.report(f"the same on all {len(self.names)} nodes")


def _share(rival: Rival, candidate: dict[str, Any] | None, total: int) -> str:
    if candidate is None:
        return f"{rival.label} not here"
    votes, finals = (100 * int(candidate[key]) // max(1, total) for key in ("votes", "final_votes"))
    return f"{rival.label} {votes} % (final {finals} %)"


def _steps(lines: Any) -> list[tuple[str, str]]:
    """(step, detail) of a stream of events that has an end."""
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    return [(item.get("step", item.get("state")), item["detail"]) for item in data]
