"""What a lease costs, what its provider stakes, what it earns (protocol section 5). Integers only; all divisions are
ceilings except the stake's. Amounts are whole units; rates are milli-XUSD an hour."""

from typing import Final, NamedTuple

from xnode.core.faults import CallerFault
from xnode.core.lease import Resources

MULTIPLIER_MIN: Final = 500
MULTIPLIER_DEFAULT: Final = 1000
MULTIPLIER_MAX: Final = 10_000
STAKE_DIVISOR: Final = 5
RESOURCE_MAX: Final = Resources(vcpus=4_096, memory_mb=67_108_864, disk_gb=1_048_576)


class Rates(NamedTuple):
    """milli-XUSD an hour for one vCPU, one GB of memory, one GB of disk."""

    vcpu: int
    memory_gb: int
    disk_gb: int


def _ceil_div(value: int, divisor: int) -> int:
    return -(-value // divisor)


def check_resources(resources: Resources) -> None:
    """Raises CallerFault(bad_resources) when nothing is asked for or a limit is passed."""
    if not any(resources):
        raise CallerFault("bad_resources", "ask for at least one of vcpus, memory_mb and disk_gb")
    for name, value, limit in zip(resources._fields, resources, RESOURCE_MAX, strict=True):
        if not 0 <= value <= limit:
            raise CallerFault("bad_resources", f"{name} must be from 0 to {limit}")


def cost(resources: Resources, duration: int, rates: Rates, multiplier_milli: int = MULTIPLIER_DEFAULT) -> int:
    """XUSD for `duration` seconds at a provider's multiplier; raises CallerFault for values out of range."""
    check_resources(resources)
    if not MULTIPLIER_MIN <= multiplier_milli <= MULTIPLIER_MAX:
        raise CallerFault("bad_multiplier", f"multiplier_milli must be from {MULTIPLIER_MIN} to {MULTIPLIER_MAX}")
    memory_gb = _ceil_div(resources.memory_mb, 1024)
    per_hour = resources.vcpus * rates.vcpu + memory_gb * rates.memory_gb + resources.disk_gb * rates.disk_gb
    base = max(1, _ceil_div(per_hour * _ceil_div(duration, 3600), 1000))
    return max(1, _ceil_div(base * multiplier_milli, 1000))


def stake(lease_cost: int) -> int:
    """XUSD that the provider locks."""
    return max(1, lease_cost // STAKE_DIVISOR)


def reward(lease_cost: int) -> int:
    """XE minted for the provider when the lease is settled."""
    return lease_cost
