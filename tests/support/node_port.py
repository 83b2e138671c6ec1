"""A small node under the API: a real store, people of the test ledger, and everything else as plain values.

`running_api` serves it over real HTTP from a thread with its own trio loop, so that tests may use any client.
"""

import queue
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import outcome
import trio

from tests.support.ledger import NOW, Chain, address_of, attest, key_of, public_key_of
from tests.support.store import GENESIS, land, open_store
from xnode.api.app import create_app
from xnode.api.bridge import open_bridge
from xnode.api.port import (
    AccessProof,
    Check,
    ConsoleWatch,
    HostingView,
    MachineView,
    NodePort,
    PeerView,
    ProviderView,
    TunnelEnd,
)
from xnode.api.server import Bound, serve_http
from xnode.api.settings import ApiSettings
from xnode.core.access import UsedProofs
from xnode.core.attestations import Attestation
from xnode.core.blocks import Block
from xnode.core.elections import ElectionView
from xnode.core.faults import CallerFault, Ended, NotFound, WrongState
from xnode.core.lease import LeaseState, Resources
from xnode.core.ledger import Context, Effects, Outcome
from xnode.core.machine import ConsolePart, ExecResult, MachineFigures, MachineStatus
from xnode.core.machine_calls import Done
from xnode.core.market import LeaseForm, Quote
from xnode.core.power import Verb, check_allowed
from xnode.core.rules import judge
from xnode.core.state_blocks import StateBlock
from xnode.core.state_chain import StateEffects, StateOutcome, judge_state
from xnode.core.tunnel import access_message, check_access
from xnode.core.values import ZERO_HASH, Address, Hash
from xnode.core.votes import Position
from xnode.roles.block_times import Stage
from xnode.roles.fates import Fate
from xnode.roles.lease_log import Step
from xnode.store.snapshot import Snapshot


