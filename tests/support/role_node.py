"""Whole nodes on virtual time: the real store, roles, topics, rpc, handshake, sync and tunnels over a memory network.

A `Village` starts nodes, crashes them (their disks stay) and starts them again. Time is trio's clock, moved to NOW.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, cast

import trio

from tests.support.fake_driver import Disk, FakeDriver
from tests.support.ledger import NOW, SMALL, TIMEKEEPER_NAMES, address_of, key_of, make_genesis
from tests.support.memory_network import Internet, MemoryNetwork, Weather, open_memory_network
from xnode.core.genesis import Allocation, Genesis
from xnode.core.lease import LeaseRecord, LeaseState, Resources
from xnode.core.ledger import AccountRecord, supply_balances
from xnode.core.market import GuestImage, LeaseForm
from xnode.core.orphan import OrphanProof
from xnode.core.pool import SpareProof, Want
from xnode.core.values import NS, Address, Asset, Hash
from xnode.net.handshake import Handshake, Hello
from xnode.net.network import Network
from xnode.net.rpc import Rpc
from xnode.net.streams import PeerId
from xnode.net.tunnel import TunnelLimits
from xnode.roles.admission import Terms
from xnode.roles.running import Hosting, Outside, Roles, Settings
from xnode.roles.topics import Topics
from xnode.store.store import Store
from xnode.vm.driver import Driver

RICH = 1_000
PEOPLE = ("alice", "anna", "bob", "bert", "carol")  # who has RICH XUSD at the start
REPRESENTATIVE = "representative"  # to whom everybody's vote is delegated
ROOMY = Resources(vcpus=8, memory_mb=16_384, disk_gb=200)  # room for two SMALL ones
FORM = LeaseForm(
    resources=SMALL,
    duration=60,
    access_pub_key=key_of("access").public_key,
    timeout=60.0,
    provider=None,
    policy="cheapest",
    max_cost=0,
    image="",
    idempotency_key="",
)


def open_gate() -> trio.Event:
    """For an author that is always in step."""
    event = trio.Event()
    event.set()
    return event


class AnyWork:
    """The tests' network takes any nonce; it may be slow to find one."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    async def solve(self, root: bytes, difficulty: int) -> int:
        await trio.sleep(self._seconds)
        return 0


class Setup(NamedTuple):
    """What kind of node; times in seconds, `peers` the names it dials (None: all others).

    `slow_start` lies between the opening of its network and the start of its roles, `work` is what each block's takes.
    """

    name: str
    timekeeper: bool = False
    capacity: Resources | None = None
    multiplier_milli: int = 1000
    peers: tuple[str, ...] | None = None
    clock_ahead: float = 0.0
    slow_start: float = 0.0
    work: float = 0.0
    orphan_grace: int = 3600
    pool: tuple[Want, ...] = ()
    images: tuple[GuestImage, ...] = (GuestImage("debian-12", 256, 1), GuestImage("roomy", 2048, 50))


class RoleNode:
    """A running node."""

    def __init__(self, setup: Setup, roles: Roles, store: Store, network: MemoryNetwork) -> None:
        self.setup = setup
        self.roles = roles
        self.store = store
        self.network = network
        self.address = roles.author.address
        self.scope = trio.CancelScope()
        self.gone = trio.Event()

    def lease(self, lease_hash: Hash) -> LeaseRecord | None:
        with self.store.snapshot() as view:
            return view.lease(lease_hash)

    def leases(self, state: LeaseState | None = None) -> list[LeaseRecord]:
        with self.store.snapshot() as view:
            return list(view.leases(state=state, limit=100))

    def account(self, address: Address) -> AccountRecord | None:
        with self.store.snapshot() as view:
            return view.account(address)

    def digest(self) -> bytes:
        with self.store.snapshot() as view:
            return view.frontiers_digest()

    def check_supply(self) -> None:
        with self.store.snapshot() as view:
            assert supply_balances(view.tally().totals)

    def steps(self, lease_hash: Hash) -> list[str]:
        return [step.step for step in self.roles.log.steps(lease_hash)]

    def end_at(self, step: str) -> None:
        """Lets the node die as soon as it logs this step of any lease: nothing that waits is finished."""
        record = self.roles.log.record

        def spy(lease_hash: Hash, seen: str, detail: str = "", duration_ms: int | None = None) -> None:
            record(lease_hash, seen, detail, duration_ms)
            if seen == step:
                self.scope.cancel()

        self.roles.log.record = spy  # type: ignore[method-assign]


