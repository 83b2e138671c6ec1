"""The network's identity: the genesis document, its checks, its canonical bytes (protocol section 1)."""

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple

from xnode.core.attestations import Timekeepers
from xnode.core.codec import Plain, encode
from xnode.core.faults import Fault, OperatorFault
from xnode.core.hashing import NetworkKey, Tag, derive_network_key, tagged_hash
from xnode.core.keys import is_valid_point
from xnode.core.keyset import Keyset
from xnode.core.price import Rates
from xnode.core.values import U64_MAX, Address, Asset, Hash, PublicKey, address_from_hex, public_key_from_hex

NETWORK_ID: Final = re.compile(r"[a-z0-9-]{1,32}")
DEFAULT_DIFFICULTY: Final = 0xFFFF_FE00_0000_0000
ALLOCATIONS_MAX: Final = 10_000
KEYS_MAX: Final = 100


class Allocation(NamedTuple):
    """A part of the opening supply."""

    account: Address
    asset: Asset
    amount: int


class Faucet(NamedTuple):
    """Test XUSD for whoever claims; `interval` in seconds."""

    enabled: bool
    amount: int
    interval: int


class Timing(NamedTuple):
    """All in seconds."""

    lease_duration_min: int
    lease_duration_max: int
    settle_grace: int
    force_settle_gap: int
    attestation_skew: int
    live_window: int


DEFAULT_RATES: Final = Rates(vcpu=20, memory_gb=10, disk_gb=1)
DEFAULT_TIMING: Final = Timing(60, 31_536_000, 3600, 1500, 600, 3600)
DEFAULT_FAUCET: Final = Faucet(enabled=False, amount=100, interval=86_400)


class _Fields(NamedTuple):
    network_id: str
    created_at: int  # ns
    allocations: tuple[Allocation, ...]
    representative: Address
    faucet: Faucet
    work_difficulty: int
    rates: Rates
    timing: Timing
    dao: Keyset
    timekeepers: Timekeepers


class Genesis(_Fields):
    """A checked genesis document; equal documents are equal networks."""

    @cached_property
    def canonical(self) -> bytes:
        """Canonical bytes: every field in the order of the class, nested records as arrays."""
        return encode(_plain(self))

    @cached_property
    def network_key(self) -> NetworkKey:
        """Keys every hash of this network."""
        return derive_network_key(self.canonical)

    @cached_property
    def genesis_hash(self) -> Hash:
        """What peers compare in the handshake."""
        return tagged_hash(self.network_key, Tag.GENESIS, self.canonical)


def _plain(value: tuple[Any, ...]) -> tuple[Plain, ...]:
    return tuple(_plain(item) if isinstance(item, tuple) else _plain_item(item) for item in value)


def _plain_item(item: Any) -> Plain:
    return int(item) if isinstance(item, Asset) else item


def _fault(message: str) -> OperatorFault:
    return OperatorFault("bad_genesis", f"genesis: {message}")


def check_genesis(genesis: Genesis) -> Genesis:
    """Returns it, or raises OperatorFault(bad_genesis) naming the field that must be mended."""
    timing, faucet = genesis.timing, genesis.faucet
    weight = sum(item.amount for item in genesis.allocations if item.asset is Asset.XUSD)
    rules: tuple[tuple[bool, str], ...] = (
        (NETWORK_ID.fullmatch(genesis.network_id) is not None, "network_id must match ^[a-z0-9-]{1,32}$"),
        (0 < genesis.created_at <= U64_MAX, "created_at must be Unix nanoseconds"),
        (len(genesis.allocations) <= ALLOCATIONS_MAX, f"at most {ALLOCATIONS_MAX} allocations"),
        (
            all(0 < item.amount <= U64_MAX for item in genesis.allocations),
            "an allocation must be above zero and fit u64",
        ),
        (len({item[:2] for item in genesis.allocations}) == len(genesis.allocations), "an allocation is named twice"),
        (0 < weight <= U64_MAX, "allocate some XUSD: without delegated weight nothing can ever be confirmed"),
        (_total(genesis, Asset.XE) <= U64_MAX, "the allocated XE must fit u64"),
        (is_valid_point(genesis.representative), "representative must be an account that can sign"),
        (0 <= genesis.work_difficulty <= U64_MAX, "work_difficulty must fit u64"),
        (all(0 <= rate <= U64_MAX for rate in genesis.rates), "rates must not be negative"),
        (0 < timing.lease_duration_min <= timing.lease_duration_max, "timing: lease durations are the wrong way round"),
        (all(0 < value <= 2**32 for value in timing), "timing: every value must be above zero"),
        (
            timing.force_settle_gap > 2 * timing.attestation_skew,
            "timing: force_settle_gap must exceed 2 x attestation_skew",
        ),
        (
            0 < faucet.amount <= U64_MAX and 0 < faucet.interval <= 2**32,
            "faucet: amount and interval must be above zero and fit u64 and u32",
        ),
    )
    for holds, message in rules:
        if not holds:
            raise _fault(message)
    _check_keys("dao", genesis.dao)
    _check_keys("timekeepers", genesis.timekeepers)
    if len(genesis.dao.keys) > 1 and genesis.dao.threshold < 2:
        raise _fault("dao: with two keys or more the threshold must be at least 2")
    return genesis


