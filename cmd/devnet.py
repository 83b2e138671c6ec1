"""`xnode devnet`: a whole network on this machine, one process a node."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

import xnode
from xnode_cmd.devnet_network import Devnet, NodeStatus
from xnode_cmd.devnet_plan import PLAN_FILE, Plan
from xnode_cmd.devnet_process import running_machines
from xnode_cmd.output import json_option, print_json, print_table, progress, short

DEFAULT_DIR: Final = "~/.xnode-devnet"
DEFAULTS: Final = Plan()
PLANNED: Final = ("timekeepers", "providers", "consumers", "image", "images_dir", "min_duration")


def with_dir(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the option --dir."""
    return click.option(
        "--dir", "root", envvar="XNODE_DEVNET_DIR", default=DEFAULT_DIR, show_default=True,
        type=click.Path(path_type=Path, file_okay=False), help="Where the network's files are.",
    )(command)  # fmt: skip


@click.group()
def devnet() -> None:
    """Run a whole network on this machine: timekeepers, providers and consumers as processes of their own."""


@devnet.command()
@click.option("--timekeepers", type=click.IntRange(min=1), help=f"[default: {DEFAULTS.timekeepers}]")
@click.option("--providers", type=click.IntRange(min=0), help=f"[default: {DEFAULTS.providers}]")
@click.option("--consumers", type=click.IntRange(min=0), help=f"[default: {DEFAULTS.consumers}]")
@click.option("--image", metavar="NAME", help=f"The guest of scripts/build-guest.  [default: {DEFAULTS.image}]")
@click.option("--images-dir", type=click.Path(file_okay=False), help="[default: the store of scripts/build-guest]")
@click.option("--min-duration", type=click.IntRange(min=1), help="Of a lease, in seconds.  [default: 60]")
@with_dir
def up(root: Path, **given: Any) -> None:
    """Make the network, or start what does not run of it, and wait until every node is ready."""
    chosen = {name: value for name, value in given.items() if value is not None}
    network = open_or_create(root.expanduser().absolute(), chosen)
    network.up(progress)
    for line in usage_lines(network):
        click.echo(line)


def open_or_create(root: Path, chosen: dict[str, Any]) -> Devnet:
    """The network in `root`, made where there is none; raises click.ClickException where it is another than chosen."""
    if not (root / PLAN_FILE).exists():
        if chosen.get("images_dir"):
            chosen["images_dir"] = os.path.abspath(chosen["images_dir"])
        progress(f"making a network in {root}")
        return Devnet.create(root, Plan(**{"images_dir": built_images_dir(), **chosen}))
    network = Devnet.load(root)
    differing = [name for name, value in chosen.items() if getattr(network.plan, name) != value]
    if differing:
        option = differing[0].replace("_", "-")
        raise click.ClickException(
            f"{root} holds a network with another --{option}; "
            f"remove it with `xnode devnet down --purge --dir {root}`, or choose another --dir"
        )
    return network


def built_images_dir() -> str:
    """Where scripts/build-guest puts images in the checkout that this runs from."""
    return str(Path(xnode.__file__).resolve().parents[1] / ".cache" / "images")


def usage_lines(network: Devnet) -> list[str]:
    """What to do with a network that is up."""
    xnode_program = program()
    lines = [f"the network runs in {network.root}"]
    for member in network.of_kind("consumer")[:1]:
        directory = network.root / member.name
        lines += [
            f"  the consumer's API      {member.api_url}",
            f"  use its node            export XNODE_DATA_DIR={directory}",
            f"  lease a machine         {xnode_program} lease request --duration 600",
            f"  log in                  {xnode_program} ssh LEASE",
        ]
    return [
        *lines,
        f"  see how it is           {xnode_program} devnet status --dir {network.root}",
        f"  end and remove it       {xnode_program} devnet down --purge --dir {network.root}",
    ]


def program() -> str:
    """How this very xnode is called: by its name where that finds it, else by its path."""
    installed = Path(sys.executable).with_name("xnode")
    found = shutil.which("xnode")
    return "xnode" if found and Path(found).resolve() == installed.resolve() else str(installed)


@devnet.command()
@json_option
@with_dir
def status(root: Path, as_json: bool) -> None:
    """Show every node; exit status 1 unless all are ready."""
    found = Devnet.load(root).statuses()
    if as_json:
        print_json([item._asdict() for item in found])
    else:
        head = ("name", "pid", "alive", "api", "account", "blocks", "peers", "ready")
        print_table(head, [_row(item) for item in found], "no nodes")
    if not all(item.ready for item in found):
        raise SystemExit(1)


def _row(item: NodeStatus) -> tuple[object, ...]:
    numbers = ["-" if number < 0 else number for number in (item.blocks, item.peers)]
    ready = "yes" if item.ready else f"no: {item.waiting_for}"
    alive = "no" if item.pid is None else "yes"
    return (item.name, item.pid or "-", alive, item.api, short(item.account), *numbers, ready)


@devnet.command()
@click.option("--purge", is_flag=True, help="End the machines too and remove all files.")
@with_dir
def down(root: Path, purge: bool) -> None:
    """End every node; the next `up` carries on where they ended."""
    network = Devnet.load(root)
    network.stop()
    if purge:
        network.purge()
        click.echo(f"the network in {network.root} is gone")
        return
    click.echo(f"the network in {network.root} is down")
    left = sum(len(running_machines(network.process(item.name).data_dir)) for item in network.of_kind("provider"))
    if left:
        click.echo(f"machines that keep running for their leases: {left}; `xnode devnet down --purge` ends them too")


@devnet.command()
@click.argument("name")
@with_dir
def restart(root: Path, name: str) -> None:
    """End the node NAME in good order, start it again and wait until it is ready; start it where it is dead."""
    Devnet.load(root).restart(name, progress)


@devnet.command()
@click.argument("name")
@with_dir
def kill(root: Path, name: str) -> None:
    """SIGKILL the node NAME, as a crash would."""
    Devnet.load(root).kill(name)
    click.echo(f"{name} is dead; `xnode devnet restart {name}` starts it again")


@devnet.command()
@click.argument("name")
@with_dir
def log(root: Path, name: str) -> None:
    """Print the end of the log of the node NAME."""
    click.echo(Devnet.load(root).process(name).log_tail())
