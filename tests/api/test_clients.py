"""What one client may hold of what stays open."""

import pytest

from xnode.api.clients import Seats, client_of, share_of
from xnode.core.faults import Unavailable


def test_a_seat_counts_for_all_and_for_each_name_until_it_is_left() -> None:
    seats = Seats("too_many", "come again")
    leave = seats.take(3, {"10.0.0.1": 1})
    with pytest.raises(Unavailable, match="come again") as caught:
        seats.take(3, {"10.0.0.1": 1})
    assert (caught.value.code, caught.value.retryable) == ("too_many", True)
    seats.take(3, {"10.0.0.2": 2, "lease": 1})
    with pytest.raises(Unavailable):
        seats.take(3, {"10.0.0.2": 2, "lease": 1})
    seats.take(3, {"10.0.0.2": 2})
    with pytest.raises(Unavailable):
        seats.take(3, {"10.0.0.3": 9})
    assert len(seats) == 3
    leave()
    leave()
    assert len(seats) == 2
    seats.take(3, {"10.0.0.1": 1})


@pytest.mark.parametrize(
    ("client", "share"), [("127.0.0.1", 100), ("::1", 100), ("::ffff:127.0.0.1", 100), ("10.0.0.1", 20), ("", 20)]
)
def test_loopback_may_have_it_all(client: str, share: int) -> None:
    assert share_of(client_of({"client": (client, 5)}), 20, 100) == share


def test_a_share_is_never_more_than_the_whole() -> None:
    assert share_of("10.0.0.1", 20, 4) == 4
