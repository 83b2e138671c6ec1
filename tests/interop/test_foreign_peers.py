"""The two foreign peers understand each other: what test_gossip.py then finds is about xnode."""

import pytest
import trio

from tests.support.foreign import ForeignPeer
from tests.support.gossip import publish_until_received

pytestmark = [pytest.mark.interop, pytest.mark.slow]

SECONDS_MAX = 60.0


async def test_they_gossip_both_ways(js_peer: ForeignPeer, go_peer: ForeignPeer) -> None:
    with trio.fail_after(SECONDS_MAX):
        await js_peer.connect(go_peer.address)
        await publish_until_received(js_peer.publish, b"from js", go_peer.receive)
        await publish_until_received(go_peer.publish, b"from go", js_peer.receive)
