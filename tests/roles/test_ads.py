"""What a provider advertises follows its leases, long before the next minute's ad."""

import pytest

from tests.support.role_node import FORM, ROOMY, RoleNode, Village, until
from xnode.core.lease import LeaseState, Resources
from xnode.core.market import minus

pytestmark = pytest.mark.slow


def advertised(node: RoleNode) -> tuple[int, Resources]:
    """Live leases and free capacity of the only provider, as the node has heard."""
    (ad,) = node.roles.board.ads()
    return ad.active_leases, ad.available


async def test_ads_follow_the_leases(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    alice = village.nodes["alice"]
    assert advertised(alice) == (0, ROOMY)
    lease_hash = await alice.roles.consumer.request(FORM)
    left = minus(ROOMY, [FORM.resources])
    await until(lambda: advertised(alice) == (1, left), 5, "an ad with the lease")
    await until(lambda: alice.lease(lease_hash).state is LeaseState.SETTLED, 75, "the lease's end")
    await until(lambda: advertised(alice) == (0, ROOMY), 5, "an ad without the lease")
