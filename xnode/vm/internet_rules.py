"""What a machine with internet may reach, and the words for nft, ip and tc that make it so. Pure.

Theory of operation. Such a machine's QEMU runs in a network namespace of its own. It is no root there, so it can't
change the rules; its guest's connections are QEMU's own sockets. One link leads out, to the host, which masquerades.
Two tables hold the same closed ranges: one in the namespace, for what QEMU sends, and one on the host, for what comes
out of a link, however it came about. The first outlives a flush of the host's rules, the second follows the host's
addresses. By the first rule that fits:

| to                                    | in the namespace                   | on the host                        |
|---|---|---|
| a connection that stands              | accepted                           | accepted, back into a link too     |
| the namespace's own loopback          | the node's user only (SSH)         |                                    |
| any address of the host               | closed, as it stood at the start   | dropped                            |
| another machine's link                | closed: links lie in closed ranges | dropped                            |
| the resolver, port 53                 | as far as number and rate allow    | accepted                           |
| CLOSED, the operator's, the host's    | refused                            | dropped                            |
| TCP port 25, unless opened            | refused                            |                                    |
| above a number of connections, a rate | refused                            |                                    |
| other TCP, UDP and ping over IPv4     | accepted                           | accepted                           |
| anything else, and all of IPv6        | refused                            | dropped                            |
"""

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from typing import Final, NamedTuple

from xnode.core.faults import OperatorFault
from xnode.core.values import Hash
from xnode.vm.limits import INTERNET_CONNECTIONS_MAX, INTERNET_NEW_BURST, INTERNET_NEW_PER_SECOND_MAX

# IANA's IPv4 special-purpose registry, but for what it calls globally reachable; multicast; 240/4 with the broadcast.
CLOSED: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
LINKS: Final = "198.18.0.0/15"
UPLINK: Final = "uplink"  # the machine's end of its link
TABLE: Final = "xnode"  # in the namespace
_NAME_CHARACTERS: Final = 15  # the kernel's maximum for an interface
_TAG_CHARACTERS: Final = 6
_BURST_BYTES: Final = 64 << 10  # the largest packet that a link carries
_TICK_BYTES_PER_MBIT: Final = 1_250  # in 10 ms, the longest tick of a kernel


class InternetTerms(NamedTuple):
    """What the operator opens; `mbit` of 0 is no cap, else Mbit/s each way."""

    resolver: IPv4Address
    closed: tuple[IPv4Network, ...] = ()  # besides CLOSED
    links: IPv4Network = IPv4Network(LINKS)  # where the addresses of links come from, two each
    opens_smtp: bool = False
    mbit: int = 0


class Link(NamedTuple):
    """One machine's way out: the name of the host's end, the addresses of both, and whose it is."""

    name: str
    host: IPv4Address
    machine: IPv4Address
    owner: Hash


def parse_terms(resolver: str, closed: Iterable[str], links: str, *, opens_smtp: bool, mbit: int) -> InternetTerms:
    """From the settings; raises OperatorFault(bad_config) that names the one to mend."""
    if not resolver:
        raise _fault('internet = "open" needs internet_resolver, the IPv4 address of a DNS resolver, as "9.9.9.9"')
    try:
        address = IPv4Address(resolver)
    except ValueError:
        raise _fault("internet_resolver must be an IPv4 address") from None
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        raise _fault("internet_resolver must be an address that machines can reach: not on loopback, not link-local")
    extra = tuple(_network("internet_closed", text) for text in closed)
    pool = _network("internet_links", links)
    if pool.num_addresses < 2 or not any(pool.subnet_of(network) for network in (*CLOSED, *extra)):
        raise _fault("internet_links must lie in a range that is closed to machines")
    return InternetTerms(address, extra, pool, opens_smtp, mbit)


