"""Multiaddrs of the configuration: parsed, and proved to be free before they are listened on."""

import socket
from collections.abc import Sequence
from contextlib import closing

from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from xnode.core.faults import CallerFault, OperatorFault


def parse_address(text: str) -> Multiaddr:
    """A TCP multiaddr without an id. Raises CallerFault(bad_address)."""
    try:
        address = Multiaddr(text)
        int(str(address.value_for_protocol("tcp")))
        if "p2p" in {protocol.name for protocol in address.protocols()}:
            address = address.decapsulate(Multiaddr(f"/p2p/{address.value_for_protocol('p2p')}"))
    except (MultiaddrError, ValueError) as error:
        message = f"{text!r} is no TCP multiaddr: write it as /ip4/HOST/tcp/PORT"
        raise CallerFault("bad_address", message) from error
    return address


def parse_addresses(texts: Sequence[str]) -> list[Multiaddr]:
    """Each by `parse_address`. Raises CallerFault(bad_address)."""
    return [parse_address(text) for text in texts]


def check_free(addresses: Sequence[Multiaddr]) -> None:
    """Raises OperatorFault(address_in_use).

    libp2p listens with SO_REUSEPORT: a second node on the same port would share it without a word.
    """
    for address in addresses:
        kind = address.protocols()[0].name
        host = str(address.value_for_protocol(kind))
        family = socket.AF_INET6 if kind == "ip6" else socket.AF_INET
        with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(str(address.value_for_protocol("tcp")))))
            except OSError as error:
                message = f"can't listen on {address}: {error.strerror}; choose another port or stop its user"
                raise OperatorFault("address_in_use", message) from error
