"""The double-spend demo: one consumer signs two leases with the same money, and only one machine may ever start."""

from pathlib import Path

import click

from xnode_cmd.demo import IMAGES, Stage, perform
from xnode_cmd.devnet_plan import Plan
from xnode_cmd.double_spend_story import DoubleSpendStory


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--keep", is_flag=True, help="Leave the network running and say how to use it.")
@click.option("--dir", "root", type=click.Path(path_type=Path, file_okay=False), help="[default: a fresh one in /tmp]")
@click.option("--setup-seconds", type=float, default=0.0, hidden=True)
def double_spend(keep: bool, root: Path | None, setup_seconds: float) -> None:
    """Spend the same money on two leases, on a network of five nodes, and see that only one machine starts."""
    perform(
        Plan(providers=2, consumers=0, images_dir=str(IMAGES)),
        "3 timekeepers, which vote, and 2 providers",
        lambda network, timeline: DoubleSpendStory(network, timeline).tell(),
        Stage(keep, root, setup_seconds),
    )


if __name__ == "__main__":
    double_spend(prog_name="scripts/demo-double-spend")
