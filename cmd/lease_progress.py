"""Waiting for a lease while telling what happens: the request runs in a thread, the steps are read beside it."""

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import click

from xnode_cmd.client import ApiClient, ApiRefusal
from xnode_cmd.node_access import NodeAccess
from xnode_cmd.output import progress, short

POLL_S: Final = 1.0
STILL_WAITING_S: Final = 10.0  # how often a line is printed though nothing has changed
ANSWER_MARGIN_S: Final = 30.0  # beyond the request's own timeout
RECENT_LEASES: Final = 100


class Request:
    """One POST /lease/request in a thread of its own; `lease_hash` or `error` is set when it is over."""

    def __init__(self, node: NodeAccess, body: dict[str, Any], timeout_s: float) -> None:
        self.lease_hash: str | None = None
        self.error: click.ClickException | None = None
        self._node, self._body, self._timeout_s = node, body, timeout_s
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether it is over after at most `seconds`."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with self._node.client() as client:
                timeout_s = self._timeout_s + ANSWER_MARGIN_S
                answer = client.post("/lease/request", self._body, timeout_s, Idempotency_Key=secrets.token_hex(16))
            self.lease_hash = answer["lease_hash"]
        except click.ClickException as error:
            self.error = error


def request_with_progress(
    node: NodeAccess, body: dict[str, Any], timeout_s: float, report: Callable[[str], None] = progress
) -> str:
    """The hash of the accepted lease; raises click.ClickException with the node's reason."""
    started = time.monotonic()
    request = Request(node, body, timeout_s)
    report("asking the market")
    with node.client() as client:
        watch = Watch(client, body["access_pub_key"], started, report)
        while not request.wait(POLL_S):
            watch.look()
    if request.error is not None:
        raise request.error
    assert request.lease_hash is not None
    report(f"[{time.monotonic() - started:5.1f} s] the machine answers on SSH")
    return request.lease_hash


class Watch:
    """Prints what the ledger shows of the lease with this access key, each state once."""

    def __init__(self, client: ApiClient, access_pub_key: str, started: float, report: Callable[[str], None]) -> None:
        self._client, self._key, self._started = client, access_pub_key, started
        self._seen: set[str] = set()
        self._report = report
        self._printed_at = started

    def look(self) -> None:
        """One look; a refusal (a busy node) is no reason to stop waiting."""
        try:
            recent = self._client.get("/leases", state="created", limit=RECENT_LEASES)
        except ApiRefusal:
            return
        for item in recent:
            if item["access_pub_key"] == self._key and item["lease_hash"] not in self._seen:
                self._seen.add(item["lease_hash"])
                self._print(f"lease {short(item['lease_hash'])} for {item['cost']} XUSD at {short(item['provider'])}")
        if time.monotonic() - self._printed_at > STILL_WAITING_S:
            self._print("the machine is booting" if self._seen else "waiting for offers")

    def _print(self, text: str) -> None:
        self._printed_at = time.monotonic()
        self._report(f"[{self._printed_at - self._started:5.1f} s] {text}")