class MemoryNode(NodePort):
    """Alice's node, which is a provider as well; `faults` by method name are raised instead of acting."""

    genesis = GENESIS
    address = address_of("alice")

    def __init__(self, path: Path) -> None:
        self.store = open_store(path)
        self.alice, self.bob = Chain(GENESIS, "alice"), Chain(GENESIS, "bob")
        self.faults: dict[str, Exception] = {}
        self.waits: dict[str, trio.Event] = {}
        self.heard: list[tuple[str, Any]] = []
        self.steps: dict[Hash, tuple[Step, ...]] = {}
        self.idempotent: dict[str, Hash] = {}
        self.used = UsedProofs()
        self.nursery: trio.Nursery | None = None
        self.cancelled: list[str] = []
        self.entered = trio.Event()  # some act has begun
        self.abandoned = trio.Event()
        self.is_ready = True
        self.fates: dict[Hash, Fate] = {}
        self.drained = False
        self.console: bytes | None = b"it boots\n"
        self.open_elections = tuple(sorted(election_of(name, count) for name, count in (("alice", 1), ("bob", 2))))
        self._stories()

    def _stories(self) -> None:
        """Leases by alice from bob, one in each state."""
        self.leases = {state: self.open_lease(number) for number, state in enumerate(LeaseState)}
        for state in (LeaseState.ACCEPTED, LeaseState.SETTLED, LeaseState.UNFULFILLED):
            self.play(lambda view, state=state: self.bob.accept(view, self.leases[state]))
        self.play(lambda view: self.bob.settle(view, self.leases[LeaseState.SETTLED]))
        self.play(lambda view: self.alice.cancel(view, self.leases[LeaseState.CANCELLED]))
        self.play(lambda view: self.alice.force_settle(view, self.leases[LeaseState.UNFULFILLED]))
        self.play(lambda view: self.bob.send(view, address_of("carol"), 5))

    def play(self, make: Callable[[Snapshot], Block]) -> Hash:
        """Lands a block made for the ledger as it is."""
        with self.store.snapshot() as view:
            block = make(view)
        return land(self.store, block)[0]

    def open_lease(self, number: int, **changes: Any) -> Hash:
        """Another lease of alice's, `created`."""
        return self.play(lambda view: self.alice.lease(view, self.bob.address, timestamp=NOW + number, **changes))

    async def _enter(self, name: str, *told: Any) -> None:
        self.heard.append((name, told))
        self.entered.set()
        if name in self.faults:
            raise self.faults[name]
        if name in self.waits:
            try:
                await self.waits[name].wait()
            except trio.Cancelled:
                self.cancelled.append(name)
                raise

    def snapshot(self) -> Snapshot:
        return self.store.snapshot()

    def block_times(self, block_hash: Hash) -> dict[Stage, int] | None:
        with self.store.snapshot() as view:
            return {Stage.APPLIED: NOW} if view.has_block(block_hash) else None

    def fate(self, block_hash: Hash) -> Fate | None:
        return self.fates.get(block_hash)

    def providers(self) -> tuple[ProviderView, ...]:
        view = ProviderView(
            address=self.bob.address,
            capacity=Resources(32, 65536, 1000),
            available=Resources(20, 41984, 700),
            active_leases=3,
            multiplier_milli=1000,
            certificate_hash=ZERO_HASH,
            driver="qemu",
            accelerator="kvm",
            internet="open",
            last_seen=NOW,
            images=("debian", "tiny"),
        )
        others = (view._replace(address=address_of(name)) for name in ("carol", "dave"))
        return tuple(sorted((view, *others)))

    def machines(self) -> tuple[MachineView, ...]:
        machine = MachineView(
            lease_hash=self.leases[LeaseState.ACCEPTED],
            status=MachineStatus.RUNNING,
            resources=Resources(1, 1024, 5),
            created_at=NOW,
            state_since=NOW + 1,
            ssh_port=2222,
            host_key=public_key_of("host-key"),
            driver="qemu",
            image="tiny",
            accelerator="tcg",
            reason="",
        )
        stopped = machine._replace(lease_hash=self.leases[LeaseState.SETTLED], status=MachineStatus.STOPPED)
        return tuple(sorted((machine, stopped)))

    def peers(self) -> tuple[PeerView, ...]:
        return (PeerView("12D3KooWpeer", "/ip4/127.0.0.1/tcp/7447", "xnode/0.1.0", NOW),)

    def checks(self) -> tuple[Check, ...]:
        return (Check("store", True, "open"), Check("peers", self.is_ready, "1 of 1"))

    def elections(self) -> tuple[ElectionView, ...]:
        return self.open_elections

    def voters(self) -> frozenset[Address]:
        return frozenset({address_of("representative")})

    def info(self) -> dict[str, object]:
        return {"id": "12D3KooWself", "address": self.address.hex(), "network_id": GENESIS.network_id}

    def counters(self) -> dict[str, int]:
        return {"blocks_dropped": 7, "Odd Name!": 1}

    def lease_events(self, lease_hash: Hash) -> tuple[Step, ...]:
        return self.steps.get(lease_hash, ())

    async def quote(self, form: LeaseForm) -> Quote:
        await self._enter("quote", form)
        return Quote(7, 1, ((self.bob.address, 7),))

    async def request_lease(self, form: LeaseForm) -> Hash:
        await self._enter("request_lease", form)
        if form.idempotency_key in self.idempotent:
            return self.idempotent[form.idempotency_key]
        lease_hash = self.open_lease(1000 + len(self.heard), resources=form.resources, duration=form.duration)
        self.play(lambda view: self.bob.accept(view, lease_hash))
        if form.idempotency_key:
            self.idempotent[form.idempotency_key] = lease_hash
        return lease_hash

    async def cancel_lease(self, lease_hash: Hash) -> None:
        await self._enter("cancel_lease", lease_hash)
        with self.store.snapshot() as view:
            lease = view.lease(lease_hash)
        if lease is None:
            raise NotFound("lease_unknown", "no such lease")
        if lease.state is not LeaseState.CREATED:
            raise WrongState("lease_accepted", f"the lease is {lease.state}")
        self.play(lambda view: self.alice.cancel(view, lease_hash))

    async def attest(self, lease_hash: Hash) -> Attestation:
        await self._enter("attest", lease_hash)
        return attest(lease_hash, NOW)[0]

    async def execute(self, lease_hash: Hash, command: str, timeout: float) -> ExecResult:
        await self._enter("execute", lease_hash, command, timeout)
        machine = next((item for item in self.machines() if item.lease_hash == lease_hash), None)
        if machine is None:
            raise NotFound("vm_unknown", "this node has no such machine")
        if machine.status is not MachineStatus.RUNNING:
            raise WrongState("vm_not_running", f"the machine is {machine.status}")
        return ExecResult(3, command.encode(), b"\xff", 12, False)

    def _machine(self, lease_hash: Hash) -> MachineView:
        machine = next((item for item in self.machines() if item.lease_hash == lease_hash), None)
        if machine is None:
            raise NotFound("vm_unknown", "this node has no such machine")
        return machine

    async def steer(self, lease_hash: Hash, verb: Verb, proof: AccessProof | None) -> Done:
        await self._enter("steer", lease_hash, verb, proof)
        check_allowed(verb, self._machine(lease_hash).status, is_off=True)
        return Done(MachineStatus.PAUSED if verb is Verb.PAUSE else MachineStatus.RUNNING, 12)

    async def watch_console(self, lease_hash: Hash, proof: AccessProof | None) -> ConsoleWatch:
        await self._enter("watch_console", lease_hash, proof)
        self._machine(lease_hash)
        return _MemoryConsole(self)

    async def figures(self, lease_hash: Hash, proof: AccessProof | None) -> MachineFigures:
        await self._enter("figures", lease_hash, proof)
        check_allowed(Verb.PAUSE, self._machine(lease_hash).status, is_off=True)
        return MachineFigures(NOW, 1, 2, 3, 4, 5, None, 7, 8)

    async def refresh_lease(self, lease_hash: Hash) -> None:
        await self._enter("refresh_lease", lease_hash)

    async def hosting(self) -> HostingView:
        closed = "draining" if self.drained else ""
        return HostingView(
            closed, NOW * self.drained, Resources(8, 16, 100), Resources(4, 8, 50), 2, 0, "open", "cgroup v2"
        )

    async def drain(self, is_on: bool) -> HostingView:
        await self._enter("drain", is_on)
        self.drained = is_on
        return await self.hosting()

    async def open_tunnel(self, lease_hash: Hash, proof: AccessProof | None) -> TunnelEnd:
        await self._enter("open_tunnel", lease_hash, proof)
        with self.store.snapshot() as view:
            lease = view.lease(lease_hash)
        if lease is None:
            raise NotFound("lease_unknown", "no such lease")
        if lease.is_final:
            raise Ended("lease_ended", "the lease has ended")
        if proof is not None:
            keys = (lease.access_pub_key,)
            check_access(GENESIS.network_key, lease_hash, keys, proof.signature, proof.timestamp, NOW, self.used)
        return _EchoEnd(self)

    async def submit_block(self, block: Block) -> tuple[Outcome, str]:
        await self._enter("submit_block", block)
        with self.store.transaction() as transaction:
            effects = judge(transaction, block, Context(GENESIS, None))
            if not isinstance(effects, Effects):
                return effects.outcome, effects.detail
            transaction.stage(effects)
            transaction.commit()
        return Outcome.PROGRESS, ""

    async def submit_state_block(self, block: StateBlock) -> tuple[StateOutcome, str]:
        await self._enter("submit_state_block", block)
        with self.store.transaction() as transaction:
            effects = judge_state(transaction, GENESIS, block, None)
            if not isinstance(effects, StateEffects):
                return effects.outcome, effects.detail
            transaction.stage_state(effects)
            transaction.commit()
        return StateOutcome.PROGRESS, ""

    async def add_peer(self, address: str) -> None:
        await self._enter("add_peer", address)
        if not address.startswith("/"):
            raise CallerFault("bad_address", "a multiaddress begins with a slash")


