"""Defects of py-libp2p around peers: one probe each shows it on stock and finds our layer well."""

import pytest

from tests.support.hardened_kit import HardenedKit
from tests.support.probes_peers import PROBES
from tests.support.stock import start_stock, stock_verdicts
from xnode.net import muxer


@pytest.fixture(autouse=True, scope="module")
def _stock() -> None:
    start_stock()  # it runs beside the tests of the hardened library


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBES)
async def test_hardened_is_well(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muxer, "PING_INTERVAL_SECONDS", 0.3)  # for the silent peer: 17 s as configured
    monkeypatch.setattr(muxer, "PING_TIMEOUT_SECONDS", 1.0)
    assert await PROBES[name](HardenedKit())


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBES)
def test_stock_shows_the_defect(name: str) -> None:
    assert stock_verdicts()[name] is False
