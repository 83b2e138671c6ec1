"""Machines with internet, in a small internet made for the test: what they reach, what they don't, and what they leave.

One story gives all answers (tests/support/internet_world.py): a machine, and one that was a spare, of a node that
is killed and started again.
"""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support import internet_world as world
from tests.support.qemu import CHECKOUT

pytestmark = [pytest.mark.vm, pytest.mark.slow]
SECONDS = 600
OPEN = [f"{host}:80" for host in (world.SITE, *world.NEAR)]
STILL_OPEN = [f"{world.SITE}:80"]


@pytest.fixture(scope="module")
def heard(tiny_image, tmp_path_factory) -> dict[str, Any]:
    """The story, told once; needs root, iproute2 and nftables."""
    folder = tmp_path_factory.mktemp("internet") / "machines"
    folder.mkdir()
    argv = (sys.executable, "-m", "tests.support.internet_world", str(folder))
    ended = subprocess.run(argv, capture_output=True, timeout=SECONDS, cwd=CHECKOUT, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def test_doctor_says_what_a_host_lacks_asks_the_resolver_and_leaves_nothing(heard):
    nobody, *findings, left = heard["doctor"]
    assert "run the node as root" in nobody
    (name, closed, code, hint), silent, fit = findings
    assert (name, closed, code) == ("internet", "fail", "internet_unavailable")
    assert "sysctl -w net.ipv4.ip_forward=1" in hint
    assert silent[1:3] == ["fail", "internet_silent"]
    assert fit[1] == "ok"
    assert fit[2].startswith("9.9.9.9 answered after ")
    assert left == []


def test_everything_that_a_machine_is_kept_from_answers_the_host(heard):
    assert heard["control"] == []


def test_a_machine_reaches_the_internet_and_nothing_else_by_tcp(heard):
    """Not the host at any of its addresses, the private network, a closed range, its own or the other machine's SSH
    port, or port 25; but what lies right beside the closed ranges."""
    assert heard["reached"] == OPEN


def test_it_reaches_resolvers_on_the_internet_by_udp_and_asks_the_operators_by_itself(heard):
    assert heard["names"] == ["own", world.RESOLVER, world.SITE]


def test_it_may_ping_the_internet_only(heard):
    assert heard["pings"] == [world.SITE]


def test_a_flood_of_new_connections_is_cut_off(heard):
    assert 500 <= heard["burst"] <= 700


def test_each_machine_has_a_network_of_its_own_with_a_cap_and_ssh_by_its_provider_only(heard):
    assert len(set(heard["namespaces"])) == 2
    assert (heard["links"], heard["caps"]) == (2, 2)
    assert heard["ports shown"] == [0, 0]  # none on the host's loopback
    assert heard["ssh"] == "SSH-"


def test_a_spare_is_leased_with_the_network_that_it_was_booted_in(heard):
    assert heard["spare"] == ["moved_in"]


def test_machines_keep_their_network_while_the_node_is_dead_and_after_it_is_back(heard):
    assert heard["away"] == {"links": 2, "tables": 1}
    assert heard["adopted"] == ["running", "running"]
    assert heard["again"] == STILL_OPEN


def test_a_flush_of_the_hosts_rules_opens_nothing_and_is_mended(heard):
    assert heard["flushed"] == []
    assert heard["mended"] == STILL_OPEN


def test_a_restarted_machine_has_its_network_again(heard):
    assert heard["fresh"] == STILL_OPEN


def test_the_end_of_one_machine_touches_no_other(heard):
    assert heard["halfway"] == {"links": 1, "tables": 1}
    assert heard["other"] == STILL_OPEN


def test_destroyed_machines_leave_no_link_table_namespace_process_or_file(heard):
    assert heard["left"] == {"links": [], "tables": [], "files": [], "processes": [], "namespaces": []}
