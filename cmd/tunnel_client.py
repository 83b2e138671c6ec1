"""The client's end of POST /tunnel/{hash}/tcp: an HTTP request that becomes a raw connection.

Only the standard library: this starts with every SSH connection.
"""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import click

CONNECT_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 70.0  # the node dials the provider, and the provider the machine; it gives up after 60
HEAD_BYTES_MAX: Final = 16_384
ERROR_BYTES_MAX: Final = 65_536
CHUNK_BYTES: Final = 65_536
OPEN_STATUSES: Final = (101, 200)

Read = Callable[[], bytes]
Write = Callable[[bytes], None]
Close = Callable[[], None]


class Tunnel:
    """An open tunnel: the socket, and the bytes that came in one segment with the answer's head."""

    def __init__(self, sock: socket.socket, early: bytes) -> None:
        self.sock = sock
        self._early = early

    def read(self) -> bytes:
        """What the machine sent; b"" at its end."""
        if self._early:
            early, self._early = self._early, b""
            return early
        return self.sock.recv(CHUNK_BYTES)

    def end_writing(self) -> None:
        """Passes our end on: the machine sees it, and may still send."""
        self.sock.shutdown(socket.SHUT_WR)


def open_tunnel(api_url: str, lease_hash: str, token: str | None) -> Tunnel:
    """Asks the node for a tunnel; raises click.ClickException with the node's reason."""
    parts = urlsplit(api_url)
    if parts.scheme != "http" or parts.hostname is None:
        raise click.ClickException(f"{api_url} is not an http:// address; a tunnel needs a plain connection to the API")
    address = (parts.hostname, parts.port or 80)
    try:
        sock = socket.create_connection(address, CONNECT_TIMEOUT_S)
    except OSError as error:
        raise click.ClickException(f"nobody answers at {api_url}; is the node running?") from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(ANSWER_TIMEOUT_S)
    try:
        sock.sendall(_request(parts.netloc, lease_hash, token))
        status, early = _read_answer(sock)
    except (OSError, ValueError) as error:
        sock.close()
        raise click.ClickException(
            f"{api_url} did not answer a tunnel request ({error}); see the node's log"
        ) from error
    if status not in OPEN_STATUSES:
        message = _error_message(sock, status, early)
        sock.close()
        raise click.ClickException(message)
    sock.settimeout(None)
    return Tunnel(sock, early)


def _request(host: str, lease_hash: str, token: str | None) -> bytes:
    lines = [
        f"POST /tunnel/{lease_hash}/tcp HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: tcp",
        "Content-Type: application/json",
    ]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _read_answer(sock: socket.socket) -> tuple[int, bytes]:
    """The answer's status and what came behind its head."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(CHUNK_BYTES)
        data += chunk
        if not chunk or len(data) > HEAD_BYTES_MAX + CHUNK_BYTES:
            raise ValueError("no HTTP answer")
    head, _, rest = data.partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise ValueError("no HTTP answer")
    return int(words[1]), rest


def _error_message(sock: socket.socket, status: int, early: bytes) -> str:
    data = early
    try:
        while len(data) < ERROR_BYTES_MAX and not _is_json(data):
            chunk = sock.recv(CHUNK_BYTES)
            if not chunk:
                break
            data += chunk
        return str(json.loads(data)["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"the node refused the tunnel with status {status}"


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def carry_stdio(tunnel: Tunnel, stdin: int, stdout: int) -> None:
    """Joins the tunnel to two file descriptors until both directions have ended; passes half-close on."""
    carry(
        tunnel,
        lambda: os.read(stdin, CHUNK_BYTES),
        lambda data: _write_all(stdout, data),
        lambda: os.close(stdout),
    )


def carry_socket(tunnel: Tunnel, client: socket.socket) -> None:
    """Joins the tunnel to a connection until both directions have ended, then closes both."""
    with client, tunnel.sock:
        carry(tunnel, lambda: client.recv(CHUNK_BYTES), client.sendall, lambda: client.shutdown(socket.SHUT_WR))


def carry(tunnel: Tunnel, read: Read, write: Write, end_writing: Close) -> None:
    """Both directions at once, each to its own end; returns when both have ended."""
    upward = threading.Thread(target=_pump, args=(read, tunnel.sock.sendall, tunnel.end_writing), daemon=True)
    upward.start()
    _pump(tunnel.read, write, end_writing)
    upward.join()


def _pump(read: Read, write: Write, end: Close) -> None:
    with contextlib.suppress(OSError):  # one side is gone: what is left is to tell the other
        while data := read():
            write(data)
    with contextlib.suppress(OSError):  # that is gone as well
        end()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
