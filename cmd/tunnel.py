"""`xnode tunnel`: raw bytes to a machine's SSH port, by a local port or by stdin and stdout."""

import socket
import sys
import threading
from typing import Final

import click

from xnode.core.values import HASH_BYTES, hash_from_hex
from xnode_cmd.node_access import NodeAccess, with_node
from xnode_cmd.output import progress
from xnode_cmd.tunnel_client import carry_socket, carry_stdio, open_tunnel

CONNECTIONS_MAX: Final = 64  # carried at once by one `xnode tunnel --listen`
BACKLOG: Final = 16


@click.command()
@click.argument("lease")
@click.option("--listen", metavar="127.0.0.1:PORT", help="Accept connections here, each with a tunnel of its own.")
@click.option("--stdio", is_flag=True, help="Carry stdin and stdout: for ProxyCommand.")
@with_node
def tunnel(node: NodeAccess, lease: str, listen: str | None, stdio: bool) -> None:
    """Reach the SSH port of a lease's machine, wherever its provider is."""
    if stdio == (listen is not None):
        raise click.UsageError("give either --stdio or --listen 127.0.0.1:PORT")
    lease_hash = full_hash(node, lease)
    if listen is None:
        opened = open_tunnel(node.api_url(), lease_hash, node.data_dir.load_token())
        carry_stdio(opened, sys.stdin.fileno(), sys.stdout.fileno())
    else:
        serve(node, lease_hash, parse_listen(listen))


def full_hash(node: NodeAccess, lease: str) -> str:
    """The lease's whole hash; the API is asked only where a part of it was given."""
    if len(lease) == 2 * HASH_BYTES:
        return hash_from_hex(lease, "LEASE").hex()
    from xnode_cmd.leases import find_lease

    with node.client() as client:
        return str(find_lease(client, lease)["lease_hash"])


def parse_listen(text: str) -> tuple[str, int]:
    """`host:port`; raises click.UsageError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise click.UsageError(f"--listen {text!r} is not HOST:PORT, such as 127.0.0.1:2222")
    return host.strip("[]"), int(port)


def serve(node: NodeAccess, lease_hash: str, address: tuple[str, int]) -> None:
    """Accepts connections until it is interrupted."""
    slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        server = socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        raise click.ClickException(f"can't listen on {address[0]}:{address[1]}: {error.strerror}") from error
    with server:
        host, port = server.getsockname()[:2]
        progress(f"listening on {host}:{port}; log in with: ssh -p {port} root@{host}")
        while True:
            slots.acquire()
            client, _ = server.accept()
            threading.Thread(target=_carry_one, args=(node, lease_hash, client, slots), daemon=True).start()


def _carry_one(node: NodeAccess, lease_hash: str, client: socket.socket, slots: threading.BoundedSemaphore) -> None:
    try:
        with client:
            carry_socket(open_tunnel(node.api_url(), lease_hash, node.data_dir.load_token()), client)
    except click.ClickException as error:
        progress(error.format_message())
    finally:
        slots.release()
