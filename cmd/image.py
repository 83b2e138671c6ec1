"""`xnode image`: the guests of a provider. Works on the image store's files; the node may run meanwhile."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xnode.config import Config, DataDir
from xnode.core.faults import CallerFault
from xnode.vm import image_store
from xnode.vm.cloud_images import ARCHITECTURES, CLOUD_IMAGES, make_checksum
from xnode.vm.images import host_architecture
from xnode_cmd.node_access import NodeAccess, with_data_dir
from xnode_cmd.output import json_option, print_json, print_table, progress

if TYPE_CHECKING:
    from xnode.vm.image_adding import Order

REPORT_EVERY = 64 << 20  # bytes

store_option = click.option(
    "--store", type=click.Path(path_type=Path, file_okay=False), help="The image store.  [default: the node's]"
)


@click.group()
def image() -> None:
    """Add, list, check and remove the guests that this provider offers."""


@image.command()
@click.argument("source")
@click.option("--name", help="What leases call it; a ready entry has its own.")
@click.option("--sha256", metavar="HEX", help="The checksum of the file.")
@click.option("--sha512", metavar="HEX", help="The same, where the publisher gives this one.")
@click.option("--arch", type=click.Choice(ARCHITECTURES), help="What it is made for.  [default: as this host]")
@click.option("--memory-mb", type=click.IntRange(min=1), help="What its machines have at least.  [default: 512]")
@store_option
@with_data_dir
def add(node: NodeAccess, source: str, store: Path | None, **given: Any) -> None:
    """Add the image SOURCE: a ready entry's name (`xnode image list --ready`), a URL, or a file.

    A URL and a file need --name and the checksum that their publisher gives; a ready entry fetches its checksum.
    Images are qcow2 disks with cloud-init, or tar archives of an image directory made by scripts/build-guest.
    """
    from xnode.vm.download import open_client  # takes a quarter of a second
    from xnode.vm.image_adding import add as add_image
    from xnode.vm.image_adding import ready_order

    with open_client() as client:
        architecture = given["arch"] or host_architecture()
        is_ready = source in CLOUD_IMAGES and given["sha256"] is None and given["sha512"] is None
        order = ready_order(client, source, architecture) if is_ready else _order(source, architecture, given)
        progress(f"adding {order.kind} from {order.source}, {order.checksum}")
        found = add_image(client, store or store_of(node.data_dir), order, _Progress().report)
    click.echo(f"{found.name}: at least {found.least.memory_mb} MB memory, {found.least.disk_gb} GB disk")


def _order(source: str, architecture: str, given: dict[str, Any]) -> "Order":
    from xnode.vm.image_adding import MEMORY_MB_DEFAULT, Order, is_url

    digests = [(algorithm, given[algorithm]) for algorithm in ("sha256", "sha512") if given[algorithm]]
    if len(digests) != 1 or not given["name"]:
        ready = "" if is_url(source) or Path(source).exists() else f"; ready entries are {', '.join(CLOUD_IMAGES)}"
        raise CallerFault("checksum_required", f"a file or URL needs --name and one of --sha256 and --sha512{ready}")
    memory_mb = given["memory_mb"] or MEMORY_MB_DEFAULT
    return Order(source, given["name"], make_checksum(*digests[0]), architecture, memory_mb)


class _Progress:
    """A line every 64 MiB."""

    def __init__(self) -> None:
        self._next = REPORT_EVERY

    def report(self, done: int, total: int) -> None:
        if done >= self._next:
            self._next = done + REPORT_EVERY
            progress(f"{done >> 20} MiB" + (f" of {total >> 20}" if total else ""))


@image.command(name="list")
@click.option("--ready", is_flag=True, help="The ready entries that `add` knows, in place of what is in the store.")
@json_option
@store_option
@with_data_dir
def list_images(node: NodeAccess, store: Path | None, ready: bool, as_json: bool) -> None:
    """List the images of the store: what leases call them, what they need."""
    if ready:
        entries = [
            {"name": name, "title": entry.title, "url": entry.url(host_architecture()), "checksums": entry.sums_url}
            for name, entry in CLOUD_IMAGES.items()
        ]
        _show(entries, as_json, "")
        return
    found = [_row(item) for item in image_store.survey(store or store_of(node.data_dir))]
    _show(found, as_json, "there are no images; add one with `xnode image add`, or build one with scripts/build-guest")


def _row(found: image_store.Found) -> dict[str, Any]:
    image = found.image
    return {
        "name": ", ".join(found.kinds),
        "image": found.name,
        "memory_mb": image.least.memory_mb if image else 0,
        "disk_gb": image.least.disk_gb if image else 0,
        "boots": "" if image is None else "itself, with cloud-init" if image.boots_itself else "our kernel and initrd",
        "source": found.flaw or (image.source if image else "") or "built here",
    }


def _show(rows: list[dict[str, Any]], as_json: bool, empty: str) -> None:
    if as_json:
        print_json(rows)
    else:
        print_table(tuple(rows[0]) if rows else (), [tuple(row.values()) for row in rows], empty)


@image.command()
@click.argument("name")
@store_option
@with_data_dir
def remove(node: NodeAccess, store: Path | None, name: str) -> None:
    """Remove an image, by what leases call it or by its full name; refused while a machine of this node uses it."""
    click.echo(f"removed {image_store.remove(store or store_of(node.data_dir), name, node.data_dir.machines)}")


@image.command()
@click.argument("names", nargs=-1)
@store_option
@with_data_dir
def verify(node: NodeAccess, store: Path | None, names: tuple[str, ...]) -> None:
    """Hash every file of the images NAMES, or of all; exit status 1 where one is damaged."""

    def report(name: str, flaw: str) -> None:
        click.echo(f"{name}: {flaw or 'whole'}")

    if not image_store.verify_all(store or store_of(node.data_dir), names, report):
        raise click.exceptions.Exit(1)


def store_of(data_dir: DataDir) -> Path:
    """The image store of a node, or where it would be."""
    config = data_dir.load_config() if data_dir.config.exists() else Config()
    return data_dir.image_store(config)
