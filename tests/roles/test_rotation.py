"""Every connected peer is asked in its turn, however many there are."""

import pytest

from xnode.net.streams import PeerId
from xnode.roles.rotation import Rotation

COUNT = 3


@pytest.mark.parametrize("number", range(1, 25))
def test_each_peer_has_its_turn(number: int) -> None:
    peers = [PeerId(str(index)) for index in range(number)]
    rotation = Rotation()
    asked = [rotation.next(peers, COUNT) for _ in range(-(-number // COUNT))]
    assert {peer for some in asked for peer in some} == set(peers)
    assert all(len(set(some)) == min(COUNT, number) for some in asked)


def test_nobody_is_there_and_then_some_are() -> None:
    rotation = Rotation()
    assert rotation.next([], COUNT) == []
    assert rotation.next([PeerId("a")], COUNT) == ["a"]
