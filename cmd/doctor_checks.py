"""What `xnode doctor` looks at: each check gives one finding, whatever the others find; none changes anything."""

import ctypes
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import psutil
import trio

from xnode.config import Config
from xnode.core.faults import Fault, MachineFault
from xnode.core.values import NS
from xnode_cmd.node_access import NodeAccess

PROGRAMS: Final = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "prlimit": "util-linux"}
CONNECT_SECONDS: Final = 3.0
CLOCK_AHEAD_MAX: Final = 5 * NS  # of a peer's record before our clock is doubted
TIME_ERROR: Final = 5  # adjtimex(2): the kernel's clock is not synchronised
READY_HINTS: Final = {
    "peers": "name peers in `peers` of config.toml, and open the port of `listen`",
    "timekeepers": "wait, or add peers: a lease can't be accepted without them",
    "quorum": "wait, or add peers: nothing is confirmed without representatives of 67 % of the weight",
    "machines": "look at the machines' directory: a record there can't be read",
}


class Finding(NamedTuple):
    """What one check found; `status` is ok, warn or fail, `hint` what to do, "" where nothing is to be done."""

    name: str
    status: str
    detail: str
    hint: str = ""


def examine(node: NodeAccess, *, provide: bool, boot: bool) -> list[Finding]:
    """All checks that make sense for this node, in order; without readable files there are no others."""
    try:
        node.data_dir.load_genesis()
        node.data_dir.load_account_key()
        node.data_dir.load_peer_seed()
        config = node.data_dir.load_config()
    except Fault as fault:
        return [Finding("files", "fail", f"{node.data_dir.root} is not a sound node's", str(fault))]
    findings = [Finding("files", "ok", f"keys, genesis and settings in {node.data_dir.root}")]
    ready = ready_checks(node)
    findings += ready if ready else [Finding("node", "warn", "it does not run", node.not_running_hint())]
    findings += [] if ready else [*ports(config), *configured_peers(config)]
    findings.append(clock(node, is_running=bool(ready)))
    if config.provide or provide:
        findings += [*programs(), memory(config), disk(node, config), *machines(node, config, boot=boot)]
    return findings


def ready_checks(node: NodeAccess) -> list[Finding]:
    """What the running node says of itself; nothing where none answers."""
    try:
        with node.client() as client:
            _, ready = client.status_of("/ready")
    except (Fault, click.ClickException):
        return []
    findings = [Finding("node", "ok", f"it runs, API at {node.api_url()}")]
    for name, check in ready["checks"].items():
        hint = "" if check["ok"] else READY_HINTS.get(name, "look at the node's log")
        findings.append(Finding(name, "ok" if check["ok"] else "fail", check["detail"], hint))
    return findings


def ports(config: Config) -> Iterator[Finding]:
    """Whether the node could listen where it is to."""
    wanted = [("api_port", config.api_bind, config.api_port)]
    wanted += [("listen", *place) for item in config.listen if (place := tcp_of(item))]
    for name, host, port in wanted:
        try:
            with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
                yield Finding("port", "ok", f"{host} port {port} is free")
        except OSError as error:
            yield Finding(
                "port", "fail", f"{host} port {port}: {error.strerror}", f"end what uses it, or change `{name}`"
            )


def configured_peers(config: Config) -> Iterator[Finding]:
    """Whether somebody listens at the configured peers."""
    for address in config.peers:
        place = tcp_of(address)
        if place is None:
            continue
        try:
            with socket.create_connection(place, CONNECT_SECONDS):
                yield Finding("peer", "ok", f"{address} takes connections")
        except OSError as error:
            yield Finding("peer", "warn", f"{address}: {error}", "look whether it still is where you think")


def tcp_of(address: str) -> tuple[str, int] | None:
    """(host, port) of a multiaddress over TCP."""
    words = address.split("/")
    is_tcp = len(words) >= 5 and words[1] in ("ip4", "ip6", "dns", "dns4", "dns6") and words[3] == "tcp"
    return (words[2], int(words[4])) if is_tcp and words[4].isdecimal() else None


