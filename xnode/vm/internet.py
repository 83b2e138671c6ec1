"""A way out for machines, where the operator opens one: builds what internet_rules.py says. All of it blocks.

The host has one table a node, for as long as a link of ours is there, and one link a machine, which the kernel removes
with the machine's namespace (net_namespace.py). So a node that is killed leaves nothing but what its machines use, and
the next run needs no record of it: links are seen by their names and aliases, their addresses by the host's.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final, TypeVar

import psutil

from xnode.core.faults import MachineFault, OperatorFault
from xnode.core.values import NS, Hash
from xnode.vm.internet_rules import (
    UPLINK,
    InternetTerms,
    Link,
    cap,
    choose_link,
    host_link,
    host_rules,
    is_link_of,
    link_name,
    namespace_link,
    namespace_rules,
    network_near,
    no_host_rules,
    tag_of,
)
from xnode.vm.limits import INTERNET_TOOL_SECONDS, INTERNET_UPKEEP_SECONDS
from xnode.vm.net_namespace import Namespaces, in_new_namespace

T = TypeVar("T")
LOG = logging.getLogger(__name__)
PROGRAMS: Final = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables"}
FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")
_PING_GROUPS: Final = Path("/proc/sys/net/ipv4/ping_group_range")  # of the namespace that the thread is in
_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"}


class Internet:
    """`terms` None opens nothing; `root` is the machines' folder, by which this node's links are known."""

    def __init__(self, terms: InternetTerms | None, root: Path) -> None:
        self.terms = terms
        self._tag = tag_of(hashlib.sha256(bytes(root.resolve())).digest())
        self._lock = threading.Lock()
        self._looked_at = 0
        self._may_have_table = _can_have_table()

    def check(self) -> None:
        """Builds a way out and takes it away; raises OperatorFault(internet_unavailable) that says what is missing."""
        try:
            if self.terms is not None:
                _check_host()
                self.try_out(lambda: None)
        except MachineFault as fault:
            raise _unavailable(str(fault)) from fault

    def try_out(self, look: Callable[[], T]) -> T:
        """Looks around in a namespace as a machine's would be; it is gone afterwards."""
        name = Hash(os.urandom(32))
        try:
            return self.within_new(name, os.getegid(), look)
        finally:
            self.remove(name)

    def within_new(self, lease_hash: Hash, ping_group: int, start: Callable[[], T]) -> T:
        """Calls `start` in a new namespace with a way out, and rules that stand before it: what it starts lives there.

        Who is of `ping_group` may ping. Raises MachineFault(internet_failed), and what `start` raises.
        """
        terms = self.terms
        if terms is None:
            raise MachineFault("internet_failed", 'machines get no way out unless internet = "open"')
        with self._lock:
            self._delete(lease_hash)  # of a QEMU that has just ended
            near = _networks_near()
            self._may_have_table = True
            _run(("nft", "-f", "-"), host_rules(self._tag, terms, near))
            taken = {address for address, _ in _addresses()}
            link = choose_link(link_name(self._tag, lease_hash), terms.links, lease_hash, taken)

            def build(namespaces: Namespaces) -> T:
                _build(namespaces, link, terms, near)
                with contextlib.suppress(OSError):  # then it can't ping
                    _PING_GROUPS.write_text(f"{ping_group} {ping_group}")
                return start()

            try:
                return in_new_namespace(build)
            except OSError as error:
                raise MachineFault("internet_failed", f"no network namespace can be made ({error.strerror})") from error

    def tend(self, now: int) -> None:
        """Keeps the host's table as it should be while a link of ours is there, and removes it after that; `now` in ns.

        Somebody may have flushed the host's rules, or given it another address. It never raises.
        """
        if not self._has_links():
            self._remove_table()
        elif self.terms is not None and now - self._looked_at >= INTERNET_UPKEEP_SECONDS * NS:
            self._looked_at = now
            with self._lock, _logged():
                _run(("nft", "-f", "-"), host_rules(self._tag, self.terms, _networks_near()))

    def remove(self, lease_hash: Hash) -> None:
        """Removes a machine's link, should it still be there, and the table with the last one; it never raises."""
        with self._lock:
            self._delete(lease_hash)
        self._remove_table()

    def _delete(self, lease_hash: Hash) -> None:
        name = link_name(self._tag, lease_hash)
        if name in _links() and is_link_of(_alias(name), lease_hash):
            with contextlib.suppress(MachineFault):  # the kernel was faster
                _run(("ip", "link", "delete", "dev", name))

    def _has_links(self) -> bool:
        return any(name.startswith(self._tag) for name in _links())

    def _remove_table(self) -> None:
        with self._lock:
            if self._may_have_table and not self._has_links():
                self._may_have_table = False
                with _logged():
                    _run(("nft", "-f", "-"), no_host_rules(self._tag))


