"""Every setting of a node with its unit, default and limit, and the files of its data directory.

`config.toml` in the data directory holds what differs from the defaults below; the command line's flags win over it.
"""

import os
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, get_type_hints

from xnode.core.faults import OperatorFault
from xnode.core.genesis import Genesis, parse_genesis, render_genesis
from xnode.core.keys import SEED_BYTES, SigningKey
from xnode.core.pool import parse_wants
from xnode.core.price import MULTIPLIER_DEFAULT, MULTIPLIER_MAX, MULTIPLIER_MIN

PRIVATE_MODE: Final = 0o600
DEFAULT_DATA_DIR: Final = "~/.xnode"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class Config(NamedTuple):
    """All settings. Sizes in MiB (`_mb`) and GiB (`_gb`), times in seconds (`_s`), peers as multiaddresses."""

    api_bind: str = "127.0.0.1"
    api_port: int = 8080  # 0 to 65535; 0 lets the system choose
    api_cors_origins: tuple[str, ...] = ()
    api_hosts: tuple[str, ...] = ()  # names by which the API may be called, besides localhost and IP addresses
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/7447",)
    announce: tuple[str, ...] = ()  # addresses to publish instead of the listening ones, behind NAT
    peers: tuple[str, ...] = ()  # dialled for as long as the node runs
    mdns: bool = True  # look for peers on the local network
    connections_max: int = 300  # 1 to 10000
    provide: bool = False
    timekeeper: bool = False
    provider_vcpus: int = 0  # 0 offers all of the host's
    provider_memory_mb: int = 0  # 0 offers three quarters of the host's
    provider_disk_gb: int = 0  # 0 offers half of what is free
    provider_multiplier_milli: int = MULTIPLIER_DEFAULT  # 500 to 10000
    machine_driver: str = "qemu"  # qemu or lima
    machine_image: str = "debian"  # the guest that a lease gets when it names none
    machine_images: tuple[str, ...] = ()  # the guests that leases may name besides; () means all of the image store
    machine_images_dir: str = ""  # "" means `images` in the data directory
    machine_accelerator: str = "auto"  # auto, kvm or tcg
    machine_boot_timeout_s: int = 120  # 5 to 600
    machines_max: int = 100  # 1 to 1000
    machine_pool: tuple[str, ...] = ()  # booted before they are leased: image:vcpus:memory_mb:disk_gb:number
    machine_orphan_grace_h: int = 72  # 1 to 8760: how long a machine is kept whose lease the ledger does not know
    machine_uid_first: int = 1_900_000_000  # 0 to 4000000000: users of machines, where the node is root
    machine_uid_count: int = 65_536  # 0 to 1000000: how many; 0 runs all machines as nobody
    machine_disk_reserve_gb: int = 2  # 1 to 1024: disk of the host that no machine may be promised
    machine_memory_reserve_mb: int = 512  # 0 to 1048576: memory of the host, likewise
    internet: str = "none"  # none or open: what machines reach beside their own SSH port
    internet_resolver: str = ""  # the DNS resolver of machines, an IPv4 address; needed where internet is open
    internet_closed: tuple[str, ...] = ()  # IPv4 networks that are closed besides those that always are
    internet_links: str = "198.18.0.0/15"  # where the addresses of machines' links to this host come from, two each
    internet_smtp: bool = False  # TCP port 25 is closed otherwise
    internet_mbit: int = 0  # 0 to 100000: of each machine, each way; 0 is no cap
    tunnels_max: int = 100  # 1 to 10000
    tunnels_per_lease_max: int = 16  # 1 to 1000
    lima_weaker_isolation: bool = False  # must be true for machine_driver = "lima"
    lima_limactl: str = ""  # the program; "" means what LIMACTL names, or limactl on PATH
    lima_home: str = ""  # Lima's own directory; "" means `lima/home` in the data directory
    lima_user: str = ""  # whom limactl runs as, where the node runs as root
    lima_image: str = ""  # path or URL of a disk image that runs cloud-init
    lima_image_digest: str = ""  # sha256:... or sha512:... of it
    debug_loop: bool = False  # report tasks that keep the loop for longer than 10 ms


LIMITS: Final[dict[str, tuple[int, int]]] = {
    "api_port": (0, 65_535),
    "connections_max": (1, 10_000),
    "provider_vcpus": (0, 4_096),
    "provider_memory_mb": (0, 67_108_864),
    "provider_disk_gb": (0, 1_048_576),
    "provider_multiplier_milli": (MULTIPLIER_MIN, MULTIPLIER_MAX),
    "machine_boot_timeout_s": (5, 600),
    "machines_max": (1, 1_000),
    "machine_orphan_grace_h": (1, 8_760),
    "machine_uid_first": (0, 4_000_000_000),
    "machine_uid_count": (0, 1_000_000),
    "machine_disk_reserve_gb": (1, 1_024),
    "machine_memory_reserve_mb": (0, 1_048_576),
    "internet_mbit": (0, 100_000),
    "tunnels_max": (1, 10_000),
    "tunnels_per_lease_max": (1, 1_000),
}


def _fault(message: str) -> OperatorFault:
    return OperatorFault("bad_config", f"config: {message}")


