"""A tunnel's client end, by hand: the request's head, the answer's head, then bare bytes."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from xnode.core.hashing import NetworkKey
from xnode.core.keys import SigningKey
from xnode.core.tunnel import access_message
from xnode.core.values import Hash

SECONDS_MAX: Final = 60.0
UPGRADE: Final = {"Connection": "Upgrade", "Upgrade": "tcp"}
HEAD_END: Final = b"\r\n\r\n"


class RawTunnel:
    """One connection to a node's API, made a tunnel by `ask`; every wait is bounded."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.sock = socket.create_connection((parts.hostname, parts.port or 80), SECONDS_MAX)
        self._buffer = b""

    def ask(self, lease_hash: str, headers: dict[str, str], behind: bytes = b"") -> int:
        """Sends the request with `behind` in the same segment; the answer's status."""
        lines = [f"POST /tunnel/{lease_hash}/tcp HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.sock.sendall("\r\n".join(lines).encode() + HEAD_END + behind)
        return int(self.until(HEAD_END).split()[1])

    def until(self, mark: bytes) -> bytes:
        """What comes up to `mark`, which is left out."""
        while mark not in self._buffer:
            data = self.sock.recv(65536)
            assert data, f"it ended after {self._buffer!r}"
            self._buffer += data
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def rest(self) -> bytes:
        """What comes until the other side ends."""
        while data := self.sock.recv(65536):
            self._buffer += data
        return self._buffer

    def end_writing(self) -> None:
        """Half-closes."""
        self.sock.shutdown(socket.SHUT_WR)


@contextmanager
def raw_tunnel(url: str) -> Iterator[RawTunnel]:
    """A connection to a node's API."""
    tunnel = RawTunnel(url)
    with tunnel.sock:
        yield tunnel


def access_headers(
    network_key: NetworkKey, key: SigningKey, lease_hash: str, timestamp: int | None = None
) -> dict[str, str]:
    """X-Access-Signature and X-Access-Timestamp (ns; now unless given)."""
    at = time.time_ns() if timestamp is None else timestamp
    signature = key.sign(access_message(network_key, Hash(bytes.fromhex(lease_hash)), at))
    return {"X-Access-Signature": signature.hex(), "X-Access-Timestamp": str(at)}