def _build(namespaces: Namespaces, link: Link, terms: InternetTerms, near: Sequence[IPv4Network]) -> None:
    """Rules come before what they rule: at no moment is anything open that should not be."""
    namespaces.enter(namespaces.outside)
    _run(("ip", "-batch", "-"), host_link(link, namespaces.path(namespaces.inside)))
    if terms.mbit:
        _run(("tc", "-batch", "-"), cap(link.name, terms.mbit))
    namespaces.enter(namespaces.inside)
    _run(("nft", "-f", "-"), namespace_rules(terms, near))
    _run(("ip", "-batch", "-"), namespace_link(link))
    if terms.mbit:
        _run(("tc", "-batch", "-"), cap(UPLINK, terms.mbit))


def _check_host() -> None:
    """What can be said without trying; raises OperatorFault(internet_unavailable)."""
    if os.geteuid() != 0:
        raise _unavailable("only root may make network namespaces and rules: run the node as root")
    missing = sorted({package for program, package in PROGRAMS.items() if not _has(program)})
    if missing:
        raise _unavailable(f"install {' and '.join(missing)}")
    if FORWARDING.read_text().strip() != "1":
        message = "this host forwards nothing: run sysctl -w net.ipv4.ip_forward=1, and put it into /etc/sysctl.d"
        raise _unavailable(message)


def _unavailable(what: str) -> OperatorFault:
    message = f'machines can\'t be given a way out: {what}; or set internet = "none"'
    return OperatorFault("internet_unavailable", message)


def _can_have_table() -> bool:
    return os.geteuid() == 0 and _has("nft")


def _has(program: str) -> bool:
    return shutil.which(program, path=_ENVIRONMENT["PATH"]) is not None


def _links() -> list[str]:
    """The interfaces of the host."""
    return [name for _, name in socket.if_nameindex()]


def _alias(name: str) -> str:
    """What is written on a link; "" too where it has just gone."""
    try:
        return Path(f"/sys/class/net/{name}/ifalias").read_text()
    except OSError:
        return ""


def _addresses() -> list[tuple[IPv4Address, str]]:
    """The host's own, each with its netmask."""
    found = [item for items in psutil.net_if_addrs().values() for item in items if item.family == socket.AF_INET]
    return [(IPv4Address(item.address), item.netmask or "255.255.255.255") for item in found]


def _networks_near() -> list[IPv4Network]:
    """The networks that the host is part of."""
    return [network_near(str(address), netmask) for address, netmask in _addresses()]


def _run(argv: Sequence[str], text: str = "") -> None:
    """Runs a tool; raises MachineFault(internet_failed) with its complaint."""
    try:
        ended = subprocess.run(
            argv, input=text.encode(), capture_output=True, env=_ENVIRONMENT, timeout=INTERNET_TOOL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(f"{argv[0]} can't be run ({error})") from error
    if ended.returncode:
        raise _failed(f"{argv[0]} says: {ended.stderr.decode(errors='replace').strip()}")


def _failed(what: str) -> MachineFault:
    return MachineFault("internet_failed", f"a way out can't be made: {what}", retryable=True)


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except MachineFault as fault:
        LOG.error("%s", fault)
