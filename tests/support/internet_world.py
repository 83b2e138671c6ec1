"""A small internet on one host, in network namespaces made for it, and the story of two machines in it.

    internet (answers at every address) --- wan0 [host] lan0 --- private network (192.168.77.2, 10.1.1.1)
                                                  |
                                           one link a machine

`python -m tests.support.internet_world FOLDER` makes the world, starts a node's driver that is killed while its
machines run and another that takes them over, and prints as JSON what the first machine heard. Needs root. All of it
ends with it: namespaces live only in its processes.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

import trio

from tests.support import internet_server
from tests.support.qemu import IMAGE_STORE, ended, new_consumer, new_spec, open_driver, settings
from xnode.core.machine import NOBODY
from xnode.core.values import Hash
from xnode.vm.internet import Internet
from xnode.vm.internet_rules import InternetTerms
from xnode.vm.net_namespace import Namespaces, in_new_namespace
from xnode_cmd.doctor_checks import internet

RESOLVER: Final = "9.9.9.9"
SITE: Final = "8.8.8.8"
HOST: Final = ("11.9.9.2", "192.168.77.1", "45.45.45.45")  # the host's own addresses, one of them public
LATE: Final = "46.46.46.46"  # an address that the host gets when the machines run
BANNED: Final = "7.7.7.7"  # closed by the operator
NEIGHBOUR: Final = "11.9.9.1"  # public, but in a network that the host is part of
PRIVATE: Final = ("192.168.77.2", "10.1.1.1")
RANGES: Final = (
    "0.1.2.3", "10.0.0.1", "100.64.1.1", "100.127.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.254",
    "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.77.77", "198.19.0.1", "198.51.100.7",
    "203.0.113.9", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255",
)  # fmt: skip
UNSENDABLE: Final = ("224.0.0.1", "239.1.2.3", "255.255.255.255")  # by TCP nowhere, from nobody
NEAR: Final = ("100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.1", "192.169.0.1", "223.255.255.1")
TERMS: Final = InternetTerms(IPv4Address(RESOLVER), (IPv4Network("7.7.7.0/24"),), mbit=50)
PORT: Final = 80
_NEW_NETWORK: Final = 0x40000000


Heard = dict[str, Any]


def main() -> None:
    """Makes the world, and tells the story in it."""
    folder = Path(sys.argv[1])
    assert ctypes.CDLL(None).unshare(_NEW_NETWORK) == 0
    with contextlib.ExitStack() as stack:
        _make_world(stack)
        heard: Heard = {"doctor": _doctor(), "control": _control(), "burst": _burst()}
        heard |= _play(_first_node, folder, -signal.SIGKILL)
        heard["away"] = {"links": len(_links()), "tables": len(_tables())}
        heard |= _play(_second_node, folder, 0)
        heard["left"] = _left(folder, heard["namespaces"])
    sys.stdout.write(json.dumps(heard))


def _play(part: Callable[[Path, int], Awaitable[None]], folder: Path, end: int) -> Heard:
    """What a part says, in a process of its own, which ends with this status."""
    reading, writing = os.pipe()
    child = _fork(lambda: trio.run(part, folder, writing))
    os.close(writing)
    with open(reading) as said:
        heard: Heard = json.loads(said.read() or "{}")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == end, (status, heard)
    return heard


def _fork(work: Callable[[], object]) -> int:
    """A child that does this and ends: it need not load again what is loaded."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def _ip(*lines: str) -> None:
    subprocess.run(("ip", "-batch", "-"), input="\n".join(lines).encode() + b"\n", check=True)


def _make_world(stack: contextlib.ExitStack) -> None:
    _ip("link set lo up", f"addr add {HOST[2]}/32 dev lo")
    _neighbour(stack, "wan0", ("11.9.9.2", NEIGHBOUR), (RESOLVER, SITE))
    _neighbour(stack, "lan0", ("192.168.77.1", PRIVATE[0]), ())
    _ip(f"route add default via {NEIGHBOUR}", f"route add 10.1.1.1 via {PRIVATE[0]}")
    stack.enter_context(_serving(()))  # the host's own API port


def _neighbour(stack: contextlib.ExitStack, name: str, ends: tuple[str, str], names: tuple[str, ...]) -> None:
    """Another host at the end of a link: it takes every address for its own, and answers there."""

    def build(namespaces: Namespaces) -> None:
        namespaces.enter(namespaces.outside)
        _ip(
            f"link add {name} type veth peer name end netns {namespaces.path(namespaces.inside)}",
            f"addr add {ends[0]}/24 dev {name}",
            f"link set {name} up",
        )
        namespaces.enter(namespaces.inside)
        _ip("link set lo up", f"addr add {ends[1]}/24 dev end", "link set end up")
        _ip("route add local default dev lo table main", *(f"addr add {address}/32 dev lo" for address in names))
        stack.enter_context(_serving((ends[1], *names)))

    in_new_namespace(build)


