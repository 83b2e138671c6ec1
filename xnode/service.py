"""The node as its HTTP API sees it: reads from snapshots and published state, acts on the roles."""

import socket
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import trio

from xnode import __version__
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
from xnode.core.attestations import Attestation
from xnode.core.blocks import Block
from xnode.core.elections import ElectionView
from xnode.core.faults import NotFound
from xnode.core.genesis import Genesis
from xnode.core.lease import LeaseRecord, LeaseState, Resources
from xnode.core.ledger import Outcome
from xnode.core.machine import ConsolePart, ExecResult, Machine, MachineFigures, MachineStatus
from xnode.core.machine_calls import Done
from xnode.core.market import Ad, LeaseForm, Quote
from xnode.core.power import Verb
from xnode.core.state_blocks import StateBlock
from xnode.core.state_chain import StateOutcome
from xnode.core.values import Address, Hash
from xnode.net.streams import Stream, splice
from xnode.roles.block_times import Stage
from xnode.roles.fates import Fate
from xnode.roles.lease_log import LeaseLog, Step
from xnode.roles.running import Roles
from xnode.roles.steering import Watching
from xnode.store.snapshot import Snapshot

CONSUMED_MAX: Final = 1_000  # leases of ours shown as machines


class Published(NamedTuple):
    """What the HTTP thread may read without crossing; replaced as a whole."""

    ads: tuple[Ad, ...] = ()
    peers: tuple[PeerView, ...] = ()
    checks: tuple[Check, ...] = ()
    elections: tuple[ElectionView, ...] = ()
    voters: frozenset[Address] = frozenset()
    info: Mapping[str, object] = MappingProxyType({})
    counters: Mapping[str, int] = MappingProxyType({})


class OpenTunnel(TunnelEnd):
    """A stream to a machine's SSH port, to be joined to a client's socket."""

    def __init__(self, stream: Stream, nursery: trio.Nursery) -> None:
        self._stream = stream
        self._nursery = nursery

    async def join(self, sock: socket.socket, early: bytes, eof: bool, leave: Callable[[], None]) -> None:
        """Carries bytes from here on, on the node's loop."""
        client = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._nursery.start_soon(self._carry, client, early, eof, leave, name="tunnel")

    async def _carry(self, client: trio.SocketStream, early: bytes, eof: bool, leave: Callable[[], None]) -> None:
        try:
            await splice(self._stream, client, early, eof)
        finally:
            leave()

    async def abandon(self) -> None:
        """Nobody wants it any more."""
        await self._stream.reset()


class ConsoleReading(ConsoleWatch):
    """One machine's console, near or far."""

    def __init__(self, watching: Watching) -> None:
        self._watching = watching

    async def read(self, position: int, patience: float) -> ConsolePart:
        """See ConsoleWatch."""
        return await self._watching.read(position, patience)