def parse_config(text: str) -> Config:
    """Settings from TOML text; raises OperatorFault(bad_config) that names the setting to mend."""
    try:
        return make_config(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _fault(f"not TOML: {error}") from error


def make_config(given: Mapping[str, Any]) -> Config:
    """Settings from plain values, lists in place of tuples; raises OperatorFault(bad_config)."""
    hints = get_type_hints(Config)
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in hints:
            raise _fault(f"there is no setting {name}")
        values[name] = _typed(name, value, hints[name])
    return check_config(Config(**values))


def _typed(name: str, value: Any, hint: Any) -> Any:
    if hint == tuple[str, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise _fault(f"{name} must be a list of texts")
        return tuple(value)
    if type(value) is not hint:
        raise _fault(f"{name} must be of type {hint.__name__}")
    return value


def check_config(config: Config) -> Config:
    """Returns it, or raises OperatorFault(bad_config) that names the setting and its limits."""
    for name, (low, high) in LIMITS.items():
        if not low <= getattr(config, name) <= high:
            raise _fault(f"{name} must be from {low} to {high}")
    if config.machine_accelerator not in ("auto", "kvm", "tcg"):
        raise _fault("machine_accelerator must be auto, kvm or tcg")
    if config.machine_driver not in ("qemu", "lima"):
        raise _fault("machine_driver must be qemu or lima")
    if config.internet not in ("none", "open"):
        raise _fault("internet must be none or open")
    if parse_wants(config.machine_pool) and config.machine_driver != "qemu":
        raise _fault('machine_pool needs machine_driver = "qemu": lima boots no machines beforehand')
    return config


def render_config(config: Config) -> str:
    """TOML text of the settings that differ from the defaults."""
    lines = ["# Settings that differ from the defaults; docs/operating.md lists them all."]
    for name, value in config._asdict().items():
        if value != Config._field_defaults[name]:
            lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value)


class DataDir:
    """The files of one node; every path is named in docs/data-dir.md."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.genesis = self.root / "genesis.toml"
        self.config = self.root / "config.toml"
        self.account_key = self.root / "account.key"
        self.peer_key = self.root / "peer.key"
        self.token = self.root / "api.token"
        self.store = self.root / "store"
        self.machines = self.root / "machines"
        self.lima = self.root / "lima"
        self.images = self.root / "images"
        self.lease_keys = self.root / "lease-keys"
        self.run = self.root / "run.json"
        self.log = self.root / "node.log"

    def create(self, genesis: Genesis, config: Config) -> None:
        """Writes a new node's files; raises OperatorFault(data_dir_exists) rather than replace any."""
        if self.genesis.exists() or self.account_key.exists():
            raise OperatorFault("data_dir_exists", f"{self.root} already holds a node; choose another --data-dir")
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        write_private(self.account_key, secrets.token_bytes(SEED_BYTES).hex() + "\n")
        write_private(self.peer_key, secrets.token_bytes(SEED_BYTES).hex() + "\n")
        self.config.write_text(render_config(config))
        self.genesis.write_text(render_genesis(genesis))

    def load_genesis(self) -> Genesis:
        """The network's identity; raises OperatorFault."""
        return parse_genesis(self._read(self.genesis))

    def load_config(self) -> Config:
        """The settings of this node; raises OperatorFault."""
        return parse_config(self._read(self.config))

    def load_account_key(self) -> SigningKey:
        """The account's key; raises OperatorFault where the file is missing, damaged or open to others."""
        return SigningKey(self._read_seed(self.account_key))

    def load_peer_seed(self) -> bytes:
        """The seed of the libp2p identity, 32 bytes; raises OperatorFault."""
        return self._read_seed(self.peer_key)

    def load_token(self) -> str | None:
        """The operator token, or None where none was made."""
        if not self.token.exists():
            return None
        self._check_private(self.token)
        return self.token.read_text().strip()

    def image_store(self, config: Config) -> Path:
        """The provider's image store."""
        return Path(config.machine_images_dir).expanduser() if config.machine_images_dir else self.images

    def _read(self, path: Path) -> str:
        try:
            return path.read_text()
        except OSError as error:
            message = f"{path} can't be read ({error.strerror}); make a node with `xnode init --data-dir {self.root}`"
            raise OperatorFault("no_node", message) from error

    def _read_seed(self, path: Path) -> bytes:
        text = self._read(path)
        self._check_private(path)
        try:
            seed = bytes.fromhex(text.strip())
        except ValueError:
            seed = b""
        if len(seed) != SEED_BYTES:
            raise OperatorFault("bad_key_file", f"{path} is damaged; restore it from your backup")
        return seed

    def _check_private(self, path: Path) -> None:
        if path.stat().st_mode & 0o077:
            raise OperatorFault("open_key_file", f"{path} can be read by others; run: chmod 600 {path}")


def load_key_file(path: Path) -> SigningKey:
    """A key that stands in a file of its own; raises OperatorFault where it is missing, damaged or open to others."""
    if not path.exists():
        raise OperatorFault("no_key_file", f"{path} does not exist; `xnode wallet new-key` makes one")
    return SigningKey(DataDir(path.parent)._read_seed(path))


def write_private(path: Path, text: str) -> None:
    """Writes a secret so that it never exists with a wider mode; durable, and replaces what was there in one step."""
    partial = path.with_name(path.name + ".new")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def new_token() -> str:
    """A fresh operator token."""
    return secrets.token_urlsafe(32)
