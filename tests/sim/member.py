"""One node of a run: what outlives its crashes (disk, machines, clock, books), and its present life."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

import trio

from tests.sim.books import Books
from tests.sim.clocks import NodeClock
from tests.sim.fake_leveldb import Batch, Disk, PowerCut, Strike
from tests.sim.invariants import Invariants
from tests.sim.journal import Journal
from tests.sim.storm import Storm
from tests.support.fake_driver import Disk as MachineDisk
from tests.support.fake_driver import FakeDriver
from tests.support.ledger import address_of
from tests.support.memory_network import MemoryNetwork, open_memory_network
from tests.support.role_node import make_roles, peer_id_of
from xnode.core.codec import encode
from xnode.core.faults import OperatorFault
from xnode.core.genesis import Genesis
from xnode.core.lease import Resources
from xnode.core.machine import Machine, MachineSpec
from xnode.core.market import GuestImage
from xnode.core.orphan import OrphanProof, Proof
from xnode.core.values import Hash
from xnode.net.tunnel import TunnelLimits
from xnode.roles.offering import Terms
from xnode.roles.running import Hosting, Roles, Settings
from xnode.roles.topics import Topics
from xnode.store.store import Store
from xnode.vm.driver import Tell, nobody

DISK_FAULTS = frozenset({"store_write_failed"})
RESTART_SECONDS = 2.0  # after an end that nobody planned

IMAGES: Final = (GuestImage("debian-12", 0, 1),)


class Role(NamedTuple):
    """What a member is; `evils` names what it does against the rules, an empty set is an honest member.

    Who joins later than at second 0 begins with nothing.
    """

    name: str
    is_timekeeper: bool = False
    capacity: Resources | None = None
    multiplier_milli: int = 1000
    evils: frozenset[str] = frozenset()
    joins_at: float = 0.0


class Surroundings(NamedTuple):
    """What all members of a run share."""

    genesis: Genesis
    storm: Storm
    journal: Journal
    invariants: Invariants
    names: tuple[str, ...]


class WatchedDriver(FakeDriver):
    """Tells the invariants what is done to machines."""

    def __init__(self, member: "Member") -> None:
        super().__init__(member.machines, member.clock)
        self._member = member

    async def create(self, spec: MachineSpec) -> Machine:
        self._member.on_machine("made", spec.lease_hash)
        if self._member.is_honest and spec.lease_hash not in self._member.machines.machines:
            self._member.around.invariants.on_machine_made(self._member, spec.lease_hash)
        return await super().create(spec)

    async def start(self, lease_hash: Hash, tell: Tell = nobody) -> Machine:
        if self._member.is_honest:
            self._member.around.invariants.on_machine_started(self._member, lease_hash)
        return await super().start(lease_hash, tell)

    async def destroy(self, lease_hash: Hash, proof: Proof) -> None:
        if lease_hash in self._member.machines.machines:
            reason = "orphan" if isinstance(proof, OrphanProof) else proof.reason
            self._member.on_machine(f"destroyed, {reason}", lease_hash)
            if self._member.is_honest:
                self._member.around.invariants.on_machine_destroyed(self._member, lease_hash, proof)
        await super().destroy(lease_hash, proof)


class Member:
    """`live` runs it, life after life; `kill` ends one life. `on_life` is called with each new life's roles."""

    def __init__(self, role: Role, disk: Disk, clock: NodeClock, around: Surroundings) -> None:
        self.role = role
        self.name = role.name
        self.address = address_of(role.name)
        self.peer_id = peer_id_of(role.name)
        self.is_honest = not role.evils
        self.disk = disk
        self.clock = clock
        self.around = around
        self.machines = MachineDisk()
        self.books = Books(around.genesis, disk)
        self.down_seconds = RESTART_SECONDS
        self.lives = 0
        self.drained_at: int | None = None  # true ns since which its operator lets it take no new leases
        self.roles: Roles | None = None
        self.network: MemoryNetwork | None = None
        self.on_life: Callable[[Member, trio.Nursery], None] = lambda _member, _nursery: None
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        disk.on_batch = self._on_batch
        disk.on_trap = self._on_trap

    @property
    def is_up(self) -> bool:
        """Whether it runs now."""
        return self.roles is not None

    async def live(self) -> None:
        """Runs until cancelled; an end of a life is followed by the next after `down_seconds`."""
        if self.role.joins_at:
            await trio.sleep(self.role.joins_at)
            self.around.journal.note("joins late", self.name)
        while True:
            await self._live_once()
            self.around.journal.note("down", self.name, f"for {self.down_seconds:.1f} s")
            await trio.sleep(self.down_seconds)
            self.down_seconds = RESTART_SECONDS

    def kill(self, down_seconds: float) -> None:
        """The power goes, now."""
        if self.is_up:
            self.down_seconds = down_seconds
            self._vanish()
            self.disk.cut()
            self._scope.cancel()

    def start_soon(self, act: Callable[..., Awaitable[object]], *args: object) -> None:
        """Does something in this life, for as long as it lasts; nothing where it is down."""
        if self._nursery is not None:
            self._nursery.start_soon(self._do_if_up, act, args)

    async def _do_if_up(self, act: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        """The power may be cut between an order and its first step."""
        if self.is_up:
            await act(*args)

    def on_machine(self, what: str, lease_hash: Hash) -> None:
        """Something was done to a machine here."""
        self.around.journal.note(f"machine {what}", self.name, lease_hash.hex()[:12])

    async def _live_once(self) -> None:
        self._scope = trio.CancelScope()
        try:
            with self._scope, Store.open(Path(self.name), self.around.genesis, engine=self.disk.open) as store:
                await self._run(store)
        except* PowerCut:
            pass
        except* OperatorFault as group:
            if any(fault.code not in DISK_FAULTS for fault in leaves(group)):
                self._fail(group)
            self.around.journal.note("ended by its disk", self.name)
        except* Exception as group:  # noqa: BLE001  whatever escapes is what the run is looking for
            self._fail(group)
        finally:
            self._vanish()
            self.disk.cut()

    async def _run(self, store: Store) -> None:
        storm, topics = self.around.storm, Topics()
        async with open_memory_network(storm, self.peer_id, topics.table(), self.clock) as network:
            self.roles = self._make_roles(store, topics, network)
            self.network = network
            self.lives += 1
            self.around.journal.note("up", self.name, f"life {self.lives}")
            for other in self.around.names:
                if other != self.name:
                    network.add_peer(f"/memory/x/p2p/{peer_id_of(other)}")
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.on_life(self, nursery)
                await self.roles.run()

    def _make_roles(self, store: Store, topics: Topics, network: MemoryNetwork) -> Roles:
        hosting = None
        if self.role.capacity is not None:
            terms = Terms(self.role.multiplier_milli, "fake", "tcg", lambda: IMAGES, IMAGES[0].name)
            hosting = Hosting(WatchedDriver(self), self.role.capacity, terms)
        settings = Settings(self.role.is_timekeeper, hosting, TunnelLimits())
        roles = make_roles(self.name, store, topics, network, self.clock, settings)
        record = roles.log.record

        def spy(lease_hash: Hash, step: str, detail: str = "", duration_ms: int | None = None) -> None:
            self.around.journal.note(f"step {step}", self.name, f"{lease_hash.hex()[:12]} {detail}")
            record(lease_hash, step, detail, duration_ms)

        roles.log.record = spy  # type: ignore[method-assign]
        return roles

    def _vanish(self) -> None:
        if self.roles is not None:
            for what, count in self.roles.catch_up.counters.items():
                self.around.journal.counts[f"catch-up: {what}"] += count
        if self.network is not None:
            self._check_network(self.network)
            self.network.vanish()
        self.roles = self.network = self._nursery = None

    def _check_network(self, network: MemoryNetwork) -> None:
        for error in network.crashes:
            if not (isinstance(error, OperatorFault) and error.code in DISK_FAULTS):
                self._fail(error)

    def look(self, honest: frozenset[str]) -> None:
        """Now and then: what its network has against it."""
        if self.network is not None and self.is_honest:
            self._check_network(self.network)
            banned = [peer for peer in sorted(honest) if peer in self.network._bans]
            if banned:
                reasons = {key: count for key, count in self.network.counters.items() if "reject" in key}
                self.around.invariants.fail("honest_peers_keep_each_other", f"{self.name} bans {banned}: {reasons}")

    def _fail(self, error: BaseException) -> None:
        if self.is_honest:
            self.around.invariants.fail("no_node_fails", f"{self.name}: {[repr(item) for item in leaves(error)]}")
            if self.around.invariants.broken is not None and self.around.invariants.broken.__cause__ is None:
                self.around.invariants.broken.__cause__ = error

    def _on_trap(self, strike: Strike) -> None:
        self.around.journal.note(strike, self.name, f"at write {self.disk.writes}")
        if strike in (Strike.BEFORE, Strike.AFTER):
            self._vanish()

    def _on_batch(self, batch: Batch) -> None:
        journal = self.around.journal
        journal.steps += 1
        journal.feed("write", self.name, encode(tuple((key, after) for key, (_, after) in batch.items())))
        news = self.books.follow(batch)
        for stored in news.undone:
            journal.note("taken back", self.name, f"{stored.block.type.name} {stored.block_hash.hex()[:12]}")
        for stored in news.confirmed:
            journal.note("confirmed", self.name, f"{stored.block.type.name} {stored.block_hash.hex()[:12]}")
        if self.is_honest:
            self.around.invariants.on_batch(self, news)


def leaves(error: BaseException) -> list[BaseException]:
    """All that a group holds."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for item in error.exceptions for leaf in leaves(item)]
    return [error]
