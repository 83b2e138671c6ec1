"""Where a command finds its node: the data directory, and through it the API's address and the operator token."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from xnode.config import DEFAULT_DATA_DIR, DataDir

if TYPE_CHECKING:
    from xnode_cmd.client import ApiClient

DATA_DIR_VARIABLE: Final = "XNODE_DATA_DIR"


class NodeAccess:
    """One node as the command line sees it: its files, and its API once it runs."""

    def __init__(self, root: Path, api: str | None = None) -> None:
        self.data_dir = DataDir(root)
        self._api = api

    def api_url(self) -> str:
        """`http://host:port`; raises click.ClickException where the node doesn't run."""
        if self._api is not None:
            return self._api.rstrip("/")
        url = self.run_record().get("api")
        if not isinstance(url, str):
            raise click.ClickException(self.not_running_hint())
        return url.rstrip("/")

    def run_record(self) -> dict[str, Any]:
        """What the running node wrote into run.json; empty where there is none."""
        try:
            record = json.loads(self.data_dir.run.read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def not_running_hint(self) -> str:
        """The sentence for somebody whose node doesn't answer."""
        root = self.data_dir.root
        if not self.data_dir.genesis.exists():
            return f"there is no node in {root}; make one with `xnode init`, or name another by --data-dir or --api"
        return f"the node in {root} does not run; start it with `xnode run --data-dir {root}`"

    def client(self) -> "ApiClient":
        """The node's API; nothing is sent before the first call."""
        from xnode_cmd.client import ApiClient

        hint = self.not_running_hint() if self._api is None else ""
        return ApiClient(self.api_url(), self.data_dir.load_token(), hint)


def with_data_dir(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the option --data-dir and passes it a `node`."""

    @click.option("--data-dir", "-d", envvar=DATA_DIR_VARIABLE, default=DEFAULT_DATA_DIR, show_default=True,
                  type=click.Path(path_type=Path, file_okay=False), help="The node's directory.")  # fmt: skip
    @functools.wraps(command)
    def wrapper(*args: Any, data_dir: Path, **options: Any) -> Any:
        return command(*args, node=NodeAccess(data_dir), **options)

    return wrapper


def with_node(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options --data-dir and --api and passes it a `node`."""

    @click.option("--api", metavar="URL", help="The node's API, where it is not the one of the data directory.")
    @click.option("--data-dir", "-d", envvar=DATA_DIR_VARIABLE, default=DEFAULT_DATA_DIR, show_default=True,
                  type=click.Path(path_type=Path, file_okay=False), help="The node's directory.")  # fmt: skip
    @functools.wraps(command)
    def wrapper(*args: Any, data_dir: Path, api: str | None, **options: Any) -> Any:
        return command(*args, node=NodeAccess(data_dir, api), **options)

    return wrapper
