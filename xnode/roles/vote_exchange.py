"""Asking peers for what voting lacks: votes that were lost on the way, and blocks that only votes name (section 8)."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

import trio

from xnode.core.blocks import block_hash, decode_block, encode_block
from xnode.core.codec import Malformed
from xnode.core.faults import NotFound, PeerFault
from xnode.core.genesis import Genesis
from xnode.core.heard_votes import BUNDLES_ANSWERED_MAX
from xnode.core.values import HASH_BYTES, Address, Hash
from xnode.core.votes import VOTES, VOTES_MAX, Position, VoteBundle
from xnode.net.streams import PeerId
from xnode.roles.contacts import Args, Calls, Contacts, blaming_peer
from xnode.roles.replica import Replica
from xnode.roles.rotation import Rotation
from xnode.roles.voting import Voting
from xnode.store.store import Store

VOTES_METHOD: Final = "votes"
BLOCK_METHOD: Final = "block"
ASK_EVERY: Final = 0.5  # seconds
ASKED_MAX: Final = 20  # representatives asked in one round, the heaviest first
BLOCKS_A_ROUND_MAX: Final = 16
FETCHES_MAX: Final = 64  # at once
PEERS_ASKED_MAX: Final = 3
ASK_SECONDS_MAX: Final = 5.0


class Peer(Protocol):
    """A connected peer."""

    @property
    def peer_id(self) -> PeerId:
        """Its id."""


class VoteExchange:
    """Serves votes and blocks by call, and asks for those that voting wants."""

    def __init__(
        self,
        store: Store,
        genesis: Genesis,
        voting: Voting,
        replica: Replica,
        contacts: Contacts,
        calls: Calls,
        peers: Callable[[], tuple[Peer, ...]],
    ) -> None:
        self._store = store
        self._genesis = genesis
        self._voting = voting
        self._replica = replica
        self._contacts = contacts
        self._calls = calls
        self._peers = peers
        self._asked_votes, self._asked_blocks = Rotation(), Rotation()
        self._asking: set[PeerId] = set()
        self._fetching: set[Hash] = set()
        calls.register(VOTES_METHOD, self._serve_votes)
        calls.register(BLOCK_METHOD, self._serve_block)

    async def run(self) -> None:
        """Asks for what is wanted, at most twice a second; runs for as long as the node. No peer holds it up."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._voting.wants.wait()
                await trio.sleep(ASK_EVERY)
                self._ask(nursery)

    def _ask(self, nursery: trio.Nursery) -> None:
        positions, blocks = self._voting.take_wanted(VOTES_MAX, BLOCKS_A_ROUND_MAX)
        if positions:
            for peer_id, addresses in self._voters().items():
                if peer_id not in self._asking:
                    nursery.start_soon(self._ask_votes, peer_id, addresses, positions)
        for wanted in blocks[: FETCHES_MAX - len(self._fetching)]:
            if wanted not in self._fetching:
                nursery.start_soon(self._fetch, wanted)

    async def ask_finals(self, positions: tuple[Position, ...]) -> list[VoteBundle]:
        """What representatives and some peers answer for these positions, VOTES_MAX at most; nobody is waited for
        longer than ASK_SECONDS_MAX."""
        bundles: list[VoteBundle] = []
        async with trio.open_nursery() as nursery:
            for peer_id, addresses in self._voters().items():
                nursery.start_soon(self._collect, peer_id, addresses, positions, bundles)
        return bundles

    async def _collect(
        self, peer_id: PeerId, addresses: tuple[str, ...], positions: tuple[Position, ...], bundles: list[VoteBundle]
    ) -> None:
        with suppress(PeerFault, Malformed):
            args = tuple(tuple(item) for item in positions)
            with blaming_peer():
                wires = await self._calls.call(peer_id, VOTES_METHOD, args, ASK_SECONDS_MAX, addresses)
            for wire in wires[:BUNDLES_ANSWERED_MAX]:
                bundle, is_signed = VOTES.read(self._genesis.network_key, wire if isinstance(wire, bytes) else b"")
                if is_signed:
                    bundles.append(bundle)

    def _voters(self) -> dict[PeerId, tuple[str, ...]]:
        """Whom to ask for votes, with their addresses: the heaviest representatives, and some peers for what they have
        heard from representatives that are away."""
        found: dict[PeerId, tuple[str, ...]] = {}
        heaviest = self._voting.weights().heaviest(ASKED_MAX + 1)
        for address in [address for address in heaviest if not self._contacts.is_own(address)][:ASKED_MAX]:
            with suppress(PeerFault):
                where = self._contacts.find(address)
                found[where.peer_id] = where.addresses
        return found | {peer_id: () for peer_id in self._next_peers(self._asked_votes) if peer_id not in found}

    def _next_peers(self, rotation: Rotation) -> list[PeerId]:
        return rotation.next([peer.peer_id for peer in self._peers()], PEERS_ASKED_MAX)

    async def _ask_votes(self, peer_id: PeerId, addresses: tuple[str, ...], positions: tuple[Position, ...]) -> None:
        args = tuple(tuple(item) for item in positions)
        self._asking.add(peer_id)
        try:
            with blaming_peer():
                wires = await self._calls.call(peer_id, VOTES_METHOD, args, ASK_SECONDS_MAX, addresses)
            for wire in wires[:BUNDLES_ANSWERED_MAX]:
                self._take_votes(wire)
        except (PeerFault, Malformed):
            return  # it is asked again at the next nudge
        finally:
            self._asking.remove(peer_id)

    def _take_votes(self, wire: object) -> None:
        if isinstance(wire, bytes):
            bundle, is_signed = VOTES.read(self._genesis.network_key, wire)
            if is_signed:
                self._voting.take(bundle, wire)

    async def _fetch(self, wanted: Hash) -> None:
        self._fetching.add(wanted)
        try:
            for peer_id in self._next_peers(self._asked_blocks):
                if await self._fetch_from(peer_id, wanted):
                    return
        finally:
            self._fetching.remove(wanted)

    async def _fetch_from(self, peer_id: PeerId, wanted: Hash) -> bool:
        """Whether the peer had that block; what becomes of it is the replica's and the voting's matter."""
        try:
            answer = await self._calls.call(peer_id, BLOCK_METHOD, (wanted,), ASK_SECONDS_MAX)
            match answer:
                case (bytes(wire),) if block_hash(self._genesis.network_key, decode_block(wire)) == wanted:
                    self._replica.take_synced((wire,))
                    return True
        except (PeerFault, Malformed):
            return False
        return False

    async def _serve_votes(self, _peer_id: PeerId, args: Args) -> Args:
        positions = []
        for item in args[:VOTES_MAX]:
            match item:
                case (bytes(account), bytes(previous)) if len(account) == len(previous) == HASH_BYTES:
                    positions.append(Position(Address(account), Hash(previous)))
                case _:
                    raise PeerFault("malformed", "votes takes pairs of account and previous")
        return self._voting.answer(positions)

    async def _serve_block(self, _peer_id: PeerId, args: Args) -> Args:
        match args:
            case (bytes(wanted),) if len(wanted) == HASH_BYTES:
                with self._store.snapshot() as view:
                    stored = view.block(Hash(wanted))
                block = stored.block if stored is not None else self._voting.staged(Hash(wanted))
                if block is None:
                    raise NotFound("unknown_block", "this node does not have that block")
                return (encode_block(block),)
        raise PeerFault("malformed", "block takes a hash")
