"""Whether the node may write on its own chain: only once it has been in step with the network since its start.

Its disk may know less of its account than the network does: a key that was moved to an empty data directory, a restored
copy, a chain of which half is fetched. A block written on that would be a second one for a position that is taken.
"""

from typing import Final

import trio

from xnode.net.handshake import Handshake
from xnode.net.network import Network
from xnode.net.streams import PeerId
from xnode.net.sync import Sync

LOOK_SECONDS: Final = 0.25  # between looks
ALONE_SECONDS: Final = 3.0  # after the start; whoever is near has come by then
AWAITED_SECONDS: Final = 60.0  # after the first peer; there may be no end of those that come later
AWAITED_MAX: Final = 1_000  # peers


class InStep:
    """Looks at sync until all peers that are connected have told what they have; then it is so until the node ends.

    Of peers that came within a minute of the first, that is; and one at least, whoever it is, must have told.
    """

    def __init__(self, sync: Sync, network: Network, handshake: Handshake) -> None:
        self._sync = sync
        self._network = network
        self._began: float | None = None
        self._first_at: float | None = None
        self._awaited: set[PeerId] = set()
        self._has_been = False
        handshake.on_greeted(self._on_greeted)

    def __call__(self) -> bool:
        """Whether it has been in step, or is alone: it was given no peer, and none has ever come."""
        self._has_been = self._has_been or self._sync.is_met(None if self._awaits_all() else self._awaited)
        return self._has_been or self._is_alone()

    async def wait(self) -> None:
        """Returns once it is so."""
        if self._began is None:
            self._began = trio.current_time()
        while not self():  # noqa: ASYNC110  it is judged by what time alone changes, too
            await trio.sleep(LOOK_SECONDS)

    def _on_greeted(self, peer_id: PeerId) -> None:
        if self._first_at is None:
            self._first_at = trio.current_time()
        if self._awaits_all() and len(self._awaited) < AWAITED_MAX:
            self._awaited.add(peer_id)

    def _awaits_all(self) -> bool:
        return self._first_at is None or trio.current_time() < self._first_at + AWAITED_SECONDS

    def _is_alone(self) -> bool:
        is_early = self._began is None or trio.current_time() < self._began + ALONE_SECONDS
        return not (is_early or self._first_at is not None or self._network.seeks_peers)
