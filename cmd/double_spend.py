"""The double-spend demo: one consumer signs two leases with the same money, and only one machine may ever start."""

import shutil
import signal
import sys
import tempfile
from pathlib import Path

import click

from xnode.core.faults import Fault
from xnode_cmd.demo import IMAGES, build_image, explain, finish, print_timeline
from xnode_cmd.demo_login import DemoFailure
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.devnet_plan import Plan
from xnode_cmd.double_spend_story import DoubleSpendStory
from xnode_cmd.timeline import Timeline


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--keep", is_flag=True, help="Leave the network running and say how to use it.")
@click.option("--dir", "root", type=click.Path(path_type=Path, file_okay=False), help="[default: a fresh one in /tmp]")
@click.option("--setup-seconds", type=float, default=0.0, hidden=True)
def double_spend(keep: bool, root: Path | None, setup_seconds: float) -> None:
    """Spend the same money on two leases, on a network of five nodes, and see that only one machine starts."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # so that the network is ended in any case
    timeline = Timeline()
    timeline.add("set up: system packages, Python packages", setup_seconds)
    folder = (root or Path(tempfile.mkdtemp(prefix="xnode-demo-"))).absolute()
    verified = False
    network: Devnet | None = None
    try:
        with timeline.step("build the guest image tiny (kept by content)"):
            build_image(timeline, "tiny")
        with timeline.step("start five nodes: 3 timekeepers, which vote, and 2 providers"):
            network = Devnet.create(folder, Plan(providers=2, consumers=0, images_dir=str(IMAGES)))
            network.up(timeline.report)
        DoubleSpendStory(network, timeline).tell()
        verified = True
    except (DemoFailure, click.ClickException, Fault) as failure:
        explain(timeline, network, failure)
    finally:
        if network is not None:
            finish(network, keep)
        elif root is None:
            shutil.rmtree(folder, ignore_errors=True)
    print_timeline(timeline)
    sys.exit(0 if verified else 1)


if __name__ == "__main__":
    double_spend(prog_name="scripts/demo-double-spend")
