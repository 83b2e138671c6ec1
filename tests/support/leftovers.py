"""What leases take up on a host: counted before and after, it must be the same."""

import contextlib
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from tests.support.devnet import http, machines
from tests.support.leasing import SIZES
from xnode.config import DataDir
from xnode_cmd.devnet_network import Devnet

GONE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.5  # a look goes through all processes of the host
SPARE_FILES: Final = 5  # of connections that come and go; one that leaks at each login or machine makes more


class Held(NamedTuple):
    """What machines and tunnels take up; what is a dict is by node."""

    machines: list[int]
    directories: list[str]
    ports: set[int]
    zombies: dict[str, int]
    reserved: dict[str, int]
    active_leases: int


def held(network: Devnet) -> Held:
    """All of it, now; the capacity as the consumer has heard of it."""
    nodes, running = processes(network), machines(network)
    folder = DataDir(network.root / "provider1").machines
    with http(network, "consumer1") as client:
        (provider,) = client.get("/providers").json()
    return Held(
        machines=[process.pid for process in running],
        directories=[path.name for path in folder.iterdir()] if folder.exists() else [],
        ports={port for process in [*nodes.values(), *running] for port in listening(process)},
        zombies={name: zombies(process) for name, process in nodes.items()},
        reserved={name: provider[name] - provider[f"available_{name}"] for name in SIZES},
        active_leases=provider["active_leases"],
    )


def processes(network: Devnet) -> dict[str, psutil.Process]:
    """The node processes by name."""
    return {member.name: psutil.Process(network.process(member.name).pid()) for member in network.members}


def listening(process: psutil.Process) -> list[int]:
    """The TCP ports on which it listens; none where it ends while we look."""
    try:
        found = process.net_connections("tcp")
    except psutil.NoSuchProcess:
        return []
    return [item.laddr.port for item in found if item.status == psutil.CONN_LISTEN]


def zombies(process: psutil.Process) -> int:
    """Children that have ended and that nobody has asked about."""
    return sum(_is_zombie(child) for child in process.children(recursive=True))


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # reaped while we look
        return False


def open_files(network: Devnet) -> dict[str, int]:
    """Files and sockets of each node, without the pipes to the workers that search for work when they are needed."""
    return {name: len(_links(process)) for name, process in processes(network).items()}


def _links(process: psutil.Process) -> list[str]:
    links: list[str] = []
    for path in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(path.readlink().name)
    return [link for link in links if not link.startswith("pipe:")]


def check_as_before(network: Devnet, before: Held) -> None:
    """Waits until the leases hold nothing any more."""
    deadline = time.monotonic() + GONE_SECONDS
    while (now := differing(held(network), before)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    assert now == {}


def differing(now: Held, before: Held) -> dict[str, tuple[Any, Any]]:
    """What is not the same: (now, before) by name."""
    pairs = zip(Held._fields, now, before, strict=True)
    return {name: (here, there) for name, here, there in pairs if here != there}
