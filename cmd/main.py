"""`xnode`: the command line. Commands are imported only when they run, so that `xnode tunnel` starts quickly."""

import importlib
from typing import Any, Final

import click

from xnode import __version__
from xnode.core.faults import Fault

COMMANDS: Final = {
    "init": "xnode_cmd.init:init",
    "run": "xnode_cmd.run:run",
    "doctor": "xnode_cmd.doctor:doctor",
    "status": "xnode_cmd.status:status",
    "wallet": "xnode_cmd.wallet:wallet",
    "multisig": "xnode_cmd.multisig:multisig",
    "lease": "xnode_cmd.lease:lease",
    "provider": "xnode_cmd.provider:provider",
    "providers": "xnode_cmd.providers:providers",
    "images": "xnode_cmd.providers:images",
    "ssh": "xnode_cmd.ssh:ssh",
    "ssh-config": "xnode_cmd.ssh:ssh_config",
    "vm": "xnode_cmd.vm:vm",
    "exec": "xnode_cmd.execute:execute",
    "tunnel": "xnode_cmd.tunnel:tunnel",
    "image": "xnode_cmd.image:image",
    "genesis": "xnode_cmd.genesis:genesis",
    "token": "xnode_cmd.tokens:token",
    "dao": "xnode_cmd.dao:dao",
    "devnet": "xnode_cmd.devnet:devnet",
}


class LazyGroup(click.Group):
    """A group whose commands are found by name and imported on use; turns faults into one sentence on stderr."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names, in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, or None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; exit status 1 and the fault's own sentence where one is raised."""
        try:
            return super().invoke(ctx)
        except Fault as fault:
            raise click.ClickException(str(fault)) from fault


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="xnode")
def cli() -> None:
    """Lease real virtual machines from other people, or offer your own.

    Start with `xnode devnet up`: a whole network on this machine.
    """


def main() -> None:
    """The console script `xnode`."""
    cli(prog_name="xnode")


if __name__ == "__main__":
    main()