class Village:
    """A network of role nodes. Every node knows how to dial every other, whether it is up or not."""

    def __init__(self, nursery: trio.Nursery, root: Path, weather: Weather = Weather(), **genesis: Any) -> None:  # noqa: B008
        self.nursery = nursery
        self.root = root
        self.internet = Internet(weather=weather)
        allocations = tuple(Allocation(address_of(name), Asset.XUSD, RICH) for name in PEOPLE)
        self.genesis: Genesis = make_genesis(**({"allocations": allocations} | genesis))
        self.nodes: dict[str, RoleNode] = {}
        self.disks: dict[str, Disk] = {}
        self.drivers: dict[str, Driver] = {}  # real ones, by node; a village with one runs on real time
        self.clock_steps: dict[str, float] = {}  # by node: what its clock was set ahead since it runs, seconds
        self.names = (*PEOPLE, *TIMEKEEPER_NAMES, REPRESENTATIVE)

    async def start(self, name: str, **setup: Any) -> RoleNode:
        """Starts a node; one that ran before has its data again."""
        node: RoleNode = await self.nursery.start(self._run, Setup(name, **setup))
        return node

    async def start_market(self, *consumers: str, **providers: Any) -> None:
        """Starts all timekeepers, the consumers, and the providers (name=capacity), and waits until all know all."""
        await self.start(REPRESENTATIVE)
        for name in TIMEKEEPER_NAMES:
            await self.start(name, timekeeper=True)
        for name, capacity in providers.items():
            await self.start(name, capacity=capacity)
        for name in consumers:
            await self.start(name)
        await self.ready()

    async def ready(self) -> None:
        """Waits until every node that is up has heard of every other and of every ad."""
        hosts = {node.address for node in self.nodes.values() if node.roles.offering is not None}
        everybody = {node.address for node in self.nodes.values()}
        await until(
            lambda: all(
                hosts <= {ad.provider for ad in node.roles.board.ads()}
                and everybody <= {record.account for record in node.roles.contacts.directory.records(virtual_clock()())}
                for node in self.nodes.values()
            ),
            30,
            "the market",
        )

    async def crash(self, name: str) -> None:
        """Ends a node in the middle of whatever it does."""
        node = self.nodes.pop(name)
        node.scope.cancel()
        with trio.CancelScope(shield=True):
            await node.gone.wait()

    async def again(self, name: str, down_seconds: float = 1.0) -> RoleNode:
        """Crashes a node and starts it again as it was."""
        setup = self.nodes[name].setup
        await self.crash(name)
        await trio.sleep(down_seconds)
        return await self.start(**setup._asdict())

    def disk(self, name: str) -> Disk:
        """A provider's machines, whether it is up or not."""
        return self.disks.setdefault(name, Disk())

    async def agreed(self, seconds: float = 60.0) -> None:
        """Waits until all nodes have the same ledger, and checks each one's supply and handlers."""
        await until(lambda: len({node.digest() for node in self.nodes.values()}) == 1, seconds, "one ledger")
        for node in self.nodes.values():
            node.check_supply()
            assert node.network.crashes == []
            assert node.network.counters["gossip_reject"] == 0
            for disk in self.disks.values():
                check_destroyed(node, disk)

    async def _run(self, setup: Setup, task_status: trio.TaskStatus[RoleNode]) -> None:
        gone = trio.Event()
        try:
            with Store.open(self.root / setup.name, self.genesis) as store:
                await self._run_on(store, setup, gone, task_status)
        finally:
            gone.set()

    async def _run_on(
        self, store: Store, setup: Setup, gone: trio.Event, task_status: trio.TaskStatus[RoleNode]
    ) -> None:
        topics = Topics()

        def clock() -> int:
            return virtual_clock(setup.clock_ahead + self.clock_steps.get(setup.name, 0.0))()

        with trio.CancelScope() as scope:
            async with open_memory_network(self.internet, peer_id_of(setup.name), topics.table(), clock) as network:
                node = RoleNode(setup, self._roles(setup, store, topics, network, clock), store, network)
                node.scope, node.gone = scope, gone
                self.nodes[setup.name] = node
                for other in self.names if setup.peers is None else setup.peers:
                    if other != setup.name:
                        network.add_peer(f"/memory/x/p2p/{peer_id_of(other)}")
                task_status.started(node)
                await trio.sleep(setup.slow_start)
                await node.roles.run()

    def _roles(
        self, setup: Setup, store: Store, topics: Topics, network: MemoryNetwork, clock: Callable[[], int]
    ) -> Roles:
        hosting = None
        if setup.capacity is not None:
            terms = Terms(setup.multiplier_milli, "fake", "tcg", lambda: setup.images, setup.images[0].name)
            driver = self.drivers.get(setup.name) or FakeDriver(self.disk(setup.name), clock)
            hosting = Hosting(driver, setup.capacity, terms, setup.orphan_grace, setup.pool)
        settings = Settings(setup.timekeeper, hosting, TunnelLimits())
        return make_roles(setup.name, store, topics, network, clock, settings, setup.work)


