"""The story of scripts/demo-double-spend on five real processes: the same money on two leases starts one machine."""

import pytest

from tests.support.command import invoke
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


def test_a_wallet_names_its_representative(devnet: Devnet) -> None:
    """Nothing is pending for the provider, so a block that sends 1 XUSD says it."""
    voter = devnet.member("tk2").account
    access, provider = devnet.access("provider1"), devnet.member("provider1")
    words = ("-d", str(access.data_dir.root), "--api", provider.api_url)
    ended = invoke("wallet", "delegate", "self", *words)
    assert (ended.status, "--to" in ended.err) == (2, True)
    ended = invoke("wallet", "delegate", voter, *words)
    assert ended.status == 0, ended.err
    with devnet.client("provider1") as client:
        assert client.get(f"/accounts/{provider.account}")["representative"] == voter
