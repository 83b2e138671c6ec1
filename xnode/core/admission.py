"""The one check that stands before every new lease: (wish, standing) -> a refusal or nothing (protocol section 11).

Asked twice, of a request before anything is promised, and of a lease block before anything is booted; nothing has
happened on the host until it has answered. The first reason in the order below is the one that the consumer is told.
"""

from typing import Final, NamedTuple

from xnode.core.faults import CallerFault
from xnode.core.lease import Resources
from xnode.core.machine import HostRoom
from xnode.core.market import GuestImage, fits, minus

DRAINING: Final = "draining"
HOST_FULL: Final = "host_full"


class Wish(NamedTuple):
    """What a request or a lease asks for; `duration` in s, `image` "" for the default."""

    resources: Resources
    duration: int
    image: str
    stake: int
    multiplier_milli: int
    is_promised: bool  # an offer of ours for it still stands


class Standing(NamedTuple):
    """All that the answer depends on."""

    is_draining: bool
    durations: tuple[int, int]  # s, the least and the most
    images: tuple[GuestImage, ...]
    default_image: str
    multiplier_milli: int
    xusd: int
    timekeepers: int
    timekeepers_needed: int
    free: Resources  # of what is on offer
    host: HostRoom | None  # what the host itself has left for what is not promised; None where nobody looks


def refusal(wish: Wish, standing: Standing) -> CallerFault | None:
    """Why this provider takes no such lease now; None where it does."""
    least, most = standing.durations
    if standing.is_draining and not wish.is_promised:
        return CallerFault(DRAINING, "this provider takes no new leases (its operator drains it): choose another")
    if not least <= wish.duration <= most:
        return CallerFault("bad_duration", f"{least} to {most} s")
    if flaw := image_flaw(wish, standing):
        return flaw
    if wish.multiplier_milli < standing.multiplier_milli:
        return CallerFault("low_price", f"this provider asks {standing.multiplier_milli} thousandths of the rates")
    if standing.xusd < wish.stake:
        return CallerFault("no_stake", "this provider has too little XUSD for its stake")
    if standing.timekeepers < standing.timekeepers_needed:
        return CallerFault("no_timekeepers", "this provider reaches too few timekeepers")
    if why := host_shortage(wish.resources, standing.host):
        return CallerFault(HOST_FULL, why)
    if not fits(wish.resources, standing.free):
        return CallerFault("no_capacity", _shortage(wish.resources, standing.free))
    return None


def image_flaw(wish: Wish, standing: Standing) -> CallerFault | None:
    """Whether the guest asked for, or the default one, is not there or does not fit; a zero asks for its least."""
    name = wish.image or standing.default_image
    image = next((item for item in standing.images if item.name == name), None)
    if image is None:
        what = f"the image {name}" if wish.image else "its default image"
        offered_ones = ", ".join(item.name for item in standing.images) or "none"
        return CallerFault("no_image", f"this provider does not have {what}; it offers: {offered_ones}")
    least, (_, memory_mb, disk_gb) = image, wish.resources
    if 0 < memory_mb < least.least_memory_mb or max(disk_gb, 1) < least.least_disk_gb:
        needs = f"{least.least_memory_mb} MiB of memory and {least.least_disk_gb} GiB of disk"
        return CallerFault("image_too_big", f"the image {name} needs at least {needs}")
    return None


def room_left(room: HostRoom | None, pending: list[Resources]) -> HostRoom | None:
    """What the host has once the machines that are promised but not made yet are there."""
    if room is None:
        return None
    _, memory_mb, disk_gb = minus(Resources(0, room.memory_mb, room.disk_gb), pending)
    memory_mb = max(0, memory_mb - room.overhead_mb * len(pending))
    return room._replace(machines=max(0, room.machines - len(pending)), memory_mb=memory_mb, disk_gb=disk_gb)


def offered(free: Resources, host: HostRoom | None) -> Resources:
    """What may be promised: what is on offer, and no more than the host has."""
    if host is None:
        return free
    if not host.machines:
        return Resources(0, 0, 0)
    return Resources(
        free.vcpus, min(free.memory_mb, max(0, host.memory_mb - host.overhead_mb)), min(free.disk_gb, host.disk_gb)
    )


def host_shortage(wanted: Resources, host: HostRoom | None) -> str:
    """What the host lacks; "" where it has enough."""
    if host is None:
        return ""
    if host.machines < 1:
        return "this provider keeps as many machines as it may"
    short = []
    if wanted.memory_mb + host.overhead_mb > host.memory_mb:
        short.append(f"{wanted.memory_mb} MiB of memory asked, {max(0, host.memory_mb - host.overhead_mb)} left")
    if wanted.disk_gb > host.disk_gb:
        short.append(f"{wanted.disk_gb} GiB of disk asked, {host.disk_gb} left")
    return "the provider's host is full beyond its reserve: " + "; ".join(short) if short else ""


def _shortage(wanted: Resources, available: Resources) -> str:
    return "; ".join(
        f"{name} {want} asked, {have} free"
        for name, want, have in zip(Resources._fields, wanted, available, strict=True)
        if want > have
    )
