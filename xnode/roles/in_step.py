"""Whether the node may write on its own chain: only once it has been in step with the network since its start.

Its disk may know less of its account than the network does: a key that was moved to an empty data directory, a restored
copy, a chain of which half is fetched. A block written on that would be a second one for a position that is taken.
"""

from typing import Final

import trio

from xnode.net.network import Network
from xnode.net.sync import Sync

LOOK_SECONDS: Final = 0.25  # between looks


class InStep:
    """Looks at sync until all peers that are connected have told what they have; then it is so until the node ends."""

    def __init__(self, sync: Sync, network: Network) -> None:
        self._sync = sync
        self._network = network
        self._has_been = False

    def __call__(self) -> bool:
        """Whether it has been in step, or is alone because it was given no peer and none has come."""
        self._has_been = self._has_been or self._sync.is_met()
        return self._has_been or not (self._network.seeks_peers or self._network.peers())

    async def wait(self) -> None:
        """Returns once it is so."""
        while not self():  # noqa: ASYNC110  it is judged by what time alone changes, too
            await trio.sleep(LOOK_SECONDS)
