"""The demo's story on a network of its own: one lease from the request to the destroyed machine, with a real machine.

The steps are the demo's (`cmd/demo_story`, `cmd/demo_login`); what they show is checked here once more from outside.
The tests of one lease stand in the order of its life.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.devnet import http, machines
from tests.support.leasing import Tenant, check_books, wait_for_state
from tests.support.leftovers import SPARE_FILES, Held, check_as_before, held, open_files
from xnode.config import DataDir
from xnode.core.values import public_key_from_hex
from xnode.vm.ssh_keys import known_hosts_line
from xnode_cmd.demo_login import Visitor, run_program, ssh_words
from xnode_cmd.demo_story import REQUEST, Story
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.devnet_plan import Plan
from xnode_cmd.timeline import Timeline

pytestmark = [pytest.mark.vm, pytest.mark.slow]

DURATION_S = 40  # the tests of the living machine take 10 s
SHORT_S = 30  # a timekeeper signs a lease's time once in 30 s, so a shorter one is settled no sooner
SETTLE_S = 90
DEVNET = Plan(min_duration=SHORT_S)


@pytest.fixture(scope="module")
def before(devnet: Devnet) -> Held:
    """What is there without any lease."""
    return held(devnet)


@pytest.fixture(scope="module")
def story(devnet: Devnet, before: Held) -> Story:
    """A lease that has just been accepted."""
    story = Story(devnet, Timeline(), DURATION_S)
    story.request()
    return story


@pytest.fixture(scope="module")
def accept(devnet: Devnet, story: Story) -> dict[str, Any]:
    """The lease's accept block with its hash, as the provider's own node has it."""
    with http(devnet, "provider1") as client:
        chain = client.get(f"/accounts/{story.provider.account}/chain").json()
    (found,) = [item for item in chain if item["block"]["type"] == "lease_accept"]
    return found


@pytest.fixture(scope="module")
def visitor(devnet: Devnet, story: Story) -> Visitor:
    """The consumer with its key."""
    return Visitor(devnet.access("consumer1"), story.lease_hash)


def balance(devnet: Devnet, member: str, asset: str) -> int:
    """Units that the account of a node holds, by the node itself."""
    with http(devnet, member) as client:
        return int(client.get(f"/accounts/{devnet.member(member).account}").json()["balances"][asset])


def test_every_node_holds_the_accepted_lease(devnet: Devnet, story: Story, accept: dict[str, Any]) -> None:
    story.check_accepted()
    assert accept["block"]["source"] == story.lease_hash
    for member in devnet.members:
        with http(devnet, member.name) as client:
            assert client.get(f"/blocks/{accept['hash']}").json()["block"] == accept["block"]


def test_its_money_is_in_escrow(devnet: Devnet, story: Story) -> None:
    with http(devnet, "tk1") as client:
        lease = client.get(f"/leases/{story.lease_hash}").json()
        supply = client.get("/supply").json()["XUSD"]
    assert {name: lease[name] for name in REQUEST} == REQUEST
    assert lease["cost"] > 0
    assert (supply["escrow"], supply["stake"]) == (lease["cost"], lease["stake"])


def test_it_is_one_process_at_the_provider(devnet: Devnet, story: Story) -> None:
    (process,) = machines(devnet)
    assert f"xnode-{story.lease_hash[:12]}" in process.cmdline()
    with http(devnet, "provider1") as client:
        (machine,) = client.get("/vms").json()
    assert (machine["lease_hash"], machine["status"]) == (story.lease_hash, "running")


def test_login_checks_the_host_key_of_the_accept_block(visitor: Visitor, accept: dict[str, Any]) -> None:
    host_key = public_key_from_hex(accept["block"]["host_key"])
    assert visitor.login.known_hosts.read_text() == known_hosts_line(visitor.login.alias, 22, host_key) + "\n"
    assert visitor.login.options()["StrictHostKeyChecking"] == "yes"
    assert visitor.ssh("uname").decode() == "Linux\n"


def test_a_file_goes_in_and_comes_out(visitor: Visitor) -> None:
    visitor.copy_by_cat()


def test_exec_at_the_provider_shows_the_same(story: Story, visitor: Visitor) -> None:
    story.execute(visitor.ssh("uname -a").decode())


def test_another_key_is_refused(visitor: Visitor) -> None:
    assert "publickey" in visitor.wrong_key()


def test_another_host_key_is_noticed(visitor: Visitor) -> None:
    assert "Host key verification failed" in visitor.wrong_host()


def test_it_is_settled_on_every_node_and_gone(devnet: Devnet, story: Story, visitor: Visitor) -> None:
    assert len(machines(devnet)) == 1
    story.wait_settled()
    story.check_gone()
    assert machines(devnet) == []
    assert list(DataDir(devnet.root / "provider1").machines.iterdir()) == []
    assert run_program([*ssh_words(visitor.login), "true"]).returncode == 255


def test_the_books_are_right(devnet: Devnet, story: Story) -> None:
    story.check_supply()
    with http(devnet, "consumer1") as client:
        lease = client.get(f"/leases/{story.lease_hash}").json()
        supply = client.get("/supply").json()
    assert (supply["XUSD"]["escrow"], supply["XUSD"]["stake"]) == (0, 0)
    assert balance(devnet, "provider1", "XE") == lease["cost"]  # the reward
    assert balance(devnet, "consumer1", "XUSD") == 1_000_000 - lease["cost"]
    assert balance(devnet, "provider1", "XUSD") == 100_000  # its stake is back


def use(tenant: Tenant) -> str:
    """Leases, logs in, and gives the lease's hash."""
    lease_hash = tenant.lease()
    tenant.visitor(lease_hash).ssh("true")
    return lease_hash


def test_leases_leave_nothing_behind(devnet: Devnet, before: Held, story: Story) -> None:
    story.wait_settled()
    check_as_before(devnet, before)
    files = open_files(devnet)
    for at_once in (1, 1, 2):
        tenants = [Tenant(devnet, SHORT_S) for _ in range(at_once)]
        with ThreadPoolExecutor(at_once) as pool:
            lease_hashes = list(pool.map(use, tenants))
        assert len(machines(devnet)) == at_once
        for lease_hash in lease_hashes:
            wait_for_state(devnet, lease_hash, "settled", SETTLE_S)
        check_as_before(devnet, before)
    check_books(devnet)
    more = {name: count - files[name] for name, count in open_files(devnet).items()}
    assert max(more.values()) <= SPARE_FILES, more
