"""Real node processes for benchmarks: a prepared ledger in a data directory, `xnode run` on it, its API, its end."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.big_ledger import Maker, Shape
from xnode.config import Config, DataDir, write_private
from xnode.core.blocks import encode_block
from xnode.core.genesis import Genesis
from xnode.core.ledger import Context, Effects
from xnode.core.rules import judge_checked
from xnode.store.store import Store

BATCH = 512
START_SECONDS = 60.0
STOP_SECONDS = 20.0
ANSWER_SECONDS = 30.0


def fill_store(path: Path, genesis: Genesis, shape: Shape, confirm: bool = True) -> list[bytes]:
    """Makes a store of that shape, all of it confirmed where `confirm`; returns the blocks in wire form."""
    wires = []
    context = Context(genesis, now=None)
    with Store.open(path, genesis) as store:
        for batch in _batches(Maker(genesis, shape), BATCH):
            with store.transaction() as transaction:
                for block in batch:
                    wires.append(encode_block(block))
                    effects = judge_checked(transaction, block, context)
                    assert isinstance(effects, Effects), effects
                    transaction.stage(effects, wires[-1])
                    if confirm:
                        transaction.confirm(block.account, effects.account.height)
                transaction.commit()
    return wires


def _batches(maker: Maker, size: int) -> Iterator[list[Any]]:
    batch = []
    for block in maker.blocks():
        batch.append(block)
        if len(batch) == size:
            yield batch
            batch = []
    yield batch


class NodeProcess:
    """One node. Its account's key is made from `owner` of the big ledger where that is given.

    One that `is_sampled` tells what kinds of work took its CPU time, and what kept its loop.
    """

    def __init__(self, root: Path, genesis: Genesis, owner: str = "", is_sampled: bool = False, **config: Any) -> None:
        self.data_dir = DataDir(root)
        self._samples = root / "samples.json"
        self.is_sampled = is_sampled
        here = {"api_port": 0, "listen": ("/ip4/127.0.0.1/tcp/0",), "mdns": False}
        settings = here | {"debug_loop": is_sampled} | config
        self.data_dir.create(genesis, Config(**settings))
        if owner:
            seed = hashlib.sha256(f"big ledger {owner}".encode()).digest()
            write_private(self.data_dir.account_key, seed.hex() + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *words: str) -> None:
        """Starts it and waits until it says that it is up."""
        self.data_dir.run.unlink(missing_ok=True)
        sampled = [sys.executable, "-m", "tests.support.sampled_node", str(self._samples)]
        program = sampled if self.is_sampled else [str(Path(sys.executable).parent / "xnode")]
        command = [*program, "run", "--data-dir", str(self.data_dir.root), *words]
        with self.data_dir.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_for(lambda: self.data_dir.run.exists() or self._died(), START_SECONDS)
        self.told = json.loads(self.data_dir.run.read_text())
        self._client = httpx.Client(timeout=ANSWER_SECONDS)  # kept: a new one for each look takes 50 ms of CPU time

    def _died(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(self.data_dir.log.read_text()[-2000:])
        return False

    def samples(self) -> Counter[str]:
        """How often each kind of work was met until now."""
        return Counter(json.loads(self._samples.read_text()) if self._samples.exists() else {})

    def held_ms(self) -> list[tuple[str, float]]:
        """The tasks that kept the loop for longer than it may be, as its log tells them, and for how long."""
        found = re.findall(r"task (.+) kept the loop for ([\d.]+) ms", self.data_dir.log.read_text())
        return [(name, float(took)) for name, took in found]

    @property
    def address(self) -> str:
        """Where peers dial it."""
        return str(self.told["addresses"][0])

    def get(self, path: str) -> Any:
        """One answer of its API."""
        return self._client.get(self.told["api"] + path).json()

    def metrics(self) -> str:
        """All its figures, as text."""
        return self._client.get(self.told["api"] + "/metrics").text

    def add_peer(self, address: str) -> None:
        """Lets it dial a peer."""
        self._client.post(self.told["api"] + "/peers", json={"address": address}).raise_for_status()

    def cpu_seconds(self) -> tuple[float, float]:
        """CPU time of the process itself, and of the processes that it has started."""
        assert self.process is not None
        own = psutil.Process(self.process.pid)
        spent = own.cpu_times()
        others = [child.cpu_times() for child in own.children(recursive=True)]
        ended = spent.children_user + spent.children_system
        return spent.user + spent.system, ended + sum(times.user + times.system for times in others)

    def kill(self) -> None:
        """Ends it at once."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ends it in order, or by force."""
        if self.process is None or self.process.poll() is not None:
            return
        self._client.close()
        os.kill(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def ending(*nodes: NodeProcess) -> Iterator[None]:
    """Ends them whatever happens."""
    try:
        yield
    finally:
        for node in nodes:
            node.stop()


def wait_for(holds: Callable[[], bool], seconds: float, step: float = 0.05) -> None:
    """Waits in steps; AssertionError after so long."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(step)
