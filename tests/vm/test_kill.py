"""SIGKILL for each of the five processes in the course of leases with real machines: nothing is lost.

One lease lives through the death of every process, one at a time; two more are met before they are accepted. A process
that was killed is looked at twice: what its disk holds before it starts again, and what it says once it is back.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import httpx
import psutil
import pytest

from tests.support.devnet import http, machines, wait_until
from tests.support.leasing import (
    Tenant,
    can_log_in,
    check_books,
    heights,
    lease_at,
    lost,
    machine_status,
    stored_heights,
    wait_for_state,
)
from xnode.config import DataDir
from xnode.core.values import NS
from xnode_cmd.demo_login import Visitor
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.devnet_plan import Plan

pytestmark = [pytest.mark.vm, pytest.mark.slow]

LONG_S = 75  # the lease that sees all five die, each for a few seconds
SHORT_S = 20
DEVNET = Plan(min_duration=SHORT_S)
BOOT_S = 90
BACK_S = 30  # from ready to reachable through its peers
SETTLE_S = 60  # beyond the expiry
WORD = "written before the crash"


class Tenancy(NamedTuple):
    """A lease whose machine runs."""

    lease_hash: str
    visitor: Visitor
    qemu: psutil.Process
    host_key: str


@pytest.fixture(scope="module")
def tenancy(devnet: Devnet) -> Tenancy:
    """The lease that lives through everything, with a file on its machine's disk."""
    tenant = Tenant(devnet, LONG_S)
    lease_hash = tenant.lease()
    visitor = tenant.visitor(lease_hash)
    visitor.ssh("tee /data/kept /tmp/kept; sync", WORD.encode())
    (qemu,) = machines(devnet)
    return Tenancy(lease_hash, visitor, qemu, visitor.login.known_hosts.read_text())


@pytest.fixture
def asker() -> Iterator[ThreadPoolExecutor]:
    """Somebody who waits for an answer in the background."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@contextmanager
def killed(network: Devnet, name: str) -> Iterator[None]:
    """A node is dead inside and back afterwards, with every block that it ever showed."""
    shown = heights(network, name)
    network.kill(name)
    assert lost(shown, stored_heights(network, name)) == {}
    yield
    network.start([name])
    network.wait_ready([name])
    assert lost(shown, heights(network, name)) == {}


def wait_for_expiry(network: Devnet, lease_hash: str) -> None:
    """Sleeps until a lease's time is over."""
    lease = lease_at(network, "consumer1", lease_hash)
    time.sleep(max(0.0, lease["start_time"] / NS + lease["duration"] - time.time()))


@pytest.mark.parametrize("name", ["tk1", "tk2", "tk3"])
def test_a_timekeeper_dies_and_the_tenant_works_on(devnet: Devnet, tenancy: Tenancy, name: str) -> None:
    with killed(devnet, name):
        assert can_log_in(tenancy.visitor)


def test_the_provider_dies_and_its_machine_runs_on(devnet: Devnet, tenancy: Tenancy) -> None:
    with killed(devnet, "provider1"):
        assert machines(devnet) == [tenancy.qemu]
        assert not can_log_in(tenancy.visitor)
    wait_until(lambda: can_log_in(tenancy.visitor), BACK_S, "a login after the provider's restart")
    assert machines(devnet) == [tenancy.qemu]
    assert tenancy.visitor.ssh("cat /data/kept").decode() == WORD
    with http(devnet, "provider1") as client:
        answer = client.post(f"/vms/{tenancy.lease_hash}/exec", json={"command": "cat /tmp/kept"}).json()
        (machine,) = client.get("/vms").json()
    assert (answer["exit_code"], answer["stdout"]) == (0, WORD)
    assert (machine["lease_hash"], machine["status"]) == (tenancy.lease_hash, "running")


def test_the_consumer_dies_and_finds_its_lease_again(devnet: Devnet, tenancy: Tenancy) -> None:
    with killed(devnet, "consumer1"):
        assert machine_status(devnet, tenancy.lease_hash) == "running"
    wait_until(lambda: can_log_in(tenancy.visitor), BACK_S, "a login after the consumer's restart")
    found = Visitor(devnet.access("consumer1"), tenancy.lease_hash)
    assert found.login.known_hosts.read_text() == tenancy.host_key
    assert found.ssh("cat /data/kept").decode() == WORD


