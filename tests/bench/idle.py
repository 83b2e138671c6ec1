"""What an idle pair of node processes with a large ledger sends each other, counted by a relay between them."""

import argparse
import re
import selectors
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.big_ledger import Shape, big_genesis
from tests.support.node_process import NodeProcess, ending, fill_store, wait_for

GOAL_BYTES: Final = 10_000  # a minute
SETTLING_SECONDS: Final = 30.0  # after the connection: hello, the first comparison, directory
CONNECT_SECONDS: Final = 60.0


class Relay:
    """Passes one connection after another on to a port, and counts what crosses, both ways."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.sent: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()

    def run(self) -> None:
        """Until the listener is closed."""
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # the listener is closed, or the node is gone
                return
            threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        with near, far, selectors.DefaultSelector() as ready:
            ready.register(near, selectors.EVENT_READ, (far, "to the first"))
            ready.register(far, selectors.EVENT_READ, (near, "to the second"))
            while True:
                for key, _ in ready.select():
                    source, (target, name) = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    try:
                        data = source.recv(65_536)
                    except ConnectionResetError:
                        return
                    if not data:
                        return
                    self.sent[name] += len(data)
                    self.reads[name] += 1
                    target.sendall(data)


def main(words: list[str]) -> None:
    """Prints bytes a minute, in each direction and in all."""
    parser = argparse.ArgumentParser(prog="scripts/bench idle", description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=2.0)
    options = parser.parse_args(words)
    genesis = big_genesis()
    with tempfile.TemporaryDirectory(prefix="xn-") as folder:
        first = NodeProcess(Path(folder) / "first", genesis, "first")
        second = NodeProcess(Path(folder) / "second", genesis)
        fill_store(first.data_dir.store, genesis, Shape(2 * options.accounts, options.accounts))
        shutil.copytree(first.data_dir.store, second.data_dir.store)
        with ending(first, second):
            first.start()
            second.start()
            measure(first, second, options.minutes)


def measure(first: NodeProcess, second: NodeProcess, minutes: float) -> None:
    """Connects them through a relay, lets them settle, counts."""
    match = re.fullmatch(r"/ip4/127\.0\.0\.1/tcp/(\d+)/p2p/(\S+)", first.address)
    assert match is not None
    with relaying(int(match[1])) as relay:
        second.add_peer(f"/ip4/127.0.0.1/tcp/{relay.port}/p2p/{match[2]}")
        wait_for(lambda: second.get("/node")["peer_count"] == 1, CONNECT_SECONDS)
        time.sleep(SETTLING_SECONDS)
        before, sessions = relay.sent.copy(), _sessions(first) + _sessions(second)
        time.sleep(60 * minutes)
        spent = {name: (count - before[name]) / minutes for name, count in relay.sent.items()}
        compared = (_sessions(first) + _sessions(second) - sessions) / minutes
    accounts = first.get("/node")["accounts"]
    each = ", ".join(f"{rate:,.0f} B/min {name}" for name, rate in spent.items())
    total = sum(spent.values())
    print(f"{accounts:,} accounts, {minutes:g} minutes: {each}")
    print(f"in all {total:,.0f} B/min of at most {GOAL_BYTES:,}; {compared:.1f} comparisons of ledgers a minute")


@contextmanager
def relaying(port: int) -> Iterator[Relay]:
    """A relay in front of a port."""
    relay = Relay(port)
    threading.Thread(target=relay.run, daemon=True).start()
    try:
        yield relay
    finally:
        relay.close()


def _sessions(node: NodeProcess) -> int:
    found = re.search(r"^xnode_sync_session_equal (\d+)", node.metrics(), re.MULTILINE)
    return int(found[1]) if found else 0
