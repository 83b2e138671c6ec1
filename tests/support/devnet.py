"""A running network of five node processes for a test module: fixture `devnet`, and what tests of it share.

A module that wants another network than the usual one sets DEVNET = Plan(...). The network ends with the module, its
machines too, whatever happened; a failed test's report carries the end of each node's log.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import psutil
import pytest

from xnode.config import DataDir, render_config
from xnode.core.keys import SigningKey
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.devnet_plan import Plan
from xnode_cmd.devnet_process import end_machines, running_machines, tail

CHECKOUT: Final = Path(__file__).resolve().parents[2]
IMAGES: Final = CHECKOUT / ".cache/images"
SHORT_PLAN: Final = Plan(min_duration=20)
ANSWER_SECONDS: Final = 150.0  # a lease request may wait 120 s for its machine
POLL_SECONDS: Final = 0.1
T = TypeVar("T")


def built_image() -> None:
    """The tiny guest in the checkout's store, built by scripts/build-guest where it is absent."""
    if not (IMAGES / "tiny").exists():
        subprocess.run([CHECKOUT / "scripts/build-guest", "tiny"], stdin=subprocess.DEVNULL, check=True)


@contextmanager
def running_devnet(plan: Plan = SHORT_PLAN, **provider: Any) -> Iterator[Devnet]:
    """A network that is ready, `provider` further settings of its providers; its folder has a short path, as the
    sockets of its machines need it."""
    built_image()
    with tempfile.TemporaryDirectory(prefix="xn-", ignore_cleanup_errors=True) as folder:
        network = Devnet.create(Path(folder) / "net", plan._replace(images_dir=str(IMAGES)))
        for member in network.of_kind("provider"):
            data_dir = network.process(member.name).data_dir
            data_dir.config.write_text(render_config(data_dir.load_config()._replace(**provider)))
        with ending(network):
            network.up()
            yield network


@contextmanager
def ending(network: Devnet) -> Iterator[None]:
    """Ends the nodes and then each provider's machines, even if something goes wrong on the way."""
    with ExitStack() as stack:
        for member in network.of_kind("provider"):
            stack.callback(end_machines, DataDir(network.root / member.name))
        stack.callback(network.stop)
        yield


@pytest.fixture(scope="module")
def devnet(request: pytest.FixtureRequest) -> Iterator[Devnet]:
    """The module's network: three timekeepers, a provider, a consumer; leases from 20 s on unless DEVNET says else."""
    with running_devnet(getattr(request.module, "DEVNET", SHORT_PLAN)) as network:
        yield network


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test that had a network says what its nodes logged last."""
    report = yield
    network = getattr(item, "funcargs", {}).get("devnet")
    if report.failed and isinstance(network, Devnet):
        for member in network.members:
            log = network.process(member.name).data_dir.log
            report.sections.append((f"end of {member.name}'s log", tail(log)))
    return report


class Polite(httpx.HTTPTransport):
    """Waits and asks again where the node says that it is asked too much."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request, and again while the answer is 429."""
        while (answer := super().handle_request(request)).status_code == httpx.codes.TOO_MANY_REQUESTS:
            answer.close()
            time.sleep(int(answer.headers["Retry-After"]))
        return answer


def http(network: Devnet, name: str) -> httpx.Client:
    """A plain client of one node's API, as any program would be; close it."""
    url = network.member(name).api_url
    return httpx.Client(base_url=url, timeout=ANSWER_SECONDS, trust_env=False, transport=Polite(verify=False))


def lease_body(key: SigningKey, **changes: Any) -> dict[str, Any]:
    """The request of the user's document, for `key`; a field changed to None is left out."""
    sizes = {"vcpus": 1, "memory_mb": 1024, "disk_gb": 1, "duration": 120}
    body = {**sizes, "access_pub_key": key.public_key.hex(), **changes}
    return {name: value for name, value in body.items() if value is not None}


def wait_until(condition: Callable[[], T], seconds: float, what: str) -> T:
    """The first true value of `condition`; fails the test when there was none within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(POLL_SECONDS)
    return found


def machines(network: Devnet, name: str = "provider1") -> list[psutil.Process]:
    """The QEMU processes of one provider."""
    return running_machines(DataDir(network.root / name))
