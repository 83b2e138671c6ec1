"""All roles of one node, wired to each other, and the tasks that keep them going."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import trio

from xnode.checking.checker import Checker
from xnode.core.charter import Charter
from xnode.core.directory import DirectoryRecord
from xnode.core.faults import NotAllowed, PeerFault
from xnode.core.genesis import Genesis
from xnode.core.keys import SigningKey
from xnode.core.lease import Resources
from xnode.core.ledger import Effects
from xnode.core.machine import Machine
from xnode.core.machine_calls import METHOD as MACHINE_METHOD
from xnode.core.orphan import ORPHAN_GRACE_DEFAULT
from xnode.core.pool import Want
from xnode.core.records import LIST_ITEMS_MAX
from xnode.core.state_chain import StateEffects
from xnode.core.values import Address, Hash
from xnode.net.handshake import Handshake
from xnode.net.network import Network
from xnode.net.rpc import Args, Rpc
from xnode.net.state_sync import StateFirst, StateSync
from xnode.net.streams import PeerId
from xnode.net.sync import Phase, Sync
from xnode.net.tunnel import TunnelLimits, Tunnels
from xnode.roles.acts import Acts
from xnode.roles.admission import Admission, Terms
from xnode.roles.attesting import Attesting
from xnode.roles.author import Author, Worker
from xnode.roles.bulk_intake import BulkIntake
from xnode.roles.capacity import Capacity
from xnode.roles.catch_up import CatchUp
from xnode.roles.consumer import WITHDRAW_METHOD, WITHDRAWN_ANSWER, Consumer
from xnode.roles.contacts import Contacts
from xnode.roles.drain import Drain
from xnode.roles.fates import lost_step
from xnode.roles.final_votes import settle_finals
from xnode.roles.governance import Governance
from xnode.roles.in_step import InStep
from xnode.roles.lease_log import LeaseLog, steps_wire
from xnode.roles.ledger_sync import LedgerSource
from xnode.roles.market_board import MarketBoard
from xnode.roles.offering import Offering
from xnode.roles.orphan_book import OrphanBook
from xnode.roles.power_book import PowerBook
from xnode.roles.progress import METHOD as PROGRESS_METHOD
from xnode.roles.progress import Progress
from xnode.roles.provider import Provider
from xnode.roles.quorum import Quorum, look
from xnode.roles.reclaiming import Reclaiming
from xnode.roles.replica import Replica
from xnode.roles.spares import Spares
from xnode.roles.steering import Steering
from xnode.roles.strike_book import StrikeBook
from xnode.roles.sync_view import SyncView
from xnode.roles.timekeeper import Timekeeper
from xnode.roles.topics import Topics
from xnode.roles.tunnelling import HostAccess, Tunnelling
from xnode.roles.vote_exchange import VoteExchange
from xnode.roles.voting import Voting
from xnode.store.records import StoredBlock
from xnode.store.store import Store
from xnode.vm.driver import Driver

NEEDED_VOTERS = 32  # representatives that this node wants to find
CLOCK_LOOK_EVERY = 5.0  # seconds between a timekeeper's looks at its own clock


class Hosting(NamedTuple):
    """What makes a node a provider."""

    driver: Driver
    capacity: Resources
    terms: Terms
    orphan_grace: int = ORPHAN_GRACE_DEFAULT  # s
    pool: tuple[Want, ...] = ()  # machines that stand ready


class Settings(NamedTuple):
    """Which roles, and how far they go."""

    timekeeper: bool
    hosting: Hosting | None
    tunnels: TunnelLimits


class Outside(NamedTuple):
    """What is not the node's own: time, randomness, the network, the solver. Clocks give ns."""

    clock: Callable[[], int]
    monotonic: Callable[[], int]
    random: Callable[[int], bytes]
    network: Network
    rpc: Rpc
    handshake: Handshake
    worker: Worker
    checker: Checker | None = None  # None: blocks are checked on the loop