def test_the_provider_dies_while_a_machine_boots(devnet: Devnet, tenancy: Tenancy, asker: ThreadPoolExecutor) -> None:
    tenant = Tenant(devnet, SHORT_S)
    request = asker.submit(tenant.lease)
    lease_hash = wait_for_boot(devnet, tenant, request)
    with killed(devnet, "provider1"):
        assert lease_at(devnet, "consumer1", lease_hash)["state"] == "created"
    assert request.result(BOOT_S) == lease_hash
    wait_until(lambda: can_log_in(tenant.visitor(lease_hash)), BACK_S, "a login to the machine that booted twice")
    assert machine_names(devnet).count(f"xnode-{lease_hash[:12]}") == 1


def machine_names(network: Devnet) -> list[str]:
    """The names of the machines that run; one of another lease may end while we look."""
    names = []
    for process in machines(network):
        with suppress(psutil.Error):
            names += process.cmdline()[2:3]
    return names


def wait_for_boot(network: Devnet, tenant: Tenant, request: "Future[object]") -> str:
    """The hash of the lease that a tenant waits for, once its QEMU runs and nobody has accepted yet."""

    def booting() -> list[str]:
        assert not request.done(), request
        running = " ".join(machine_names(network))
        return [item["lease_hash"] for item in tenant.seen_by("tk1") if item["lease_hash"][:12] in running]

    return wait_until(booting, BOOT_S, "a machine that boots")[0]


def test_the_lease_that_saw_it_all_is_settled(devnet: Devnet, tenancy: Tenancy) -> None:
    wait_for_expiry(devnet, tenancy.lease_hash)
    wait_for_state(devnet, tenancy.lease_hash, "settled", SETTLE_S)
    wait_until(lambda: not tenancy.qemu.is_running(), SETTLE_S, "the end of its machine")


def test_the_consumer_dies_while_it_waits(devnet: Devnet, asker: ThreadPoolExecutor) -> None:
    tenant = Tenant(devnet, SHORT_S)
    request = asker.submit(tenant.ask, "asked-twice")
    lease_hash = wait_for_boot(devnet, tenant, request)
    with killed(devnet, "consumer1"), pytest.raises(httpx.TransportError):
        request.result(BACK_S)
    again = tenant.ask("asked-twice")  # as a careful program does; it may not be leased a second machine
    assert (again.status_code, again.json()) == (200, {"lease_hash": lease_hash})
    assert len(tenant.seen_by("consumer1")) == 1
    wait_until(lambda: can_log_in(tenant.visitor(lease_hash)), BACK_S, "a login to the machine of the killed request")


def test_the_provider_is_dead_when_a_lease_expires(devnet: Devnet) -> None:
    lease_hash = a_running_lease(devnet)
    with killed(devnet, "provider1"):
        wait_for_expiry(devnet, lease_hash)
        assert machines(devnet) != []
    wait_for_state(devnet, lease_hash, "settled", SETTLE_S)


def a_running_lease(network: Devnet) -> str:
    """The youngest, such as that of the test before; a new one where none runs."""
    running = [item for item in leases(network) if item["state"] == "accepted"]
    return str(running[-1]["lease_hash"]) if running else Tenant(network, SHORT_S).lease()


def leases(network: Devnet) -> list[dict[str, Any]]:
    """All leases, as a timekeeper has them."""
    with http(network, "tk1") as client:
        return list(client.get("/leases").json())


def test_all_nodes_have_the_same_books(devnet: Devnet) -> None:
    for lease in leases(devnet):
        wait_for_state(devnet, lease["lease_hash"], "settled", SHORT_S + SETTLE_S)
    check_books(devnet)
    with http(devnet, "consumer1") as client:
        held = client.get(f"/accounts/{devnet.member('consumer1').account}").json()["balances"]
    assert held["XUSD"] == 1_000_000 - sum(item["cost"] for item in leases(devnet))


def test_nothing_is_left_and_every_store_is_sound(devnet: Devnet) -> None:
    folder = DataDir(devnet.root / "provider1").machines
    wait_until(lambda: not machines(devnet) and not list(folder.iterdir()), SETTLE_S, "the end of the last machine")
    shown = {member.name: heights(devnet, member.name) for member in devnet.members}
    devnet.stop()
    for name, expected in shown.items():
        assert stored_heights(devnet, name) == expected, name
