"""The demo: a network of five on this machine, and one lease of a real machine from end to end."""

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

import click

import xnode
from xnode.core.faults import Fault
from xnode_cmd.demo_login import DemoFailure
from xnode_cmd.demo_story import Story
from xnode_cmd.devnet import usage_lines
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.devnet_plan import Plan
from xnode_cmd.devnet_process import tail
from xnode_cmd.timeline import Timeline

CHECKOUT: Final = Path(xnode.__file__).resolve().parents[1]
IMAGES: Final = CHECKOUT / ".cache" / "images"
TINY_DURATION_S: Final = 60
DEBIAN_DURATION_S: Final = 120
NEEDED: Final = ("ssh", "scp", "ssh-keygen", "qemu-system-x86_64")


class Stage(NamedTuple):
    """Where a demo plays: `keep` leaves its network running, `root` is its folder or None for a fresh one."""

    keep: bool
    root: Path | None
    setup_seconds: float


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--keep", is_flag=True, help="Leave the network running and say how to use it.")
@click.option("--image", type=click.Choice(["tiny", "debian"]), default="tiny", show_default=True)
@click.option("--duration", type=click.IntRange(min=60), help="Seconds of the lease.  [default: 60; debian: 120]")
@click.option("--dir", "root", type=click.Path(path_type=Path, file_okay=False), help="[default: a fresh one in /tmp]")
@click.option("--setup-seconds", type=float, default=0.0, hidden=True)
def demo(keep: bool, image: str, duration: int | None, root: Path | None, setup_seconds: float) -> None:
    """Lease a real machine on a network of five nodes, use it, and see it settled."""
    seconds = duration or (TINY_DURATION_S if image == "tiny" else DEBIAN_DURATION_S)
    perform(
        Plan(image=image, images_dir=str(IMAGES)),
        "3 timekeepers, 1 provider, 1 consumer",
        lambda network, timeline: Story(network, timeline, seconds).tell(),
        Stage(keep, root, setup_seconds),
    )


def perform(plan: Plan, cast: str, tell: Callable[[Devnet, Timeline], None], stage: Stage) -> NoReturn:
    """Tells a story on a network of five made for it; ends the program, with 0 only where all of it was verified."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # so that the network is ended in any case
    timeline = Timeline()
    timeline.add("set up: system packages, Python packages", stage.setup_seconds)
    folder = (stage.root or Path(tempfile.mkdtemp(prefix="xnode-demo-"))).absolute()
    verified = False
    network: Devnet | None = None
    try:
        with timeline.step(f"build the guest image {plan.image} (kept by content)"):
            build_image(timeline, plan.image)
        with timeline.step(f"start five nodes: {cast}"):
            network = Devnet.create(folder, plan)
            network.up(timeline.report)
        tell(network, timeline)
        verified = True
    except (DemoFailure, click.ClickException, Fault) as failure:
        explain(timeline, network, failure)
    finally:
        if network is not None:
            finish(network, stage.keep)
        elif stage.root is None:
            shutil.rmtree(folder, ignore_errors=True)
    print_timeline(timeline)
    sys.exit(0 if verified else 1)


def build_image(timeline: Timeline, image: str) -> None:
    """scripts/build-guest; raises DemoFailure where it or a program that the demo needs fails."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise DemoFailure(f"{missing[0]} is not installed; run scripts/setup")
    command = [str(CHECKOUT / "scripts" / "build-guest"), image, "--store", str(IMAGES)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise DemoFailure(f"scripts/build-guest {image} failed; its words are above")
    timeline.report(done.stdout.decode().strip())


def explain(timeline: Timeline, network: Devnet | None, failure: Exception) -> None:
    """Which step failed and why, and the ends of the logs that may say more."""
    message = failure.format_message() if isinstance(failure, click.ClickException) else str(failure)
    click.secho(f"\nFAILED in step {len(timeline.steps)}, {timeline.steps[-1].title}:\n{message}", fg="red")
    for member in network.members if network else ():
        if member.kind != "tk":
            log = network.process(member.name).data_dir.log if network else Path()
            click.echo(f"\nthe end of {log}:\n{tail(log)}")


def finish(network: Devnet, keep: bool) -> None:
    """Ends the network, or says how to use it."""
    if not keep:
        network.purge()
        return
    click.echo()
    for line in usage_lines(network):
        click.echo(line)


def print_timeline(timeline: Timeline) -> None:
    """The seconds of each step."""
    click.secho("\ntime line", bold=True)
    for line in timeline.lines():
        click.echo(line)


if __name__ == "__main__":
    demo(prog_name="scripts/demo")
