"""The story of scripts/demo-double-spend on five real processes: the same money on two leases starts one machine."""

import pytest

from xnode_cmd.devnet_network import Devnet
from xnode_cmd.devnet_plan import Plan
from xnode_cmd.double_spend_story import DoubleSpendStory
from xnode_cmd.timeline import Timeline

pytestmark = pytest.mark.slow

DEVNET = Plan(providers=2, consumers=0)


def test_of_two_leases_for_one_sum_one_starts_a_machine(devnet: Devnet, capsys: pytest.CaptureFixture[str]) -> None:
    DoubleSpendStory(devnet, Timeline()).tell()  # raises DemoFailure
    told = capsys.readouterr().out
    assert "rejected, fork_lost" in told
    assert "no machine, no files of one" in told