@contextlib.contextmanager
def _serving(names: tuple[str, ...]) -> Iterator[None]:
    reading, writing = os.pipe()
    server = _fork(lambda: trio.run(internet_server.serve, names, writing))
    os.close(writing)
    try:
        assert os.read(reading, 1) == internet_server.READY
        yield
    finally:
        os.close(reading)
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)


def _control() -> list[str]:
    """Who does not answer the host itself: everything that a machine does not hear is there."""
    hosts = (*HOST, NEIGHBOUR, BANNED, *PRIVATE, SITE, *RANGES, *NEAR)
    return [address for address in hosts if address not in UNSENDABLE and not _greets(address)]


def _greets(address: str) -> bool:
    try:
        with socket.create_connection((address, PORT), 3) as sock:
            return sock.recv(64) == internet_server.GREETING
    except OSError:
        return False


def _doctor() -> list[Any]:
    """What `xnode doctor` says of a host that forwards nothing, of one whose resolver is silent, and of a fit one."""
    said = []
    for switch, resolver in (("0", RESOLVER), ("1", "8.8.4.4"), ("1", RESOLVER)):
        Path("/proc/sys/net/ipv4/ip_forward").write_text(switch)
        terms = TERMS._replace(resolver=IPv4Address(resolver))
        said.append(internet(terms, Path("/nowhere")))
    return [_as_nobody(), *said, _links() + _tables()]


def _as_nobody() -> str:
    """What is said to a node that is not root."""
    reading, writing = os.pipe()

    def ask() -> None:
        os.setuid(65534)
        os.write(writing, internet(TERMS, Path("/nowhere")).hint.encode())

    child = _fork(ask)
    os.close(writing)
    with open(reading) as said:
        heard = said.read()
    os.waitpid(child, 0)
    return heard


def _burst() -> int:
    """How many of many new flows at once get out."""
    return Internet(TERMS, Path("/nowhere")).try_out(lambda: sum(_is_sent(number) for number in range(800)))


