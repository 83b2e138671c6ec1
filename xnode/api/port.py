"""What the HTTP API needs of the node it stands on: one sentence a method. `node.py` implements it.

Reads are answered from a store snapshot and published immutable state on the HTTP thread; the `async` acts run on
the node's trio loop and are reached only through `api/bridge.py`. All raise the classes of `xnode.core.faults`.
"""

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from xnode.core.attestations import Attestation
from xnode.core.blocks import Block
from xnode.core.elections import ElectionView
from xnode.core.genesis import Genesis
from xnode.core.lease import Resources
from xnode.core.ledger import Outcome
from xnode.core.machine import ConsolePart, ExecResult, MachineFigures, MachineStatus
from xnode.core.machine_calls import Done
from xnode.core.market import LeaseForm, Quote
from xnode.core.power import Verb
from xnode.core.state_blocks import StateBlock
from xnode.core.state_chain import StateOutcome
from xnode.core.values import Address, Hash, PublicKey, Signature
from xnode.roles.block_times import Stage
from xnode.roles.fates import Fate
from xnode.roles.lease_log import Step
from xnode.store.snapshot import Snapshot


class ProviderView(NamedTuple):
    """A provider as last heard of on the market topic; `last_seen` in ns."""

    address: Address
    capacity: Resources
    available: Resources
    active_leases: int
    multiplier_milli: int
    certificate_hash: Hash
    driver: str
    accelerator: str
    internet: str  # what its machines reach beside their own SSH port: none, or open
    last_seen: int
    closed: str = ""  # why it takes no lease at all: draining or host_full
    images: tuple[str, ...] = ()
    score: int | None = None  # of its performance certificate, where it has one


class HostingView(NamedTuple):
    """This node as a provider; `closed` as in its ad, `draining_since` in ns, 0 where it does not drain."""

    closed: str
    draining_since: int
    capacity: Resources
    available: Resources
    machines: int
    orphans: int  # machines whose lease the ledger does not know
    internet: str  # as in its ad
    limits: str  # how memory and CPU of machines are held, for people


class MachineView(NamedTuple):
    """One machine of GET /vms, of this node as its provider or as its consumer; times in ns."""

    lease_hash: Hash
    status: MachineStatus
    resources: Resources
    created_at: int
    state_since: int
    ssh_port: int  # 0 where this node is not its provider
    host_key: PublicKey
    driver: str
    image: str
    accelerator: str
    reason: str


class PeerView(NamedTuple):
    """One connected peer; `connected_at` in ns."""

    peer_id: str
    address: str
    version: str
    connected_at: int


class Check(NamedTuple):
    """One named readiness check."""

    name: str
    ok: bool
    detail: str


class AccessProof(NamedTuple):
    """A request's own proof: signature by the lease's access key or its consumer's account; timestamp in ns."""

    signature: Signature
    timestamp: int


