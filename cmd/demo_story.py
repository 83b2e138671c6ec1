"""The story that the demo tells: one lease from the request to the destroyed machine, each step verified."""

import time
from collections.abc import Callable
from typing import Any, Final

from xnode.core.values import NS
from xnode_cmd.demo_login import DemoFailure, Visitor, expect
from xnode_cmd.devnet_network import Devnet
from xnode_cmd.devnet_plan import Member
from xnode_cmd.devnet_process import running_machines
from xnode_cmd.lease_keys import LeaseKeys
from xnode_cmd.lease_progress import request_with_progress
from xnode_cmd.output import short
from xnode_cmd.ssh import read_host_key
from xnode_cmd.timeline import Timeline

REQUEST: Final = {"vcpus": 1, "memory_mb": 1024, "disk_gb": 1}  # the user's document, POST /lease/request
TIMEOUT_S: Final = 120.0  # the API's own default
SLOW_TIMEOUT_S: Final = 600.0  # a whole distribution without hardware virtualisation
SETTLE_WAIT_S: Final = 120.0  # beyond the lease's expiry, on every node
GONE_WAIT_S: Final = 60.0  # beyond the settle block
POLL_S: Final = 0.5


class Story:
    """One lease on a running network."""

    def __init__(self, network: Devnet, timeline: Timeline, duration_s: int) -> None:
        self.network = network
        self.timeline = timeline
        self.duration_s = duration_s
        self.consumer, self.provider = network.member("consumer1"), network.member("provider1")
        self.lease_hash = ""

    def tell(self) -> None:
        """All of it; raises DemoFailure, click.ClickException or Fault at the first thing that does not hold."""
        step, image = self.timeline.step, self.network.plan.image
        with step("lease a machine by the consumer's API (POST /lease/request)"):
            self.request()
        with step("check the lease and the host key in the accept block on all nodes"):
            self.check_accepted()
        with step("log in by OpenSSH through the tunnel, with strict host-key check"):
            visitor = Visitor(self.network.access(self.consumer.name), self.lease_hash)
            uname = visitor.ssh("uname -a").decode()
            self.timeline.report(uname.strip())
        with step("copy a file in and out by " + ("ssh cat" if image == "tiny" else "scp")):
            checksum = visitor.copy_by_cat() if image == "tiny" else visitor.copy_by_scp()
            self.timeline.report(f"1 MiB, SHA-256 {short(checksum)}... at all three places")
        with step("run the same by the provider's API (POST /vms/{hash}/exec)"):
            self.execute(uname)
        with step("a wrong key and a wrong host key are refused"):
            self.timeline.report(visitor.wrong_key())
            self.timeline.report(visitor.wrong_host())
        with step("wait for the end of the lease, settled on every node"):
            self.wait_settled()
        with step("the machine is gone"):
            self.check_gone()
        with step("the supply identity holds on every node"):
            self.check_supply()

    def request(self) -> None:
        """The document's request with a fresh key; 200 means that the machine answers on SSH."""
        access = self.network.access(self.consumer.name)
        keys = LeaseKeys(access.data_dir)
        path, key = keys.make()
        body: dict[str, Any] = {**REQUEST, "duration": self.duration_s, "access_pub_key": key.hex()}
        timeout_s = TIMEOUT_S
        if self.network.plan.image != "tiny":
            timeout_s = body["timeout"] = SLOW_TIMEOUT_S
        self.lease_hash = request_with_progress(access, body, timeout_s, self.timeline.report)
        keys.assign(path, self.lease_hash)
        self.timeline.report(f"lease {self.lease_hash}")

    def check_accepted(self) -> None:
        """Every node holds the lease as accepted, and the accept block's host key is the one that logins will check."""
        accept = self._accept_block()
        for member in self.network.members:
            lease = self._wait_for_state(member, "accepted", SETTLE_WAIT_S)
            expect(lease["provider"] == self.provider.account, f"{member.name} shows another provider")
            expect(lease["consumer"] == self.consumer.account, f"{member.name} shows another consumer")
        with self.network.client(self.consumer.name) as client:
            shown = read_host_key(client, client.get(f"/leases/{self.lease_hash}"))
        expect(shown.hex() == accept["host_key"], "the lease's host key is not that of its accept block")
        amounts = f"{lease['cost']} XUSD in escrow, stake {lease['stake']}"
        self.timeline.report(f"{amounts}, host key {short(shown.hex())}...")

    def _accept_block(self) -> dict[str, Any]:
        with self.network.client(self.consumer.name) as client:
            chain = client.get(f"/accounts/{self.provider.account}/chain")
        blocks = [item["block"] for item in chain]
        accepts = [item for item in blocks if item["type"] == "lease_accept" and item["source"] == self.lease_hash]
        expect(len(accepts) == 1, "the provider's chain holds no accept block of the lease")
        return dict(accepts[0])

    def _wait_for_state(
        self, member: Member, state: str, timeout_s: float, tick: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            lease: dict[str, Any] | None = client.find(f"/leases/{self.lease_hash}")
            return lease if lease is not None and lease["state"] == state else None

        with self.network.client(member.name) as client:
            return dict(wait_for(look, timeout_s, f"{member.name} does not show the lease as {state}", tick))

    def execute(self, uname: str) -> None:
        """`uname -a` by the provider's API, as the document has it."""
        with self.network.client(self.provider.name) as client:
            answer = client.post(f"/vms/{self.lease_hash}/exec", {"command": "uname -a"}, TIMEOUT_S)
        expect(answer["exit_code"] == 0, f"exit code {answer['exit_code']}: {answer['stderr']}")
        expect(answer["stdout"] == uname, f"it wrote {answer['stdout']!r}, which is not what SSH showed")
        self.timeline.report("exit code 0 and the same words")

    def wait_settled(self) -> None:
        """Waits until each node shows the lease as settled."""
        with self.network.client(self.consumer.name) as client:
            lease = client.get(f"/leases/{self.lease_hash}")
        expiry = lease["start_time"] / NS + lease["duration"]
        for member in self.network.members:
            latest = max(0.0, expiry - time.time()) + SETTLE_WAIT_S
            settled = self._wait_for_state(member, "settled", latest, self._countdown(expiry))
            expect(settled["settled"] is True, f"{member.name} says settled = {settled['settled']}")
            self.timeline.report(f"{member.name}: settled")

    def _countdown(self, expiry: float) -> Callable[[], None]:
        def tick() -> None:
            left = expiry - time.time()
            text = f"{left:3.0f} s of the lease left" if left > 0 else "expired; waiting for the settle block"
            self.timeline.progress(text)

        return tick

    def check_gone(self) -> None:
        """The provider's API no longer shows it as alive, no process of it runs, its tunnel is refused."""
        wait_for(lambda: self._is_destroyed() or None, GONE_WAIT_S, "the provider still shows the machine")
        data_dir = self.network.process(self.provider.name).data_dir
        wait_for(lambda: not running_machines(data_dir) or None, GONE_WAIT_S, "its QEMU process still runs")
        self.timeline.report("not shown as alive by the provider, no QEMU process left")

    def _is_destroyed(self) -> bool:
        with self.network.client(self.provider.name) as client:
            machine = client.find(f"/vms/{self.lease_hash}")
        return machine is None or machine["status"] == "destroyed"

    def check_supply(self) -> None:
        """GET /supply of every node: held = issued for each asset, and the same totals everywhere."""
        seen = set()
        for member in self.network.members:
            with self.network.client(member.name) as client:
                supply = client.get("/supply")
            expect(supply["balanced"] is True, f"{member.name}: {supply}")
            seen.add(str(supply))
        expect(len(seen) == 1, f"the nodes differ: {seen}")
        self.timeline.report(f"the same on all {len(self.network.members)} nodes")


def wait_for(look: Callable[[], Any], timeout_s: float, what: str, tick: Callable[[], None] | None = None) -> Any:
    """What `look` gives once it is not None; raises DemoFailure after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise DemoFailure(f"waited {timeout_s:.0f} s in vain: {what}")
        if tick is not None:
            tick()
        time.sleep(POLL_S)
    return found