def _network(name: str, text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise _fault(f"{name}: {error}") from None


def _fault(message: str) -> OperatorFault:
    return OperatorFault("bad_config", f"config: {message}")


def closed_networks(terms: InternetTerms, near: Iterable[IPv4Network]) -> tuple[IPv4Network, ...]:
    """All that is closed, without overlaps; `near` are the networks that the host itself is part of."""
    return tuple(collapse_addresses((*CLOSED, *terms.closed, *near)))


def network_near(address: str, netmask: str) -> IPv4Network:
    """The network of an address of the host; of one that claims more than 2^24 addresses, the address alone."""
    network = IPv4Network((address, netmask), strict=False)
    return network if network.prefixlen >= 8 else IPv4Network(address)


def tag_of(digest: bytes) -> str:
    """What the names of one node's links and table begin with, so that nodes that share a host keep to their own."""
    return f"xn{digest.hex()[: _TAG_CHARACTERS - 2]}"


def link_name(tag: str, lease_hash: Hash) -> str:
    """The name of a machine's link on the host: too short to be nobody else's, so the link's alias says it in full."""
    return tag + lease_hash.hex()[: _NAME_CHARACTERS - len(tag)]


def is_link_of(alias: str, lease_hash: Hash) -> bool:
    """Whether a link of that name is this machine's; one without an alias was made by an earlier version."""
    return alias.strip() in ("", lease_hash.hex())


def choose_link(name: str, links: IPv4Network, lease_hash: Hash, taken: Collection[IPv4Address]) -> Link:
    """Two addresses that nobody on this host has; raises OperatorFault(no_link_left)."""
    pairs = links.num_addresses // 2
    first = int.from_bytes(lease_hash[:4], "big")
    for step in range(min(pairs, len(taken) + 1)):
        host = links[(first + step) % pairs * 2]
        if host not in taken:
            return Link(name, host, host + 1, lease_hash)
    raise OperatorFault("no_link_left", "widen internet_links: every pair of its addresses is in use on this host")


def namespace_rules(terms: InternetTerms, near: Iterable[IPv4Network]) -> str:
    """For nft in a machine's namespace; the node's user, who is root there, reaches its loopback."""
    smtp = "" if terms.opens_smtp else "tcp dport 25 goto refuse"
    # A rule counts what has passed itself: many questions, which are remembered for 30 s, take no connection's place.
    bounded = f"""ct count over {INTERNET_CONNECTIONS_MAX} goto refuse
    limit rate over {INTERNET_NEW_PER_SECOND_MAX}/second burst {INTERNET_NEW_BURST} packets goto refuse
    accept"""
    return f"""
table inet {TABLE} {{
  {_closed_set(terms, near)}
  chain output {{
    type filter hook output priority filter; policy drop;
    ct state established,related accept
    oifname "lo" meta skuid 0 accept
    oifname != "{UPLINK}" goto refuse
    meta nfproto != ipv4 goto refuse
    ip daddr {terms.resolver} meta l4proto {{ tcp, udp }} th dport 53 goto questions
    ip daddr @closed goto refuse
    {smtp}
    meta l4proto {{ tcp, udp }} goto connections
    icmp type echo-request goto connections
    goto refuse
  }}
  chain questions {{
    {bounded}
  }}
  chain connections {{
    {bounded}
  }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname "lo" accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
  }}
}}
"""


def host_rules(tag: str, terms: InternetTerms, near: Iterable[IPv4Network]) -> str:
    """For nft on the host, whatever was there of ours before; it touches nothing but our own links."""
    mine = f'"{tag}*"'
    return f"""{no_host_rules(tag)}
table inet {tag} {{
  {_closed_set(terms, near)}
  chain input {{
    type filter hook input priority filter - 1; policy accept;
    iifname {mine} drop
  }}
  chain forward {{
    type filter hook forward priority filter - 1; policy accept;
    oifname {mine} ct state established,related accept
    oifname {mine} drop
    iifname {mine} goto outward
  }}
  chain outward {{
    meta nfproto != ipv4 drop
    ct state established,related accept
    ip daddr {terms.resolver} meta l4proto {{ tcp, udp }} th dport 53 accept
    ip daddr @closed drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {terms.links} oifname != {mine} masquerade
  }}
}}
"""


def no_host_rules(tag: str) -> str:
    """For nft: without our table, also where there is none."""
    return f"add table inet {tag}\ndelete table inet {tag}\n"


def _closed_set(terms: InternetTerms, near: Iterable[IPv4Network]) -> str:
    elements = ", ".join(map(str, closed_networks(terms, near)))
    return f"set closed {{ type ipv4_addr; flags interval; elements = {{ {elements} }}; }}"


def host_link(link: Link, namespace: str) -> str:
    """For `ip -batch` on the host; `namespace` is a path."""
    return (
        f"link add {link.name} type veth peer name {UPLINK} netns {namespace}\n"
        f"addr add {link.host}/31 dev {link.name}\n"
        f"link set {link.name} alias {link.owner.hex()}\n"
        f"link set {link.name} up\n"
    )


def namespace_link(link: Link) -> str:
    """For `ip -batch` in the namespace."""
    return (
        "link set lo up\n"
        f"addr add {link.machine}/31 dev {UPLINK}\n"
        f"link set {UPLINK} up\n"
        f"route add default via {link.host}\n"
    )


def cap(interface: str, mbit: int) -> str:
    """For `tc -batch`: what leaves by this interface is held to `mbit` Mbit/s."""
    burst = _BURST_BYTES + _TICK_BYTES_PER_MBIT * mbit
    return f"qdisc add dev {interface} root tbf rate {mbit}mbit burst {burst} latency 100ms\n"
