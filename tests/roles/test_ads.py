"""What a provider advertises follows its leases, long before the next minute's ad."""

import pytest
import trio

from tests.support.role_node import FORM, ROOMY, RoleNode, Village, until
from xnode.core.faults import CallerFault
from xnode.core.lease import LeaseState, Resources
from xnode.core.market import GuestImage, minus
from xnode.core.records import LIST_ITEMS_MAX, TEXT_CHARACTERS_MAX

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


async def test_a_refusal_that_would_be_too_long_is_shortened(village: Village, autojump_clock: object) -> None:
    """It names what was asked for and all that is there: both may be long, and neither may end the provider."""
    images = tuple(GuestImage(f"image-{number:050}", 256, 1) for number in range(2 * LIST_ITEMS_MAX))
    await village.start("bob", capacity=ROOMY, images=images)
    await village.start_market("alice")
    alice = village.nodes["alice"]
    with pytest.raises(CallerFault, match="this provider does not have the image xxx"):
        await alice.roles.consumer.request(FORM._replace(image="x" * TEXT_CHARACTERS_MAX, timeout=20))
    with pytest.raises(CallerFault, match=r"the image small; it offers: image-0+, .* \.\.\.") as caught:
        await alice.roles.consumer.request(FORM._replace(image="small", timeout=20))
    assert caught.value.code == "no_providers"
    assert "bob" in village.nodes
    await village.agreed()


async def test_a_node_with_many_addresses_tells_the_first_of_them(village: Village, autojump_clock: object) -> None:
    await village.start("alice")
    bob = await village.start("bob")
    bob.network.addresses = tuple(f"/memory/{number}" for number in range(2 * LIST_ITEMS_MAX))
    await trio.sleep(400)
    record = village.nodes["alice"].roles.contacts.find(bob.address)
    assert record.addresses == bob.network.addresses[:LIST_ITEMS_MAX]
