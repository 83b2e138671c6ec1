"""`xnode tunnel` against a small server on loopback that speaks just what the node's API answers."""

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
import pytest

from tests.support.command import spawn, xnode_words
from xnode.config import write_private
from xnode_cmd.tunnel import parse_listen
from xnode_cmd.tunnel_client import Tunnel, open_tunnel

LEASE = "ab" * 32
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
Handler = Callable[[socket.socket, bytes], None]


@contextmanager
def serving(handler: Handler, connections: int = 1) -> Iterator[str]:
    """The address of an API that reads each connection's request head and hands it over."""

    def serve() -> None:
        for _ in range(connections):
            client, _ = server.accept()
            with client:
                client.settimeout(10)
                head = b""
                while b"\r\n\r\n" not in head:
                    head += client.recv(65_536)
                handler(client, head)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while chunk := sock.recv(65_536):
        data += chunk
    return data


def echo_backwards(client: socket.socket, head: bytes) -> None:
    """Greets in the segment of the head, reads to the client's end, and only then answers."""
    client.sendall(SWITCHING + b"hello ")
    client.sendall(read_all(client)[::-1])


@pytest.mark.slow
def test_stdio_carries_early_bytes_and_half_close() -> None:
    with serving(echo_backwards) as api:
        done = spawn("tunnel", LEASE, "--stdio", "--api", api, data=b"abc")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello cba", b"")


@pytest.mark.slow
def test_stdio_carries_much_both_ways() -> None:
    data = bytes(range(256)) * 8_192
    with serving(echo_backwards) as api:
        done = spawn("tunnel", LEASE, "--stdio", "--api", api, data=data)
    assert done.stdout == b"hello " + data[::-1]


@pytest.mark.slow
def test_the_end_of_the_machine_is_passed_on_while_stdin_is_open() -> None:
    def bye(client: socket.socket, _: bytes) -> None:
        client.sendall(SWITCHING + b"bye")

    with serving(bye) as api:
        words = xnode_words("tunnel", LEASE, "--stdio", "--api", api)
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.read() == b"bye"
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(10) == 0


@pytest.mark.slow
def test_listen_gives_each_connection_a_tunnel() -> None:
    with serving(echo_backwards, connections=2) as api:
        words = xnode_words("tunnel", LEASE, "--listen", "127.0.0.1:0", "--api", api)
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            port = int(process.stderr.readline().split(";")[0].rpartition(":")[2])
            for text in (b"one", b"two"):
                with closing(socket.create_connection(("127.0.0.1", port), 10)) as sock:
                    sock.sendall(text)
                    sock.shutdown(socket.SHUT_WR)
                    assert read_all(sock) == b"hello " + text[::-1]
            process.kill()


def opened(handler: Handler, token: str | None = None) -> Tunnel:
    with serving(handler) as api:
        return open_tunnel(api, LEASE, token)


def test_the_request_is_what_the_api_wants() -> None:
    heads = []

    def note(client: socket.socket, head: bytes) -> None:
        heads.append(head)
        client.sendall(SWITCHING)

    opened(note, "the-token").sock.close()
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == f"POST /tunnel/{LEASE}/tcp HTTP/1.1"
    assert {"Connection: Upgrade", "Upgrade: tcp", "Authorization: Bearer the-token"} <= set(lines)


def test_an_answer_in_single_bytes_is_understood() -> None:
    def drip(client: socket.socket, _: bytes) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in SWITCHING + b"x":
            client.sendall(bytes([byte]))

    tunnel = opened(drip)
    with tunnel.sock:
        assert tunnel.read() == b"x"
        assert tunnel.read() == b""


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b'HTTP/1.1 404 Not Found\r\nContent-Length: 33\r\n\r\n{"error":"no such lease","code":""}', "no such lease"),
        (b"HTTP/1.1 500 Oops\r\n\r\nno json", "status 500"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "did not answer a tunnel request"),
        (b"", "did not answer a tunnel request"),
        (b"x" * 100_000, "did not answer a tunnel request"),
    ],
)
def test_refusals_are_one_sentence(answer: bytes, why: str) -> None:
    with pytest.raises(click.ClickException, match=why):
        opened(lambda client, _: client.sendall(answer))


def test_nobody_answers() -> None:
    with pytest.raises(click.ClickException, match="nobody answers"):
        open_tunnel("http://127.0.0.1:1", LEASE, None)


def test_https_is_refused() -> None:
    with pytest.raises(click.ClickException, match="plain connection"):
        open_tunnel("https://127.0.0.1:1", LEASE, None)


@pytest.mark.slow
def test_a_refusal_ends_the_command_with_status_1(tmp_path: Path) -> None:
    write_private(tmp_path / "api.token", "t\n")
    with serving(lambda client, _: client.sendall(b'HTTP/1.1 410 Gone\r\n\r\n{"error":"it has ended"}')) as api:
        done = spawn("tunnel", LEASE, "--stdio", "--api", api, "-d", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"Error: it has ended\n")


@pytest.mark.parametrize("text", ["2222", "host:", ":22", "host:70000", "host:x"])
def test_bad_places_to_listen(text: str) -> None:
    with pytest.raises(click.UsageError):
        parse_listen(text)


def test_good_places_to_listen() -> None:
    assert parse_listen("127.0.0.1:22") == ("127.0.0.1", 22)
    assert parse_listen("[::1]:22") == ("::1", 22)
