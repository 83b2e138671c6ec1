"""Waiting for a lease while telling what happens: the request runs in a thread, the steps are read beside it."""

import contextlib
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import click

from xnode_cmd.client import ANSWER_MARGIN_S, ApiClient, ApiRefusal
from xnode_cmd.node_access import NodeAccess
from xnode_cmd.output import progress, short

POLL_S: Final = 0.5
STILL_WAITING_S: Final = 10.0  # how often a line is printed though nothing has changed
LAST_STEP: Final = "accepted"  # the request's own end says the same
LONG_HEX: Final = re.compile(r"\b[0-9a-f]{64}\b")


def step_text(event: dict[str, Any]) -> str:
    """An event of a lease on one line: `provider booted (3.4 s)`; long hashes are cut."""
    words = str(event.get("step", event.get("state"))).replace("_", " ")
    detail = LONG_HEX.sub(lambda found: short(found[0]), str(event["detail"]))
    duration_ms = event.get("duration_ms")
    took = f" ({duration_ms / 1000:.1f} s)" if duration_ms is not None else ""
    return f"{words}{': ' if detail else ''}{detail}{took}"


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
    watch = Watch(node, body["access_pub_key"], report)
    request = Request(node, body, timeout_s)
    report("asking the market")
    with node.client() as client:
        while not request.wait(POLL_S):
            watch.look(client)
    watch.end()
    if request.error is not None:
        raise request.error
    assert request.lease_hash is not None
    watch.say("the machine answers on SSH")
    return request.lease_hash


class Watch:
    """Finds the lease with this access key in the ledger, then prints its steps as the node reports them."""

    def __init__(self, node: NodeAccess, access_pub_key: str, report: Callable[[str], None]) -> None:
        self._node, self._key, self._report = node, access_pub_key, report
        self._started = self._printed_at = time.monotonic()
        self._followed: set[str] = set()
        self._over = threading.Event()

    def look(self, client: ApiClient) -> None:
        """One look; a refusal (a busy node) is no reason to stop waiting."""
        with contextlib.suppress(ApiRefusal):
            for item in client.get("/leases", consumer=client.get("/node")["address"], state="created"):
                if item["access_pub_key"] == self._key and item["lease_hash"] not in self._followed:
                    self._follow(item)
        if time.monotonic() - self._printed_at > STILL_WAITING_S:
            what = "the machine" if self._followed else "the block's proof of work, or offers"
            self.say(f"still waiting for {what}")

    def _follow(self, item: dict[str, Any]) -> None:
        self._followed.add(item["lease_hash"])
        self.say(f"lease {short(item['lease_hash'])}")
        threading.Thread(target=self._print_events, args=(item["lease_hash"],), daemon=True).start()

    def _print_events(self, lease_hash: str) -> None:
        with self._node.client() as client:
            for line in client.lines(f"/leases/{lease_hash}/events"):
                if self._over.is_set():
                    return
                name, _, data = line.partition(": ")
                if name == "data":
                    event = json.loads(data)
                    if event.get("step") != LAST_STEP:
                        self.say(step_text(event))

    def say(self, text: str) -> None:
        """One line with the seconds since the request."""
        self._printed_at = time.monotonic()
        self._report(f"[{self._printed_at - self._started:5.1f} s] {text}")

    def end(self) -> None:
        """Nothing is printed after this."""
        self._over.set()
