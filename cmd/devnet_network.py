"""A network of separate node processes on loopback: made, started, watched and ended. The tests use it as well."""

import shutil
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from xnode.config import DataDir
from xnode.core.faults import OperatorFault
from xnode_cmd.client import ApiClient
from xnode_cmd.devnet_plan import Member, Plan, load_plan, write_network
from xnode_cmd.devnet_process import STOP_TIMEOUT_S, NodeProcess, end_machines
from xnode_cmd.node_access import NodeAccess

READY_TIMEOUT_S: Final = 120.0
CLAIM_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.25
API_TIMEOUT_S: Final = 5.0

Report = Callable[[str], None]


class NodeStatus(NamedTuple):
    """One row of `xnode devnet status`; -1 and "" where the node doesn't answer."""

    name: str
    pid: int | None
    api: str
    account: str
    blocks: int
    peers: int
    ready: bool
    waiting_for: str


def no_report(_: str) -> None:
    """For callers that don't want to be told."""


class Devnet:
    """The network in one directory. Nothing is held open: any process may make one of these and act."""

    def __init__(self, root: Path, plan: Plan, members: Iterable[Member]) -> None:
        self.root = root
        self.plan = plan
        self.members = tuple(members)
        self._processes = {member.name: NodeProcess(DataDir(root / member.name)) for member in self.members}

    @classmethod
    def create(cls, root: Path, plan: Plan) -> "Devnet":
        """Makes the files of a new network; nothing runs yet. Raises OperatorFault."""
        root = root.expanduser().absolute()
        return cls(root, plan, write_network(root, plan))

    @classmethod
    def load(cls, root: Path) -> "Devnet":
        """The network that `root` holds; raises OperatorFault(no_devnet)."""
        root = root.expanduser().absolute()
        return cls(root, *load_plan(root))

    def member(self, name: str) -> Member:
        """The node of this name; raises OperatorFault that lists the names."""
        for member in self.members:
            if member.name == name:
                return member
        names = ", ".join(self._processes)
        raise OperatorFault("no_such_node", f"there is no node {name}; the nodes are {names}")

    def of_kind(self, kind: str) -> tuple[Member, ...]:
        """The nodes that are all tk, provider or consumer."""
        return tuple(member for member in self.members if member.kind == kind)

    def process(self, name: str) -> NodeProcess:
        """The node's process."""
        return self._processes[self.member(name).name]

    def access(self, name: str) -> NodeAccess:
        """The node as the commands of the command line see it."""
        member = self.member(name)
        return NodeAccess(self.root / name, member.api_url)

    def client(self, name: str) -> ApiClient:
        """The node's API."""
        return self.access(name).client()

    def up(self, report: Report = no_report) -> None:
        """Starts what doesn't run, waits until all are ready, and makes every timekeeper a representative."""
        self.start(self._processes)
        self.wait_ready(self._processes, report=report)
        for member in self.of_kind("tk"):
            self.make_representative(member, report)

    def start(self, names: Iterable[str]) -> None:
        """Starts these nodes; returns at once."""
        for name in names:
            self.process(name).start()

    def restart(self, name: str, report: Report = no_report) -> None:
        """Ends one node with SIGTERM, starts it, waits until it is ready."""
        self.stop([name])
        self.start([name])
        self.wait_ready([name], report=report)

    def wait_ready(self, names: Iterable[str], timeout_s: float = READY_TIMEOUT_S, report: Report = no_report) -> None:
        """Waits until each is ready; raises OperatorFault with the log's end of one that died or is late."""
        left = list(names)
        deadline = time.monotonic() + timeout_s
        while left:
            for name in list(left):
                status = self.status(name)
                if status.pid is None:
                    raise self._failure(name, "died")
                if status.ready:
                    left.remove(name)
                    report(f"{name} is ready at {status.api}")
                elif time.monotonic() > deadline:
                    raise self._failure(name, f"was not ready within {timeout_s:.0f} s ({status.waiting_for})")
            time.sleep(POLL_S if left else 0)

    def _failure(self, name: str, what: str) -> OperatorFault:
        process = self.process(name)
        tail = process.log_tail()
        return OperatorFault("node_failed", f"{name} {what}; the end of {process.data_dir.log}:\n{tail}")

    def make_representative(self, member: Member, report: Report = no_report) -> None:
        """Lets a timekeeper vote with its own money, by a claim; waits until every running node has seen it."""
        from xnode_cmd.wallet import claim_from_faucet

        access = self.access(member.name)
        with access.client() as client:
            if client.get(f"/accounts/{member.account}")["representative"] == member.account:
                return
            block = claim_from_faucet(access, client, "self")
        self.wait_for_block(block)
        report(f"{member.name} is a representative")

    def wait_for_block(self, block_hash: str, timeout_s: float = CLAIM_TIMEOUT_S) -> None:
        """Waits until every running node holds the block; raises OperatorFault(late_block)."""
        deadline = time.monotonic() + timeout_s
        for name in self._running():
            with self.client(name) as client:
                while client.find(f"/blocks/{block_hash}") is None:
                    if time.monotonic() > deadline:
                        raise OperatorFault("late_block", f"block {block_hash} did not reach {name}; see its node.log")
                    time.sleep(POLL_S)

    def _running(self) -> list[str]:
        return [name for name, process in self._processes.items() if process.pid() is not None]

    def status(self, name: str) -> NodeStatus:
        """How one node is."""
        member, pid = self.member(name), self.process(name).pid()
        empty = NodeStatus(name, pid, member.api_url, member.account, -1, -1, False, "no answer")
        if pid is None:
            return empty._replace(waiting_for="not running")
        try:
            with self.client(name) as client:
                code, ready = client.status_of("/ready")
                node: dict[str, Any] = client.get("/node")
        except click.ClickException:
            return empty
        failing = [check for check, found in ready["checks"].items() if not found["ok"]]
        return empty._replace(
            blocks=node["block_count"], peers=node["peer_count"], ready=code == 200, waiting_for=", ".join(failing)
        )

    def statuses(self) -> list[NodeStatus]:
        """How all nodes are."""
        return [self.status(member.name) for member in self.members]

    def kill(self, name: str) -> None:
        """SIGKILL for one node, as a crash would do."""
        self.process(name).kill()

    def stop(self, names: Sequence[str] | None = None) -> None:
        """SIGTERM for these nodes or all, SIGKILL for what is left 10 s later."""
        processes = [self.process(name) for name in (self._processes if names is None else names)]
        for process in processes:
            process.send(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in processes:
            if not process.wait(max(0.0, deadline - time.monotonic())):
                process.kill()

    def purge(self) -> None:
        """Ends everything, the machines too, and removes every file of the network."""
        self.stop()
        for member in self.of_kind("provider"):
            end_machines(DataDir(self.root / member.name))
        shutil.rmtree(self.root)