class NodePort(ABC):
    """The node under the API."""

    genesis: Genesis
    address: Address

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """A consistent read-only view of the ledger, to be closed by the caller (`with`)."""

    @abstractmethod
    def providers(self) -> tuple[ProviderView, ...]:
        """Providers heard of within the ad's life, sorted by address."""

    @abstractmethod
    def machines(self) -> tuple[MachineView, ...]:
        """Machines of this node as provider and as consumer, sorted by lease hash."""

    @abstractmethod
    def peers(self) -> tuple[PeerView, ...]:
        """Connected peers, sorted by id."""

    @abstractmethod
    def checks(self) -> tuple[Check, ...]:
        """The readiness checks by name."""

    @abstractmethod
    def elections(self) -> tuple[ElectionView, ...]:
        """The open elections, sorted by position."""

    @abstractmethod
    def fate(self, block_hash: Hash) -> Fate | None:
        """What became of a block that is not in the ledger: voted on, or rejected and why; None for an unknown one."""

    @abstractmethod
    def block_times(self, block_hash: Hash) -> dict[Stage, int] | None:
        """When (ns) one of the last blocks went through each stage of voting here; None for any other."""

    @abstractmethod
    def voters(self) -> frozenset[Address]:
        """The representatives whose nodes have told where they are, this one included."""

    @abstractmethod
    def info(self) -> dict[str, object]:
        """GET /node without its peers: id, address, version, network_id, genesis_hash, roles, counts, sync."""

    @abstractmethod
    def counters(self) -> dict[str, int]:
        """Named counters and gauges for GET /metrics (drops, refusals, queue lengths)."""

    @abstractmethod
    def lease_events(self, lease_hash: Hash) -> tuple[Step, ...]:
        """The steps of one lease that this node has seen or heard of, oldest first; empty when unknown."""

    @abstractmethod
    async def quote(self, form: LeaseForm) -> Quote:
        """Asks the market and commits nothing."""

    @abstractmethod
    async def request_lease(self, form: LeaseForm) -> Hash:
        """Leases a machine and returns once its provider has accepted."""

    @abstractmethod
    async def cancel_lease(self, lease_hash: Hash) -> None:
        """Cancels an own lease that nobody has accepted yet; WrongState after that."""

    @abstractmethod
    async def attest(self, lease_hash: Hash) -> Attestation:
        """Attests by this node's own timekeeper or the configured one; Unavailable when there is none."""

    @abstractmethod
    async def execute(self, lease_hash: Hash, command: str, timeout: float) -> ExecResult:
        """Runs a shell command in a machine that this node hosts; `timeout` in seconds."""

    @abstractmethod
    async def steer(self, lease_hash: Hash, verb: Verb, proof: AccessProof | None) -> Done:
        """Does to a lease's machine what its consumer tells, wherever its provider is; returns when it is done."""

    @abstractmethod
    async def watch_console(self, lease_hash: Hash, proof: AccessProof | None) -> "ConsoleWatch":
        """The right to read a machine's serial console, wherever its provider is."""

    @abstractmethod
    async def figures(self, lease_hash: Hash, proof: AccessProof | None) -> MachineFigures:
        """What a machine uses, wherever its provider is; WrongState where it is not up."""

    @abstractmethod
    async def refresh_lease(self, lease_hash: Hash) -> None:
        """Asks the provider of an own lease what is new, unless that was done just now; raises nothing."""

    @abstractmethod
    async def hosting(self) -> HostingView:
        """This node as a provider; NotFound where it is none."""

    @abstractmethod
    async def drain(self, is_on: bool) -> HostingView:
        """Stops or resumes taking new leases, durably; NotFound where it is no provider."""

    @abstractmethod
    async def open_tunnel(self, lease_hash: Hash, proof: AccessProof | None) -> "TunnelEnd":
        """Reaches the lease's SSH port, wherever its provider is; raises before anything is answered to the client."""

    @abstractmethod
    async def submit_block(self, block: Block) -> tuple[Outcome, str]:
        """Offers a signed block to the ledger and gossips it if it is new and good; its fate, for people too."""

    @abstractmethod
    async def submit_state_block(self, block: StateBlock) -> tuple[StateOutcome, str]:
        """Offers a signed state block to the chain and gossips it if it is new and good; its fate, for people too."""

    @abstractmethod
    async def add_peer(self, address: str) -> None:
        """Dials a peer by its multiaddress and keeps it among the configured ones until the node stops."""


class ConsoleWatch(ABC):
    """One machine's serial console, for somebody who may read it."""

    @abstractmethod
    async def read(self, position: int, patience: float) -> ConsolePart:
        """A piece from a position on, as `Driver.console` counts; waits up to `patience` s where there is nothing."""


class TunnelEnd(ABC):
    """The far end of a tunnel that is open but not yet joined to a client."""

    @abstractmethod
    async def join(self, sock: socket.socket, early: bytes, eof: bool, leave: Callable[[], None]) -> None:
        """Takes the client's detached socket over, with its early bytes, and returns at once; trio carries on.

        `leave` is called when the tunnel has ended, unless this raises.
        """

    @abstractmethod
    async def abandon(self) -> None:
        """Closes the far end, because the client went away before it could be joined."""
