"""The one check before a lease: each reason by name, the order in which they are told, and what the host has left."""

import pytest

from xnode.core.admission import Standing, Wish, host_shortage, offered, refusal, room_left
from xnode.core.lease import Resources
from xnode.core.machine import HostRoom

SMALL = Resources(1, 512, 5)
ROOM = HostRoom(machines=10, memory_mb=4096, disk_gb=50, overhead_mb=150)
WISH = Wish(SMALL, 3600, "debian", stake=5, multiplier_milli=1000, is_promised=False)
STANDING = Standing(
    is_draining=False,
    durations=(60, 86_400),
    images=("debian", "tiny"),
    multiplier_milli=1000,
    xusd=5,
    timekeepers=2,
    timekeepers_needed=2,
    free=SMALL,
    host=ROOM,
)

BAD = {
    "draining": (WISH, STANDING._replace(is_draining=True)),
    "bad_duration": (WISH._replace(duration=59), STANDING),
    "no_image": (WISH._replace(image="windows"), STANDING),
    "low_price": (WISH._replace(multiplier_milli=999), STANDING),
    "no_stake": (WISH, STANDING._replace(xusd=4)),
    "no_timekeepers": (WISH, STANDING._replace(timekeepers=1)),
    "host_full": (WISH, STANDING._replace(host=ROOM._replace(disk_gb=4))),
    "no_capacity": (WISH, STANDING._replace(free=Resources(0, 512, 5))),
}


def test_what_is_there_is_admitted() -> None:
    assert refusal(WISH, STANDING) is None
    assert refusal(WISH._replace(image="", duration=86_400), STANDING._replace(host=None)) is None


@pytest.mark.parametrize("code", BAD)
def test_each_reason_has_its_name(code: str) -> None:
    refused = refusal(*BAD[code])
    assert refused is not None
    assert refused.code == code


def test_the_first_reason_is_told() -> None:
    worst_wish = Wish(Resources(9, 9999, 99), 1, "windows", stake=99, multiplier_milli=0, is_promised=False)
    standing = Standing(True, (60, 61), (), 1000, 0, 0, 2, Resources(0, 0, 0), HostRoom(0, 0, 0, 0))
    assert [refusal(worst_wish, standing)] != [None]
    assert refusal(worst_wish, standing).code == "draining"  # type: ignore[union-attr]


def test_what_was_promised_before_a_drain_is_kept() -> None:
    assert refusal(WISH._replace(is_promised=True), STANDING._replace(is_draining=True)) is None


def test_a_full_host_says_what_it_lacks() -> None:
    assert host_shortage(SMALL, ROOM) == ""
    assert "362 left" in host_shortage(SMALL, ROOM._replace(memory_mb=512))
    assert host_shortage(SMALL, ROOM._replace(memory_mb=662)) == ""
    assert "5 GiB of disk asked, 4 left" in host_shortage(SMALL, ROOM._replace(disk_gb=4))
    assert "as many machines" in host_shortage(SMALL, ROOM._replace(machines=0))
    assert host_shortage(SMALL, None) == ""


def test_what_is_promised_but_not_made_counts_against_the_host() -> None:
    assert room_left(None, [SMALL]) is None
    assert room_left(ROOM, [SMALL, SMALL]) == HostRoom(8, 4096 - 2 * (512 + 150), 40, 150)
    assert room_left(ROOM, [Resources(1, 9999, 999)]) == HostRoom(9, 0, 0, 150)


def test_no_more_is_offered_than_the_host_has() -> None:
    free = Resources(8, 8192, 20)
    assert offered(free, None) == free
    assert offered(free, ROOM) == Resources(8, 4096 - 150, 20)
    assert offered(free, ROOM._replace(machines=0)) == Resources(0, 0, 0)
    assert offered(free, ROOM._replace(memory_mb=10)) == Resources(8, 0, 20)