def _total(genesis: Genesis, asset: Asset) -> int:
    return sum(item.amount for item in genesis.allocations if item.asset is asset)


def _check_keys(name: str, keyset: Keyset | Timekeepers) -> None:
    if not 0 < len(keyset.keys) <= KEYS_MAX or len(set(keyset.keys)) != len(keyset.keys):
        raise _fault(f"{name}: list 1 to {KEYS_MAX} distinct keys")
    if not all(is_valid_point(key) for key in keyset.keys):
        raise _fault(f"{name}: a key is not a point of the curve")
    if not 0 < keyset.threshold <= len(keyset.keys):
        raise _fault(f"{name}: the threshold must be from 1 to the number of keys")


def parse_genesis(text: str) -> Genesis:
    """A genesis from its TOML text; raises OperatorFault(bad_genesis) that says which field to mend."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also an integer of too many digits, arrays too deep
        raise _fault(f"not TOML: {error}") from error
    try:
        return check_genesis(_read(document))
    except KeyError as error:
        raise _fault(f"{error.args[0]} is missing") from error
    except (TypeError, ValueError) as error:
        raise _fault(str(error)) from error
    except OperatorFault:
        raise
    except Fault as error:
        raise _fault(str(error)) from error


def _read(document: Mapping[str, Any]) -> Genesis:
    unknown = set(document) - set(_Fields._fields)
    if unknown:
        raise _fault(f"unknown field {sorted(unknown)[0]}")
    return Genesis(
        network_id=_typed(document["network_id"], str, "network_id"),
        created_at=_typed(document["created_at"], int, "created_at"),
        allocations=tuple(_read_allocation(item) for item in _typed(document["allocations"], list, "allocations")),
        representative=address_from_hex(document["representative"], "representative"),
        faucet=_section(Faucet, document.get("faucet", {}), DEFAULT_FAUCET, "faucet"),
        work_difficulty=_read_difficulty(document.get("work_difficulty", DEFAULT_DIFFICULTY)),
        rates=_section(Rates, document.get("rates", {}), DEFAULT_RATES, "rates"),
        timing=_section(Timing, document.get("timing", {}), DEFAULT_TIMING, "timing"),
        dao=Keyset(*_read_keys(document["dao"], "dao")),
        timekeepers=Timekeepers(*_read_keys(document["timekeepers"], "timekeepers")),
    )


def _typed(value: Any, kind: type, name: str) -> Any:
    if type(value) is not kind:
        raise _fault(f"{name} must be of type {kind.__name__}")
    return value


def _read_difficulty(value: Any) -> int:
    """TOML integers end at 2**63 - 1, so a difficulty may also be text in hexadecimal."""
    if not isinstance(value, str):
        return int(_typed(value, int, "work_difficulty"))
    if re.fullmatch(r"(0x)?[0-9a-fA-F]{1,16}", value) is None:
        raise _fault("work_difficulty must be a number or up to 16 hexadecimal digits")
    return int(value, 16)


def _check_names(item: Any, names: tuple[str, ...], where: str) -> None:
    for key in _typed(item, dict, where):
        if key not in names:
            raise _fault(f"unknown field {where}.{key}")


def _read_allocation(item: Mapping[str, Any]) -> Allocation:
    _check_names(item, Allocation._fields, "allocations")
    asset = _typed(item["asset"], str, "allocations.asset")
    if asset not in Asset.__members__:
        raise _fault("allocations.asset must be XUSD or XE")
    amount = _typed(item["amount"], int, "allocations.amount")
    return Allocation(address_from_hex(item["account"], "allocations.account"), Asset[asset], amount)


def _read_keys(item: Mapping[str, Any], name: str) -> tuple[tuple[PublicKey, ...], int]:
    _check_names(item, Keyset._fields, name)
    keys = tuple(public_key_from_hex(key, f"{name}.keys") for key in _typed(item["keys"], list, f"{name}.keys"))
    return keys, _typed(item["threshold"], int, f"{name}.threshold")


def _section(make: Callable[..., Any], given: Mapping[str, Any], default: Any, name: str) -> Any:
    _check_names(given, default._fields, name)
    values = default._asdict()
    for key, value in given.items():
        values[key] = _typed(value, type(values[key]), f"{name}.{key}")
    return make(**values)


def render_genesis(genesis: Genesis) -> str:
    """TOML text that `parse_genesis` reads back as the same genesis."""
    lines = [
        f'network_id = "{genesis.network_id}"',
        f"created_at = {genesis.created_at}",
        f'representative = "{genesis.representative.hex()}"',
        f'work_difficulty = "{genesis.work_difficulty:016x}"',
    ]
    for name in ("faucet", "rates", "timing"):
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {str(value).lower()}" for key, value in getattr(genesis, name)._asdict().items()]
    for name in ("dao", "timekeepers"):
        keyset = getattr(genesis, name)
        keys = ", ".join(f'"{key.hex()}"' for key in keyset.keys)
        lines += ["", f"[{name}]", f"keys = [{keys}]", f"threshold = {keyset.threshold}"]
    for item in genesis.allocations:
        lines += ["", "[[allocations]]", f'account = "{item.account.hex()}"']
        lines += [f'asset = "{item.asset.name}"', f"amount = {item.amount}"]
    return "\n".join(lines) + "\n"
