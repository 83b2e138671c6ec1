"""Asking peers for what voting lacks: votes that were lost on the way, and blocks that only votes name (section 8)."""

from collections.abc import Callable
from typing import Final, Protocol

import trio

from xnode.core.blocks import encode_block
from xnode.core.codec import Malformed
from xnode.core.faults import NotFound, PeerFault
from xnode.core.genesis import Genesis
from xnode.core.values import HASH_BYTES, Address, Hash
from xnode.core.votes import VOTES, VOTES_MAX, Position
from xnode.net.streams import PeerId
from xnode.roles.contacts import Args, Calls, Contacts
from xnode.roles.replica import Replica
from xnode.roles.voting import Voting
from xnode.store.store import Store

VOTES_METHOD: Final = "votes"
BLOCK_METHOD: Final = "block"
ASK_EVERY: Final = 0.5  # seconds
ASKED_MAX: Final = 20  # representatives asked in one round, the heaviest first
BLOCKS_A_ROUND_MAX: Final = 16
PEERS_A_BLOCK_MAX: Final = 3
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
        calls.register(VOTES_METHOD, self._serve_votes)
        calls.register(BLOCK_METHOD, self._serve_block)

    async def run(self) -> None:
        """Asks for what is wanted, at most twice a second; runs for as long as the node."""
        while True:
            await self._voting.wants.wait()
            await trio.sleep(ASK_EVERY)
            await self._ask()

    async def _ask(self) -> None:
        positions = tuple(self._voting.wanted_votes)[:VOTES_MAX]
        blocks = tuple(self._voting.wanted_blocks)[:BLOCKS_A_ROUND_MAX]
        for position in positions:
            del self._voting.wanted_votes[position]
        for wanted in blocks:
            del self._voting.wanted_blocks[wanted]
        if not self._voting.wanted_votes and not self._voting.wanted_blocks:
            self._voting.wants = trio.Event()
        async with trio.open_nursery() as nursery:
            if positions:
                for address in self._representatives():
                    nursery.start_soon(self._ask_votes, address, positions)
            for wanted in blocks:
                nursery.start_soon(self._ask_block, wanted)

    def _representatives(self) -> list[Address]:
        weights = self._voting.weights().by_representative
        others = [address for address in weights if not self._contacts.is_own(address)]
        return sorted(others, key=lambda address: (-weights[address], address))[:ASKED_MAX]

    async def _ask_votes(self, address: Address, positions: tuple[Position, ...]) -> None:
        try:
            wires = await self._contacts.call(
                address, VOTES_METHOD, tuple(tuple(item) for item in positions), ASK_SECONDS_MAX
            )
            for wire in wires[:VOTES_MAX]:
                self._take_votes(wire)
        except (PeerFault, Malformed):
            return  # it is asked again at the next nudge

    def _take_votes(self, wire: object) -> None:
        if isinstance(wire, bytes):
            bundle, is_signed = VOTES.read(self._genesis.network_key, wire)
            if is_signed:
                self._voting.take(bundle, wire)

    async def _ask_block(self, wanted: Hash) -> None:
        for peer in self._peers()[:PEERS_A_BLOCK_MAX]:
            try:
                answer = await self._calls.call(peer.peer_id, BLOCK_METHOD, (wanted,), ASK_SECONDS_MAX)
            except PeerFault:
                continue
            if len(answer) == 1 and isinstance(answer[0], bytes) and self._take_block(answer[0]):
                return

    def _take_block(self, wire: bytes) -> bool:
        try:
            return self._replica.take_synced((wire,)) > 0
        except Malformed:
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
