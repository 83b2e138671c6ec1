"""Defects of py-libp2p around gossip: one probe each shows it on stock and finds our layer well."""

import pytest

from tests.support.hardened_kit import HardenedKit
from tests.support.probes_gossip import PROBES
from tests.support.stock import start_stock, stock_verdicts


@pytest.fixture(autouse=True, scope="module")
def _stock() -> None:
    start_stock()  # it runs beside the tests of the hardened library


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBES)
async def test_hardened_is_well(name: str) -> None:
    assert await PROBES[name](HardenedKit())


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBES)
def test_stock_shows_the_defect(name: str) -> None:
    assert stock_verdicts()[name] is False