def clock(node: NodeAccess, *, is_running: bool) -> Finding:
    """Against what peers have signed, where the node runs, and the kernel's own word on it."""
    hint = "run an NTP client: records and blocks of a wrong clock are refused by others"
    if is_running:
        with node.client() as client:
            ahead = max((item["last_seen"] - time.time_ns() for item in client.get("/providers")), default=0)
        if ahead > CLOCK_AHEAD_MAX:
            return Finding("clock", "fail", f"a peer's record is {ahead / NS:.0f} s ahead of this host", hint)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    if state == TIME_ERROR or state < 0:
        return Finding("clock", "warn", "the kernel does not know whether it is right", hint)
    return Finding("clock", "ok", "the kernel says that it is synchronised")


def programs() -> Iterator[Finding]:
    """What the driver runs."""
    for name, package in PROGRAMS.items():
        path = shutil.which(name)
        status, hint = ("ok", "") if path else ("fail", f"install {package}")
        yield Finding("program", status, path or f"there is no {name}", hint)


def memory(config: Config) -> Finding:
    """Whether a least machine has room beyond the reserve."""
    free = psutil.virtual_memory().available >> 20
    detail = f"{free} MiB available, {config.machine_memory_reserve_mb} kept in reserve"
    if free - config.machine_memory_reserve_mb < 512:
        return Finding("memory", "fail", detail, "free memory, or lower `machine_memory_reserve_mb`")
    return Finding("memory", "ok", detail)


def disk(node: NodeAccess, config: Config) -> Finding:
    """Likewise."""
    free = psutil.disk_usage(str(node.data_dir.root)).free >> 30
    detail = f"{free} GiB free at {node.data_dir.root}, {config.machine_disk_reserve_gb} kept in reserve"
    if free - config.machine_disk_reserve_gb < 1:
        return Finding("disk", "fail", detail, "free some, or move the data directory")
    return Finding("disk", "ok", detail)


def machines(node: NodeAccess, config: Config, *, boot: bool) -> Iterator[Finding]:
    """The image, the accelerator by what it does, and a whole boot."""
    from xnode.vm import accelerator  # not before it is needed: it takes a second
    from xnode.vm.open_driver import qemu_settings

    if config.machine_driver != "qemu":
        hint = "start the node: it looks at limactl and its image before anything else"
        yield Finding("driver", "warn", f"{config.machine_driver} is not tried here", hint)
        return
    try:
        settings = qemu_settings(node.data_dir, config)
    except Fault as fault:
        yield Finding("settings", "fail", fault.code, str(fault))
        return
    image = finding("image", lambda: _verified(settings.image_store, settings.default_image))
    yield image
    try:
        choice = trio.run(accelerator.choose, settings.accelerator, settings.identity(accelerator.kvm_groups()))
        status = "ok" if choice.accelerator == accelerator.KVM else "warn"
        hint = "" if status == "ok" else "machines are emulated, several times slower: your ad says so"
        yield Finding("accelerator", status, f"{choice.accelerator}: {choice.why}", hint)
    except Fault as fault:
        yield Finding("accelerator", "fail", str(fault), "mend `machine_accelerator`")
    if settings.internet is not None:
        yield internet(settings.internet, node.data_dir.root)
    if boot and image.status == "ok":
        yield finding("boot", lambda: _booted(settings, node.data_dir.root))


def internet(terms: Any, folder: Path) -> Finding:
    """Whether machines can be given a way out, and the resolver answers there."""
    from xnode.vm.internet_trial import ask_resolver

    def look() -> str:
        return f"{terms.resolver} answered after {ask_resolver(terms, folder):.2f} s, asked as a machine would"

    return finding("internet", look)


def finding(name: str, look: Callable[[], str]) -> Finding:
    """What `look` says, or the fault that it ends in, whose sentence says what to do."""
    try:
        return Finding(name, "ok", look())
    except Fault as fault:
        evidence = fault.evidence if isinstance(fault, MachineFault) else ""
        return Finding(name, "fail", fault.code, f"{fault}: {evidence}" if evidence else str(fault))


def _verified(store: Path, name: str) -> str:
    from xnode.vm import images

    image = images.open_image(store, name)
    images.verify(image)
    return f"{image.name} is whole"


def _booted(settings: Any, folder: Path) -> str:
    from xnode.vm.self_test import boot_once

    seconds, limits = trio.run(boot_once, settings, folder)
    user = "" if os.geteuid() == 0 else "; not root, so machines run as this user"
    return f"a machine was logged in to after {seconds:.1f} s; {limits}{user}"
