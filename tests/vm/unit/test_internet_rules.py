"""Which addresses are closed, and how links are named and numbered: by table."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from xnode.core.faults import OperatorFault
from xnode.core.values import Hash
from xnode.vm.internet_rules import (
    LINKS,
    InternetTerms,
    cap,
    choose_link,
    closed_networks,
    host_link,
    host_rules,
    is_link_of,
    link_name,
    namespace_rules,
    network_near,
    parse_terms,
    tag_of,
)

TERMS = InternetTerms(IPv4Address("9.9.9.9"), (IPv4Network("7.7.7.0/24"),))
NEAR = (IPv4Network("11.9.9.0/24"), IPv4Network("192.168.77.0/24"))
LEASE = Hash(bytes(range(32)))


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1"),
        *("127.255.255.255", "169.254.169.254", "172.16.0.0", "172.31.255.255", "192.0.0.1", "192.0.2.255"),
        *("192.88.99.1", "192.168.0.0", "192.168.255.255", "198.18.0.0", "198.19.255.255", "198.51.100.1"),
        *("203.0.113.255", "224.0.0.0", "239.255.255.255", "240.0.0.0", "255.255.255.255"),
        *("7.7.7.1", "11.9.9.77"),  # the operator's, and a network that the host is part of
    ],
)
def test_closed(address):
    assert any(IPv4Address(address) in network for network in closed_networks(TERMS, NEAR))


@pytest.mark.parametrize(
    "address",
    [
        *("1.0.0.0", "9.9.9.9", "9.255.255.255", "11.0.0.0", "11.9.10.0", "100.63.255.255", "100.128.0.0"),
        *("126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0"),
        *("192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0"),
        *("198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "7.7.8.0"),
    ],
)
def test_open(address):
    assert not any(IPv4Address(address) in network for network in closed_networks(TERMS, NEAR))


def test_both_tables_close_the_same_and_only_one_set_of_ranges():
    wanted = ", ".join(map(str, closed_networks(TERMS, NEAR)))
    for rules in (namespace_rules(TERMS, NEAR), host_rules("xnabcd", TERMS, NEAR)):
        assert rules.count("elements") == 1
        assert f"elements = {{ {wanted} }}" in rules


@pytest.mark.parametrize("opens", [False, True])
def test_mail_is_closed_unless_the_operator_opens_it(opens):
    assert ("dport 25" in namespace_rules(TERMS._replace(opens_smtp=opens), NEAR)) is not opens


def test_the_resolver_is_open_before_ranges_are_closed_and_for_names_only():
    rules = namespace_rules(TERMS._replace(resolver=IPv4Address("192.168.77.1")), NEAR)
    resolver = rules.index("ip daddr 192.168.77.1 meta l4proto { tcp, udp } th dport 53 goto questions")
    assert resolver < rules.index("ip daddr @closed")
    assert rules.count("192.168.77.1 ") == 1


def test_whatever_a_machine_begins_counts_and_what_it_asks_the_resolver_counts_by_itself():
    """What is asked is remembered for 30 s: it took the places of connections."""
    rules = namespace_rules(TERMS, NEAR)
    accepted = [line.strip() for line in rules.partition("chain questions")[0].splitlines() if line.endswith("accept")]
    assert accepted == ["ct state established,related accept", 'oifname "lo" meta skuid 0 accept']
    for name in ("questions", "connections"):
        chain = rules.partition(f"chain {name} {{")[2].partition("}")[0]
        assert [line.split()[0] for line in chain.splitlines() if line.strip()] == ["ct", "limit", "accept"]


@pytest.mark.parametrize(
    ("address", "netmask", "expected"),
    [
        ("192.168.1.7", "255.255.255.0", "192.168.1.0/24"),
        ("45.45.45.45", "255.255.255.255", "45.45.45.45/32"),
        ("11.1.1.1", "255.0.0.0", "11.0.0.0/8"),
        ("11.1.1.1", "0.0.0.0", "11.1.1.1/32"),  # a tunnel that claims the whole world closes only itself
    ],
)
def test_networks_of_the_host(address, netmask, expected):
    assert network_near(address, netmask) == IPv4Network(expected)


def test_names_fit_the_kernel_and_say_whose_they_are():
    tag = tag_of(bytes.fromhex("abcdef"))
    assert tag == "xnabcd"
    assert link_name(tag, LEASE) == "xnabcd000102030"
    assert len(link_name(tag, LEASE)) == 15


def test_a_link_says_whose_it_is_in_full_and_is_nobody_else_s():
    link = choose_link("xnabcd000102030", IPv4Network("10.99.0.0/29"), LEASE, ())
    assert f"link set {link.name} alias {LEASE.hex()}\n" in host_link(link, "/proc/1/ns/net")
    alike = Hash(LEASE[:31] + b"?")
    assert link_name("xnabcd", alike) == link.name
    assert is_link_of(f"{LEASE.hex()}\n", LEASE)
    assert not is_link_of(f"{LEASE.hex()}\n", alike)
    assert is_link_of("\n", LEASE)  # made before links said it


def test_a_link_gets_two_addresses_that_nobody_has():
    links = IPv4Network("10.99.0.0/29")
    taken: set[IPv4Address] = set()
    for _ in range(4):
        link = choose_link("a", links, LEASE, taken)
        assert link.machine == link.host + 1
        assert {link.host, link.machine} <= set(links)
        assert link.host not in taken
        taken.add(link.host)
    with pytest.raises(OperatorFault, match="widen internet_links"):
        choose_link("a", links, LEASE, taken)


def test_a_cap_lets_the_largest_packet_pass():
    assert cap("uplink", 10) == "qdisc add dev uplink root tbf rate 10mbit burst 78036 latency 100ms\n"


def test_settings_are_read():
    terms = parse_terms("9.9.9.9", ["7.7.7.0/24"], LINKS, opens_smtp=False, mbit=0)
    assert terms == TERMS


@pytest.mark.parametrize(
    ("resolver", "closed", "links", "named"),
    [
        ("", [], LINKS, "internet_resolver"),
        ("dns.example", [], LINKS, "internet_resolver"),
        ("::1", [], LINKS, "internet_resolver"),
        ("127.0.0.53", [], LINKS, "internet_resolver"),
        ("169.254.169.254", [], LINKS, "internet_resolver"),
        ("9.9.9.9", ["7.7.7.7/24"], LINKS, "internet_closed"),
        ("9.9.9.9", ["fc00::/7"], LINKS, "internet_closed"),
        ("9.9.9.9", [], "10.0.0.0/33", "internet_links"),
        ("9.9.9.9", [], "10.0.0.1/32", "internet_links"),
        ("9.9.9.9", [], "8.0.0.0/8", "internet_links"),  # open: machines would reach each other
    ],
)
def test_a_wrong_setting_is_named(resolver, closed, links, named):
    with pytest.raises(OperatorFault, match=named) as caught:
        parse_terms(resolver, closed, links, opens_smtp=False, mbit=0)
    assert caught.value.code == "bad_config"
