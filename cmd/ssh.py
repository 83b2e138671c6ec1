"""`xnode ssh`: the ordinary OpenSSH client, through the tunnel, with the host key that the ledger holds."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from xnode.core.values import PublicKey, public_key_from_hex
from xnode_cmd.client import LIST_LIMIT, ApiClient
from xnode_cmd.lease_keys import LeaseKeys
from xnode_cmd.leases import find_lease
from xnode_cmd.node_access import NodeAccess, with_node
from xnode_cmd.output import short

USER: Final = "root"
CHAIN_PAGES_MAX: Final = (
    100  # of LIST_LIMIT blocks of the provider, newest first, in which the accept block is looked for
)

key_option = click.option(
    "-i", "identity", metavar="KEY", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Your private key.  [default: the one made by `xnode lease request`]",
)  # fmt: skip


class Login(NamedTuple):
    """All that OpenSSH needs for one lease's machine."""

    alias: str
    identity: Path
    known_hosts: Path
    proxy_command: str

    def options(self) -> dict[str, str]:
        """OpenSSH's own names; nothing of the user's configuration can weaken the check of the host key."""
        return {
            "HostName": self.alias,
            "HostKeyAlias": self.alias,
            "User": USER,
            "IdentityFile": quoted(self.identity),
            "IdentitiesOnly": "yes",
            "PreferredAuthentications": "publickey",
            "UserKnownHostsFile": quoted(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "HostKeyAlgorithms": "ssh-ed25519",
            "UpdateHostKeys": "no",
            "CheckHostIP": "no",
            "ControlPath": "none",
            "ProxyCommand": self.proxy_command,
        }


def quoted(path: Path) -> str:
    """A path as OpenSSH's configuration reads it: spaces kept, % not expanded."""
    return '"' + str(path).replace("%", "%%") + '"'


@click.command(context_settings={"ignore_unknown_options": True})
@key_option
@click.argument("lease")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@with_node
def ssh(node: NodeAccess, lease: str, command: tuple[str, ...], identity: Path | None) -> None:
    """Log into a lease's machine, or run COMMAND in it: xnode ssh LEASE -- uname -a."""
    program = shutil.which("ssh")
    if program is None:
        raise click.ClickException("there is no ssh on this machine; install openssh-client")
    login = find_login(node, lease, identity)
    options = [word for name, value in login.options().items() for word in ("-o", f"{name}={value}")]
    sys.stdout.flush()
    os.execv(program, ["ssh", *options, login.alias, *command])


@click.command()
@key_option
@click.argument("lease")
@with_node
def ssh_config(node: NodeAccess, lease: str, identity: Path | None) -> None:
    """Print a block for an OpenSSH configuration file, for scp, sftp, rsync and editors.

    For example: xnode ssh-config LEASE > lease.conf; scp -F lease.conf FILE xnode-LEASE:
    """
    login = find_login(node, lease, identity)
    click.echo(f"Host {login.alias}")
    for name, value in login.options().items():
        click.echo(f"  {name} {value}")


def find_login(node: NodeAccess, lease: str, identity: Path | None) -> Login:
    """What is needed to log in; raises click.ClickException that says what is missing."""
    with node.client() as client:
        record = find_lease(client, lease)
        lease_hash = str(record["lease_hash"])
        if record["state"] != "accepted":
            raise click.ClickException(f"lease {short(lease_hash)} is {record['state']}, so it has no machine")
        host_key = read_host_key(client, record)
        api_url = client.url
    keys = LeaseKeys(node.data_dir)
    private = identity or keys.find(lease_hash, public_key_from_hex(record["access_pub_key"]))
    if private is None:
        raise click.ClickException(f"the key of lease {short(lease_hash)} is not in {keys.folder}; name it by -i KEY")
    alias = f"xnode-{short(lease_hash)}"
    known_hosts = keys.known_hosts(lease_hash, alias, host_key)
    return Login(alias, private.absolute(), known_hosts, proxy_command(node, lease_hash, api_url))


def read_host_key(client: ApiClient, lease: dict[str, Any]) -> PublicKey:
    """The key in the lease's accept block, from the ledger of this node; raises click.ClickException."""
    for item in client.pages(f"/accounts/{lease['provider']}/chain", CHAIN_PAGES_MAX, limit=LIST_LIMIT):
        block = item["block"]
        if block["type"] == "lease_accept" and block["source"] == lease["lease_hash"]:
            return public_key_from_hex(block["host_key"], "host_key")
    raise click.ClickException(f"the node has no accept block of lease {short(lease['lease_hash'])}; try again")


def proxy_command(node: NodeAccess, lease_hash: str, api_url: str) -> str:
    """The command line that OpenSSH runs in a shell to reach the machine."""
    words = [sys.executable, "-m", "xnode_cmd.main", "tunnel", lease_hash, "--stdio"]
    words += ["--data-dir", str(node.data_dir.root), "--api", api_url]
    return shlex.join(words).replace("%", "%%")
