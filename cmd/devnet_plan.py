"""A local network on paper: who is in it, its genesis, each node's settings and files."""

import json
import random
import secrets
import socket
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from xnode.config import Config, DataDir, check_config, write_private
from xnode.core.attestations import Timekeepers
from xnode.core.faults import OperatorFault
from xnode.core.genesis import (
    DEFAULT_FAUCET,
    DEFAULT_RATES,
    DEFAULT_TIMING,
    Allocation,
    Genesis,
    check_genesis,
)
from xnode.core.keys import SigningKey
from xnode.core.keyset import Keyset
from xnode.core.values import Address, Asset, PublicKey
from xnode_cmd.genesis import majority
from xnode_cmd.peer_ids import peer_id_of

WORK_TRIES: Final = 2**10  # on average for one block: about a millisecond
DIFFICULTY: Final = 2**64 - 2**64 // WORK_TRIES
TIMEKEEPER_XUSD: Final = 1_000_000
CONSUMER_XUSD: Final = 1_000_000
PROVIDER_XUSD: Final = 100_000  # what it stakes from
NODES_MAX: Final = 50
SLOW_BOOT_TIMEOUT_S: Final = 300  # a full distribution without hardware virtualisation
PORTS: Final = (20_000, 32_000)  # below the range from which systems take ports for outgoing connections
PORT_TRIES_MAX: Final = 1_000
PLAN_FILE: Final = "devnet.json"


class Plan(NamedTuple):
    """What a network is made of; `images_dir` "" means each provider's own, `min_duration` in seconds."""

    timekeepers: int = 3
    providers: int = 1
    consumers: int = 1
    image: str = "tiny"
    images_dir: str = ""
    min_duration: int = DEFAULT_TIMING.lease_duration_min

    def names(self) -> tuple[str, ...]:
        """Every node's name: tk1, tk2, ..., provider1, ..., consumer1, ..."""
        kinds = (("tk", self.timekeepers), ("provider", self.providers), ("consumer", self.consumers))
        return tuple(f"{kind}{number}" for kind, count in kinds for number in range(1, count + 1))


class Member(NamedTuple):
    """One node of the network; ports on 127.0.0.1."""

    name: str
    api_port: int
    peer_port: int
    peer_id: str
    account: str

    @property
    def kind(self) -> str:
        """tk, provider or consumer."""
        return self.name.rstrip("0123456789")

    @property
    def api_url(self) -> str:
        """Where its API answers."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def address(self) -> str:
        """Where its peers find it."""
        return f"/ip4/127.0.0.1/tcp/{self.peer_port}/p2p/{self.peer_id}"


def check_plan(plan: Plan) -> Plan:
    """Returns it, or raises OperatorFault(bad_plan)."""
    if plan.timekeepers < 1 or min(plan.providers, plan.consumers) < 0 or len(plan.names()) > NODES_MAX:
        message = f"a network needs a timekeeper at least and has {NODES_MAX} nodes at most"
        raise OperatorFault("bad_plan", message)
    return plan


def write_network(root: Path, plan: Plan) -> tuple[Member, ...]:
    """Makes the files of every node below `root`, the plan last; raises OperatorFault."""
    names = check_plan(plan).names()
    if (root / PLAN_FILE).exists():
        message = f"{root} already holds a network; `xnode devnet down --purge` removes it"
        raise OperatorFault("data_dir_exists", message)
    root.mkdir(parents=True, exist_ok=True)
    ports = free_ports(2 * len(names))
    account_seeds = {name: secrets.token_bytes(32) for name in names}
    accounts = {name: SigningKey(seed) for name, seed in account_seeds.items()}
    genesis = make_genesis(plan, {name: Address(key.public_key) for name, key in accounts.items()})
    members: list[Member] = []
    for index, name in enumerate(names):
        peer_seed = secrets.token_bytes(32)
        account = accounts[name].public_key.hex()
        member = Member(name, ports[2 * index], ports[2 * index + 1], peer_id_of(peer_seed), account)
        config = make_node_config(plan, member, members)
        data_dir = DataDir(root / name)
        data_dir.create(genesis, config)
        write_private(data_dir.account_key, account_seeds[name].hex() + "\n")
        write_private(data_dir.peer_key, peer_seed.hex() + "\n")
        members.append(member)
    save_plan(root, plan, members)
    return tuple(members)


def make_genesis(plan: Plan, accounts: dict[str, Address]) -> Genesis:
    """A genesis for test money: cheap work, the faucet on, the first timekeeper votes for all until others claim."""
    amounts = {"tk": TIMEKEEPER_XUSD, "provider": PROVIDER_XUSD, "consumer": CONSUMER_XUSD}
    allocations = tuple(
        Allocation(account, Asset.XUSD, amounts[name.rstrip("0123456789")]) for name, account in accounts.items()
    )
    keys = tuple(PublicKey(account) for name, account in accounts.items() if name.startswith("tk"))
    return check_genesis(
        Genesis(
            network_id=f"devnet-{secrets.token_hex(4)}",
            created_at=time.time_ns(),
            allocations=allocations,
            representative=accounts["tk1"],
            faucet=DEFAULT_FAUCET._replace(enabled=True),
            work_difficulty=DIFFICULTY,
            rates=DEFAULT_RATES,
            timing=DEFAULT_TIMING._replace(lease_duration_min=plan.min_duration),
            dao=Keyset(keys, majority(len(keys))),
            timekeepers=Timekeepers(keys, majority(len(keys))),
        )
    )


def make_node_config(plan: Plan, member: Member, earlier: list[Member]) -> Config:
    """A node's settings: fixed ports, so that a restart keeps them, and everybody before it as a peer."""
    config = Config(
        api_port=member.api_port,
        listen=(f"/ip4/127.0.0.1/tcp/{member.peer_port}",),
        peers=tuple(other.address for other in earlier),
        mdns=False,
        provide=member.kind == "provider",
        timekeeper=member.kind == "tk",
        machine_image=plan.image,
        machine_images_dir=plan.images_dir,
    )
    if plan.image != "tiny":
        config = config._replace(machine_boot_timeout_s=SLOW_BOOT_TIMEOUT_S)
    return check_config(config)


def free_ports(count: int) -> list[int]:
    """Distinct ports on which nobody listens now; raises OperatorFault(no_ports)."""
    found: set[int] = set()
    for _ in range(PORT_TRIES_MAX):
        if len(found) == count:
            return sorted(found)
        port = random.SystemRandom().randrange(*PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
    raise OperatorFault("no_ports", f"found no {count} free ports from {PORTS[0]} to {PORTS[1]}")


def save_plan(root: Path, plan: Plan, members: list[Member]) -> None:
    """The file that says that the network is whole."""
    document = {"plan": plan._asdict(), "members": [member._asdict() for member in members]}
    (root / PLAN_FILE).write_text(json.dumps(document, indent=2) + "\n")


def load_plan(root: Path) -> tuple[Plan, tuple[Member, ...]]:
    """The network in `root`; raises OperatorFault(no_devnet)."""
    try:
        document: dict[str, Any] = json.loads((root / PLAN_FILE).read_text())
        return Plan(**document["plan"]), tuple(Member(**item) for item in document["members"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"there is no network in {root}; make one with `xnode devnet up`"
        raise OperatorFault("no_devnet", message) from error
