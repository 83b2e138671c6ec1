"""The one check before a lease: each reason by name, the order in which they are told, and what the host has left."""

import pytest

from xnode.core.admission import Standing, Wish, host_shortage, offered, refusal, room_left
from xnode.core.lease import Resources
from xnode.core.machine import HostRoom
from xnode.core.market import GuestImage

SMALL = Resources(1, 512, 5)
ROOM = HostRoom(machines=10, memory_mb=4096, disk_gb=50, overhead_mb=150)
WISH = Wish(SMALL, 3600, "debian", stake=5, multiplier_milli=1000, is_promised=False)
STANDING = Standing(
    is_draining=False,
    durations=(60, 86_400),
    images=(GuestImage("debian", 256, 1), GuestImage("tiny", 128, 1), GuestImage("roomy", 1024, 6)),
    default_image="debian",
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
    "image_too_big": (WISH._replace(image="roomy"), STANDING),
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
    standing = Standing(True, (60, 61), (), "debian", 1000, 0, 0, 2, Resources(0, 0, 0), HostRoom(0, 0, 0, 0))
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


def test_a_refused_image_comes_with_those_that_there_are() -> None:
    refused = refusal(WISH._replace(image="windows"), STANDING)
    assert str(refused) == "this provider does not have the image windows; it offers: debian, tiny, roomy"
    gone = refusal(WISH._replace(image=""), STANDING._replace(images=()))
    assert gone is not None
    assert (gone.code, str(gone)) == ("no_image", "this provider does not have its default image; it offers: none")


@pytest.mark.parametrize(
    ("memory_mb", "disk_gb", "fits"),
    [(1024, 6, True), (1023, 6, False), (1024, 5, False), (0, 6, True), (1024, 0, False)],
)
def test_an_image_needs_its_least(memory_mb: int, disk_gb: int, *, fits: bool) -> None:
    wish = WISH._replace(image="roomy", resources=Resources(1, memory_mb, disk_gb))
    plenty = STANDING._replace(free=Resources(9, 9999, 999), host=None)
    refused = refusal(wish, plenty)
    assert (refused is None) is fits
    if refused is not None:
        assert str(refused) == "the image roomy needs at least 1024 MiB of memory and 6 GiB of disk"