class NodeService(NodePort):
    """One node. `publish` must be called on the node's loop, every now and then and after changes."""

    def __init__(self, genesis: Genesis, roles: Roles, nursery: trio.Nursery, gather: Callable[[], Published]) -> None:
        self.genesis = genesis
        self.address = roles.author.address
        self._roles = roles
        self._nursery = nursery
        self._gather = gather
        self._published = Published()

    def publish(self) -> None:
        """Replaces what the HTTP thread reads."""
        self._published = self._gather()

    def snapshot(self) -> Snapshot:
        """See NodePort."""
        return self._roles.store.snapshot()

    def providers(self) -> tuple[ProviderView, ...]:
        """See NodePort."""
        return tuple(_provider_view(ad) for ad in self._published.ads)

    def peers(self) -> tuple[PeerView, ...]:
        """See NodePort."""
        return self._published.peers

    def checks(self) -> tuple[Check, ...]:
        """See NodePort."""
        return self._published.checks

    def elections(self) -> tuple[ElectionView, ...]:
        """See NodePort."""
        return self._published.elections

    def fate(self, block_hash: Hash) -> Fate | None:
        """See NodePort."""
        return self._roles.voting.fate(block_hash)

    def block_times(self, block_hash: Hash) -> dict[Stage, int] | None:
        """See NodePort."""
        return self._roles.voting.times.find(block_hash)

    def voters(self) -> frozenset[Address]:
        """See NodePort."""
        return self._published.voters

    def info(self) -> dict[str, object]:
        """See NodePort."""
        with self.snapshot() as view:
            counts = view.counts()
        return {
            **self._published.info,
            "address": self.address.hex(),
            "version": __version__,
            "network_id": self.genesis.network_id,
            "genesis_hash": self.genesis.genesis_hash.hex(),
            "block_count": counts.blocks,
            "accounts": counts.accounts,
            "work_difficulty": self.genesis.work_difficulty,
        }

    def counters(self) -> dict[str, int]:
        """See NodePort."""
        return dict(self._published.counters)

    def lease_events(self, lease_hash: Hash) -> tuple[Step, ...]:
        """See NodePort."""
        return self._log.steps(lease_hash)

    def machines(self) -> tuple[MachineView, ...]:
        """See NodePort."""
        hosted = {machine.spec.lease_hash: _hosted_view(machine) for machine in self._roles.machines()}
        with self.snapshot() as view:
            leases = view.leases(state=LeaseState.ACCEPTED, consumer=self.address, limit=CONSUMED_MAX)
        status = self._roles.progress.status
        consumed = {lease.lease_hash: _consumed_view(lease, status(lease.lease_hash)) for lease in leases}
        return tuple(view for _, view in sorted((consumed | hosted).items()))

    async def quote(self, form: LeaseForm) -> Quote:
        """See NodePort."""
        return await self._roles.consumer.quote(form)

    async def request_lease(self, form: LeaseForm) -> Hash:
        """See NodePort."""
        return await self._roles.consumer.request(form)

    async def cancel_lease(self, lease_hash: Hash) -> None:
        """See NodePort."""
        await self._roles.consumer.cancel(lease_hash)

    async def attest(self, lease_hash: Hash) -> Attestation:
        """See NodePort."""
        with self.snapshot() as view:
            if view.lease(lease_hash) is None:
                raise NotFound("lease_unknown", "this node knows no such lease; look at GET /leases")
        return await self._roles.attesting.attest(lease_hash)

    async def execute(self, lease_hash: Hash, command: str, timeout: float) -> ExecResult:
        """See NodePort."""
        driver = self._roles.driver
        if driver is None or all(machine.spec.lease_hash != lease_hash for machine in self._roles.machines()):
            message = "this node hosts no such machine; exec is answered by the lease's provider"
            raise NotFound("vm_unknown", message)
        return await driver.execute(lease_hash, command, timeout)

    async def steer(self, lease_hash: Hash, verb: Verb, proof: AccessProof | None) -> Done:
        """See NodePort."""
        return await self._roles.steering.act(lease_hash, verb, proof)

    async def watch_console(self, lease_hash: Hash, proof: AccessProof | None) -> ConsoleWatch:
        """See NodePort."""
        return ConsoleReading(self._roles.steering.watch(lease_hash, proof))

    async def figures(self, lease_hash: Hash, proof: AccessProof | None) -> MachineFigures:
        """See NodePort."""
        return await self._roles.steering.figures(lease_hash, proof)

    async def refresh_lease(self, lease_hash: Hash) -> None:
        """See NodePort."""
        await self._roles.progress.refresh(lease_hash)

    async def hosting(self) -> HostingView:
        """See NodePort."""
        roles = self._roles
        if roles.provider is None or roles.offering is None or roles.drain is None:
            raise NotFound("not_a_provider", "this node hosts no machines; start it with --provide")
        ad = roles.offering.ad()
        return HostingView(
            closed=ad.closed,
            draining_since=roles.drain.since,
            capacity=ad.capacity,
            available=ad.available,
            machines=len(roles.machines()),
            orphans=roles.provider.orphans,
            internet=ad.internet,
            limits=roles.limits,
        )

    async def drain(self, is_on: bool) -> HostingView:
        """See NodePort."""
        await self.hosting()
        self._roles.switch_drain(is_on=is_on)
        return await self.hosting()

    async def open_tunnel(self, lease_hash: Hash, proof: AccessProof | None) -> TunnelEnd:
        """See NodePort."""
        return OpenTunnel(await self._roles.tunnelling.open(lease_hash, proof), self._nursery)

    async def submit_block(self, block: Block) -> tuple[Outcome, str]:
        """See NodePort."""
        if block.account == self.address:  # signed with the node's own key, by the command line
            await self._roles.author.be_in_step()
        submission = await self._roles.replica.submit(block)
        return submission.outcome, submission.detail

    async def submit_state_block(self, block: StateBlock) -> tuple[StateOutcome, str]:
        """See NodePort."""
        submission = await self._roles.governance.submit(block)
        return submission.outcome, submission.detail

    async def add_peer(self, address: str) -> None:
        """See NodePort."""
        self._roles.add_peer(address)

    @property
    def _log(self) -> LeaseLog:
        return self._roles.log


def _provider_view(ad: Ad) -> ProviderView:
    return ProviderView(
        address=ad.provider,
        capacity=ad.capacity,
        available=ad.available,
        active_leases=ad.active_leases,
        multiplier_milli=ad.multiplier_milli,
        certificate_hash=ad.certificate_hash,
        driver=ad.driver,
        accelerator=ad.accelerator,
        internet=ad.internet,
        last_seen=ad.timestamp,
        closed=ad.closed,
        images=ad.images,
    )


def _hosted_view(machine: Machine) -> MachineView:
    spec = machine.spec
    return MachineView(
        lease_hash=spec.lease_hash,
        status=machine.status,
        resources=Resources(spec.vcpus, spec.memory_mb, spec.disk_gb),
        created_at=machine.created_at,
        state_since=machine.state_since,
        ssh_port=machine.ssh_port,
        host_key=machine.host_key,
        driver=machine.driver,
        image=machine.image,
        accelerator=machine.accelerator,
        reason=machine.reason,
    )


def _consumed_view(lease: LeaseRecord, status: MachineStatus) -> MachineView:
    """A consumer knows its machine by the acceptance: where that is, credentials are complete. Its state is the last
    that was heard of its provider."""
    return MachineView(
        lease_hash=lease.lease_hash,
        status=status,
        resources=lease.resources,
        created_at=lease.start_time,
        state_since=lease.start_time,
        ssh_port=0,
        host_key=lease.host_key,
        driver="",
        image="",
        accelerator="",
        reason="",
    )