def election_of(name: str, count: int) -> ElectionView:
    """An election at the first position of somebody's chain, between so many blocks."""
    candidates = tuple((Hash(bytes([number]) * 32), 50 - number, 40 - number) for number in range(count))
    return ElectionView(Position(address_of(name), ZERO_HASH), NOW, 101, candidates)


class _MemoryConsole(ConsoleWatch):
    """`node.console`, in pieces of 100,000 bytes; ends as if destroyed once it is None."""

    def __init__(self, node: MemoryNode) -> None:
        self._node = node

    async def read(self, position: int, patience: float) -> ConsolePart:
        deadline = trio.current_time() + patience
        while True:
            text = self._node.console
            if text is None:
                raise NotFound("vm_unknown", "the machine is gone")
            start = max(0, len(text) + position) if position < 0 else position if position <= len(text) else 0
            data = text[start : start + 100_000]
            if data or trio.current_time() >= deadline:
                return ConsolePart(data, start + len(data))
            await trio.sleep(0.01)


class _EchoEnd(TunnelEnd):
    """Echoes until the client half-closes, then says so with its last words."""

    def __init__(self, node: MemoryNode) -> None:
        self._node = node

    async def join(self, sock: socket.socket, early: bytes, eof: bool, leave: Callable[[], None]) -> None:
        assert self._node.nursery is not None
        self._node.nursery.start_soon(self._echo, sock, early, eof, leave)

    async def abandon(self) -> None:
        self._node.abandoned.set()

    async def _echo(self, sock: socket.socket, early: bytes, eof: bool, leave: Callable[[], None]) -> None:
        async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
            try:
                await stream.send_all(early)
                if not eof:
                    async for chunk in stream:
                        await stream.send_all(chunk)
                await stream.send_all(b"bye")
            except trio.BrokenResourceError:
                return
            finally:
                leave()