def make_roles(
    name: str,
    store: Store,
    topics: Topics,
    network: MemoryNetwork,
    clock: Callable[[], int],
    settings: Settings,
    work: float = 0.0,
) -> Roles:
    """The real roles of somebody's node over a memory network; its randomness follows from name and virtual time."""
    real, genesis = cast(Network, network), store.genesis
    rpc = Rpc(network)
    handshake = Handshake(network, rpc, Hello(genesis.network_id, genesis.genesis_hash, "test"))
    random = Random(f"{name} {trio.current_time()}").randbytes
    outside = Outside(clock, virtual_monotonic, random, real, rpc, handshake, AnyWork(work))
    return Roles(key_of(name), genesis, store, topics, outside, settings)


def check_destroyed(node: RoleNode, disk: Disk) -> None:
    """Every machine that was destroyed had its proof, and this ledger agrees with it."""
    for lease_hash, proof in disk.destroyed.items():
        lease = node.lease(lease_hash)
        if isinstance(proof, OrphanProof | SpareProof):
            assert lease is None
            continue
        assert lease is not None
        if proof.reason == "expired":
            assert (lease.state, lease.accept_hash) == (LeaseState.ACCEPTED, proof.evidence)
        else:
            assert (lease.state, lease.end_hash) == (proof.reason, proof.evidence)


def virtual_monotonic() -> int:
    """Virtual ns since the test's start."""
    return int(trio.current_time() * NS)


def virtual_clock(ahead: float = 0.0) -> Callable[[], int]:
    """A wall clock that began at NOW."""
    return lambda: NOW + virtual_monotonic() + int(ahead * NS)


def peer_id_of(name: str) -> PeerId:
    """The peer id of somebody's node."""
    return PeerId(f"peer-{name}")


async def until(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Waits for something to become true; fails by name after so many virtual seconds."""
    with trio.move_on_after(seconds):
        while not holds():  # noqa: ASYNC110  what is waited for fires nothing
            await trio.sleep(0.1)
        return
    raise AssertionError(f"waited {seconds:.0f} virtual seconds in vain for {what}")