def _is_sent(number: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            return sock.sendto(b"", (SITE, 10_000 + number)) == 0
        except OSError:
            return False


async def _first_node(folder: Path, said: int) -> None:
    """Boots a machine and a spare that becomes another, asks the first what it reaches, and dies."""
    specs = [new_spec(new_consumer()), new_spec(new_consumer())._replace(access_key=NOBODY)]
    async with open_driver(_settings(folder)) as driver:
        for spec in specs:
            await driver.create(spec)
        async with trio.open_nursery() as nursery:
            for spec in specs:
                nursery.start_soon(driver.start, spec.lease_hash)
        leased = new_spec(new_consumer())
        await driver.take(specs.pop().lease_hash, leased)
        told: list[object] = []
        await driver.start(leased.lease_hash, told.append)
        specs.append(leased)
        _ip(f"addr add {LATE}/32 dev lo")
        records = [driver._entries[spec.lease_hash].record for spec in specs]
        first, ports = specs[0].lease_hash, tuple(record.ssh_port for record in records)
        others = [str(address) for address in _link_addresses()]
        hosts = (SITE, *NEAR, *HOST, LATE, NEIGHBOUR, BANNED, *PRIVATE, *RANGES)
        places = [(host, PORT) for host in hosts] + [(SITE, 25)]
        places += [(host, port) for host in ("10.0.2.2", "10.0.2.3", *others) for port in (PORT, *ports)]
        heard = {
            "reached": await _ask(driver, first, places),
            "names": await _names(driver, first),
            "pings": await _pings(driver, first),
            "spare": told,
            "links": len(others) // 2,
            "caps": _caps(),
            "ports shown": [machine.ssh_port for machine in driver.machines()],
            "ssh": (await _first_bytes(driver, first)).decode(),
            "namespaces": [_namespace_of(record.pid) for record in records],
        }
    _say(said, heard)
    os.kill(os.getpid(), signal.SIGKILL)


async def _second_node(folder: Path, said: int) -> None:
    """Takes the machines over, looks after the host's rules, and destroys one after the other."""
    async with open_driver(_settings(folder)) as driver:
        adopted = [str(machine.status) for machine in await driver.adopt()]
        first, second = (machine.spec.lease_hash for machine in driver.machines())  # whichever was the spare
        places = [(host, PORT) for host in (SITE, *HOST, *PRIVATE)]
        heard: Heard = {"adopted": adopted, "again": await _ask(driver, first, places)}
        await trio.run_process(("nft", "flush", "ruleset"))
        heard["flushed"] = await _ask(driver, first, [place for place in places if place[0] != SITE])
        await driver.refresh()
        heard["mended"] = await _ask(driver, first, [*places, (LATE, PORT)])
        await driver.reset(first)
        heard["fresh"] = await _ask(driver, first, [*places, (LATE, PORT)])
        await driver.destroy(first, ended(first))
        heard["halfway"] = {"links": len(_links()), "tables": len(_tables())}
        heard["other"] = await _ask(driver, second, [(SITE, PORT)])
        await driver.destroy(second, ended(second))
    _say(said, heard)


def _say(descriptor: int, heard: Heard) -> None:
    with open(descriptor, "w") as said:
        json.dump(heard, said)


def _settings(folder: Path) -> Any:
    return settings(folder, IMAGE_STORE)._replace(internet=TERMS)


async def _ask(driver: Any, lease_hash: Hash, places: list[tuple[str, int]]) -> list[str]:
    """Where somebody greets the machine, by TCP: `address:port`."""
    asks = " ".join(
        f"nc -w {_patience(host)} {host} {port} </dev/null >{host}:{port} 2>/dev/null &" for host, port in places
    )
    script = f"mkdir -p /tmp/heard && cd /tmp/heard && rm -f * && {{ {asks} wait; grep -lE 'GREETING|SSH-' *; }}"
    heard = set((await driver.execute(lease_hash, script, 60)).stdout.decode().split())
    return [f"{host}:{port}" for host, port in places if f"{host}:{port}" in heard]


def _patience(host: str) -> int:
    """Seconds; a loaded machine may need many for what is open, and what is closed is mostly refused at once."""
    return 10 if host in ("", RESOLVER, SITE, *NEAR) else 2


async def _names(driver: Any, lease_hash: Hash) -> list[str]:
    """Which resolvers answer, by UDP; "own" is what the machine asks by itself."""
    servers = {"own": "", **{server: server for server in (RESOLVER, SITE, PRIVATE[0], NEIGHBOUR, HOST[0])}}
    asks = " ".join(
        f"(timeout {_patience(server)} nslookup -type=a example.org {server} 2>&1 | grep -q 1.2.3.4 && echo {name}) &"
        for name, server in servers.items()
    )
    heard = (await driver.execute(lease_hash, f"{asks} wait", 30)).stdout.decode().split()
    return [name for name in servers if name in heard]


async def _pings(driver: Any, lease_hash: Hash) -> list[str]:
    asks = " ".join(
        f"(ping -c 1 -W {_patience(at)} {at} >/dev/null 2>&1 && echo {at}) &"
        for at in (SITE, PRIVATE[0], HOST[0], HOST[2])
    )
    heard: list[str] = (await driver.execute(lease_hash, f"{asks} wait", 30)).stdout.decode().split()
    return heard


def _caps() -> int:
    """How many links are held to their share."""
    shown = subprocess.run(("tc", "-j", "qdisc", "show"), capture_output=True, check=True).stdout
    return sum(item["kind"] == "tbf" and item["dev"].startswith("xn") for item in json.loads(shown))


async def _first_bytes(driver: Any, lease_hash: Hash) -> bytes:
    async with await driver.dial_ssh(lease_hash) as stream:
        return bytes(await stream.receive_some(4))


def _links() -> list[str]:
    return [name for _, name in socket.if_nameindex() if name.startswith("xn")]


def _link_addresses() -> list[IPv4Address]:
    """Of both ends of all links."""
    shown = subprocess.run(("ip", "-j", "-4", "addr"), capture_output=True, check=True).stdout
    hosts = [
        IPv4Address(item["local"])
        for link in json.loads(shown)
        if link["ifname"].startswith("xn")
        for item in link["addr_info"]
    ]
    return [address for host in hosts for address in (host, host + 1)]


def _tables() -> list[str]:
    shown = subprocess.run(("nft", "list", "tables"), capture_output=True, check=True).stdout.decode()
    return [line for line in shown.splitlines() if line]


def _namespace_of(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def _left(folder: Path, namespaces: list[int]) -> dict[str, list[Any]]:
    """What is still there of the machines."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    living = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            living.add(_namespace_of(pid))
    return {
        "links": _links(), "tables": _tables(), "files": [path.name for path in folder.iterdir()],
        "processes": [pid for pid in pids if _works_in(pid, folder)],
        "namespaces": sorted(living & set(namespaces)),
    }  # fmt: skip


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder)
    except OSError:
        return False


if __name__ == "__main__":
    main()