class Running(NamedTuple):
    """A served node; `http` is a client of it."""

    node: MemoryNode
    http: httpx.Client
    port: int


@asynccontextmanager
async def serving(node: MemoryNode, settings: ApiSettings) -> AsyncIterator[Bound]:
    """The node's API over HTTP, from the running trio loop."""
    async with trio.open_nursery() as nursery:
        node.nursery = nursery
        async with open_bridge() as bridge, serve_http(create_app(node, bridge, settings), settings) as bound:
            yield bound
        nursery.cancel_scope.cancel()


@contextmanager
def running_api(path: Path, settings: ApiSettings | None = None) -> Iterator[Running]:
    """The node's API over HTTP, from a thread with a trio loop of its own."""
    node = MemoryNode(path)
    told: queue.SimpleQueue[outcome.Outcome[Any]] = queue.SimpleQueue()
    stop = trio.Event()
    tokens: list[trio.lowlevel.TrioToken] = []

    async def main() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        async with serving(node, settings or ApiSettings(port=0, rate=1e6, burst=1e6)) as bound:
            told.put(outcome.Value(bound))
            await stop.wait()

    thread = threading.Thread(target=lambda: told.put(outcome.capture(trio.run, main)))
    thread.start()
    bound = told.get(timeout=10).unwrap()
    try:
        with httpx.Client(base_url=bound.url, trust_env=False, timeout=10) as client:
            yield Running(node, client, bound.port)
    finally:
        tokens[0].run_sync_soon(stop.set)
        thread.join(10)
        node.store.close()
        told.get(timeout=1).unwrap()


def access_headers(
    node: MemoryNode, lease_hash: Hash, timestamp: int = NOW, name: str = "alice-access"
) -> dict[str, str]:
    """A tunnel request's own proof."""
    signature = key_of(name).sign(access_message(node.genesis.network_key, lease_hash, timestamp))
    return {"X-Access-Signature": signature.hex(), "X-Access-Timestamp": str(timestamp)}