class Roles:
    """Made once the network is open; `run` keeps everything going."""

    def __init__(
        self, key: SigningKey, genesis: Genesis, store: Store, topics: Topics, outside: Outside, settings: Settings
    ) -> None:
        network, clock, rpc, host = outside.network, outside.clock, outside.rpc, outside.handshake.host
        self._outside = outside
        self._settings = settings
        self._genesis = genesis
        self._address = Address(key.public_key)
        self.store = store
        self.driver = settings.hosting.driver if settings.hosting else None
        self.log = LeaseLog(clock)
        self.replica = Replica(store, genesis, clock, network.publish)
        self.governance = Governance(store, genesis, clock, network.publish)
        self.state_sync = StateSync(host, self.governance)
        intake = BulkIntake(store, genesis, self.replica, outside.checker)
        self.sync = Sync(StateFirst(host, self.state_sync), LedgerSource(store), intake, lambda: bool(host.peers()))
        in_step = InStep(self.sync, network, outside.handshake)
        self.author = Author(key, store, genesis, self.replica, outside.worker, clock, in_step)
        self.contacts = Contacts(
            key, genesis, rpc, clock, network.publish, self._own_record, self._peer_ids, self._needed
        )
        self.board = MarketBoard(key, genesis, clock, network.publish)
        self.timekeeper = Timekeeper(key, store, genesis, clock, outside.monotonic) if settings.timekeeper else None
        self.attesting = Attesting(genesis, self.contacts, rpc, clock, self.timekeeper, network.peer_id, self.charter)
        self.voting = Voting(key, store, genesis, self.replica, clock, outside.monotonic, network.publish)
        self.exchange = VoteExchange(store, genesis, self.voting, self.replica, self.contacts, rpc, network.peers)
        changed = self.replica.changed
        self.progress = Progress(store, self._address, self.contacts, self.log)
        self.consumer = Consumer(
            store, genesis, self.author, self.board, self.contacts, self.log, self.progress, changed, clock,
            outside.random,
        )  # fmt: skip
        self.reclaiming = Reclaiming(store, genesis, self.author, self.attesting, self.log, clock)
        dial = self.driver.dial_ssh if self.driver else None
        access = HostAccess(store, self._address, dial) if dial else None
        self.tunnels = Tunnels(host, genesis.network_key, access, outside.random, settings.tunnels)
        self.tunnelling = Tunnelling(store, genesis, key, self.contacts, self.tunnels, dial, clock)
        self.catch_up = CatchUp(
            store,
            self.replica,
            self.voting.weights_now,
            lambda: self.sync.phase() is Phase.SETTLED,
            self.exchange.ask_finals,
            self.voting.note_decision,
            settle_finals,
        )
        self.sync_view = SyncView(store, self.sync, self.catch_up)
        self.voting.is_paused = lambda: self.catch_up.is_running or self.sync.phase() is not Phase.SETTLED
        self.state_sync.on_met = self.sync.kick
        self.drain: Drain | None = None
        self.acts: Acts | None = None
        self.spares: Spares | None = None
        self.provider: Provider | None = None
        self.offering: Offering | None = None
        if settings.hosting is not None:
            self.provider, self.offering = self._hosting(settings.hosting)
        self.steering = Steering(store, genesis, key, self.contacts, self.driver, self.acts, self.progress, clock)
        self.replica.watch(self.consumer.note_ends)
        self.replica.watch(self._advertise_change)
        self.replica.watch_undone(self._log_undone)
        self.governance.watch(self._on_state)
        self.contacts.pin()
        rpc.register(PROGRESS_METHOD, self._serve_progress)
        rpc.register(WITHDRAW_METHOD, self._serve_withdraw)
        rpc.register(MACHINE_METHOD, self.steering.serve)
        topics.wire(
            outside.handshake.knows, self.replica, self.board, self.contacts, self.voting, self.governance,
            self.state_sync.kick,
        )  # fmt: skip
        self.add_peer = network.add_peer

    def machines(self) -> tuple[Machine, ...]:
        """What this node hosts, without the spares, which are nobody's."""
        found = self.driver.machines() if self.driver else ()
        return tuple(item for item in found if not (self.spares and self.spares.owns(item)))

    def quorum(self) -> Quorum:
        """Whether what is voted on can be confirmed now."""
        return look(self.voting.weights(), self.contacts, self.voting.silence())

    @property
    def limits(self) -> str:
        """How the machines' limits are held, for people."""
        return self.driver.limits if self.driver else ""

    def switch_drain(self, *, is_on: bool) -> None:
        """Takes new leases or not, and says so in the ad at once."""
        if self.drain and self.offering:
            self.drain.switch(is_on=is_on)
            self.offering.advertise.fire()

    def describe_hosting(self) -> str:
        """What people should know of a provider: on what its machines run, and what keeps it from taking leases."""
        notes = [f"{self.driver.name} on {self.driver.accelerator}"] if self.driver else []
        if self.offering and (closed := self.offering.ad().closed):
            notes.append(f"takes no new leases: {closed}")
        if self.provider and self.provider.orphans:
            notes.append(f"{self.provider.orphans} without a lease")
        if self.spares and self.spares.is_used:
            notes.append("{} of {} in the pool ready".format(*self.spares.count()))
        return ", ".join(notes)

    def is_synced(self) -> bool:
        """Whether the ledger is in step: a peer has what we have, and 67 % of the weight have told where they are."""
        return self.sync.state().equal_peers > 0 and self.quorum().is_enough

    def charter(self) -> Charter:
        """What holds now."""
        return self.store.charter_at(self._outside.clock())

    def names(self) -> tuple[str, ...]:
        """The roles of this node, as the directory shows them."""
        told = [(True, "consumer"), (self.provider, "provider"), (self.timekeeper, "timekeeper")]
        return tuple(name for is_on, name in told if is_on)

    async def run(self) -> None:
        """Runs for as long as the node; a role that fails ends it."""
        async with trio.open_nursery() as nursery:
            greet = partial(self._greet, nursery)
            self._outside.handshake.on_greeted(greet)
            try:
                await self._start_all(nursery)
                await trio.sleep_forever()
            finally:  # peers may still come while the network is being closed
                self._outside.handshake.off_greeted(greet)

    async def _start_all(self, nursery: trio.Nursery) -> None:
        tasks = [
            self._end_with_the_store,
            self._outside.handshake.run,
            self.state_sync.run,
            self.sync.run,
            self.replica.carry_on,
            self.voting.send_votes,
            self.voting.keep_counting,
            self.voting.carry_on,
            self.exchange.run,
            self.catch_up.run,
            self.author.work_ahead,
            self.author.receive_pending,
            self.contacts.keep_announced,
            self.contacts.keep_pinned,
            self.consumer.sweep,
            self.reclaiming.run,
        ]
        if self.timekeeper:
            tasks.append(self._watch_clock)
        for task in tasks:
            nursery.start_soon(task)
        for peer_id in self._outside.handshake.greeted():  # those that were quicker than we
            self._greet(nursery, peer_id)
        if self.provider and self.offering and self.acts:
            nursery.start_soon(self.acts.run)
            await nursery.start(self.provider.run)  # what is here counts before anything is offered
            nursery.start_soon(self.offering.keep_advertised)
            nursery.start_soon(self.offering.answer_requests)

    def _hosting(self, hosting: Hosting) -> tuple[Provider, Offering]:
        capacity = Capacity(self.store, self._address, hosting.capacity)
        self.drain = Drain(self.store, self._outside.clock)
        admission = Admission(
            self._genesis,
            capacity,
            hosting.terms,
            self.drain,
            hosting.driver,
            self.author.account,
            self.attesting.reachable,
            self.charter,
        )
        power = PowerBook(self.store)
        spares = self.spares = Spares(
            self.store, hosting.driver, capacity, hosting.pool, hosting.terms.default_image, self.replica.changed,
            self._outside.clock, self._outside.random,
        )  # fmt: skip
        provider = Provider(
            self.store,
            self._genesis,
            self.author,
            self.attesting,
            hosting.driver,
            capacity,
            admission,
            StrikeBook(self.store),
            OrphanBook(self.store, hosting.orphan_grace),
            power,
            spares,
            self.log,
            self.replica.changed,
            self._outside.clock,
            self._close_tunnels,
            self.is_synced,
        )
        offering = Offering(
            self._address,
            self._genesis,
            self.board,
            capacity,
            hosting.terms,
            admission,
            self._outside.clock,
            self.charter,
        )
        self.acts = Acts(
            hosting.driver, power, self.log, self._outside.clock, provider.find, provider.boot_as_asked, provider.busy,
            self.replica.changed.fire,
        )  # fmt: skip
        return provider, offering

    def _greet(self, nursery: trio.Nursery, peer_id: PeerId) -> None:
        self.state_sync.kick(peer_id)
        nursery.start_soon(self._meet, peer_id)

    async def _meet(self, peer_id: PeerId) -> None:
        await self.contacts.exchange(peer_id)
        if self.offering:
            self.offering.advertise.fire()

    async def _end_with_the_store(self) -> None:
        """A refused write ends the node, wherever it was refused: no edge that only drops a message may hide it."""
        failed = trio.Event()
        self.store.on_failure = failed.set
        while self.store.failure is None:
            await failed.wait()
        raise self.store.failure

    async def _watch_clock(self) -> None:
        assert self.timekeeper is not None
        while True:
            self.timekeeper.watch_clock()
            await trio.sleep(CLOCK_LOOK_EVERY)

    def _on_state(self, effects: StateEffects) -> None:
        """What was judged by what held before is judged anew."""
        self.contacts.pin()
        self.replica.judge_disputed()
        self.voting.review(effects.block.timestamp)

    def _needed(self) -> frozenset[Address]:
        """Whom this node must find: those who attest time now or later, and the heaviest who vote."""
        charters = self.store.charters_since(self._outside.clock())
        keys = [key for charter in charters for key in charter.timekeepers.keys]
        return frozenset(map(Address, keys)) | frozenset(self.voting.weights().heaviest(NEEDED_VOTERS))

    def _advertise_change(self, applied: Sequence[Effects]) -> None:
        """A lease of ours took or gave back capacity, and nobody should hear of it a minute later."""
        if not self.offering:
            return
        if any(effects.lease is not None and effects.lease.provider == self._address for effects in applied):
            self.offering.advertise.fire()

    def _log_undone(self, stored: StoredBlock) -> None:
        """Tells who looks at a lease that a step of it was taken back."""
        step = lost_step(stored.block, stored.block_hash)
        if step is not None:
            self.log.record(*step)

    def _close_tunnels(self, lease_hash: Hash) -> None:
        self.tunnels.close_lease(lease_hash)

    def _own_record(self) -> DirectoryRecord:
        network = self._outside.network
        addresses = network.addresses[:LIST_ITEMS_MAX]
        return DirectoryRecord(self._address, network.peer_id, addresses, self.names(), self._outside.clock())

    def _peer_ids(self) -> tuple[PeerId, ...]:
        return tuple(peer.peer_id for peer in self._outside.network.peers())

    async def _serve_progress(self, peer_id: PeerId, args: Args) -> Args:
        match args:
            case (bytes(lease_hash), int(after)) if self.provider:
                phase, reason = self.provider.progress(Hash(lease_hash))
                if not self._is_consumer(peer_id, Hash(lease_hash)):  # why, and each step, may tell of its guest
                    return (phase, "", ())
                return (phase, reason, steps_wire(self.log.since(Hash(lease_hash), after)))
        return ("waiting", "this node hosts no machines", ())

    async def _serve_withdraw(self, peer_id: PeerId, args: Args) -> Args:
        """Only the node of the lease's consumer may ask."""
        match args:
            case (bytes(lease_hash),) if self.provider:
                if not self._is_consumer(peer_id, Hash(lease_hash)):
                    raise NotAllowed("not_your_lease", "only the lease's consumer may withdraw it")
                return (WITHDRAWN_ANSWER if self.provider.withdraw(Hash(lease_hash)) else "accepted",)
        raise NotAllowed("not_your_lease", "this node hosts no machines")

    def _is_consumer(self, peer_id: PeerId, lease_hash: Hash) -> bool:
        """Whether the lease's consumer has this node: the connection proves its peer id, the directory whose it is."""
        with self.store.snapshot() as view:
            lease = view.lease(lease_hash)
        try:
            return lease is not None and self.contacts.find(lease.consumer).peer_id == peer_id
        except PeerFault:
            return False
