"""A machine's way out, tried without a machine: the resolver is asked from a namespace like theirs (`xnode doctor`)."""

import os
import socket
import time
from pathlib import Path
from typing import Final

from xnode.core.faults import OperatorFault
from xnode.vm.internet import Internet
from xnode.vm.internet_rules import InternetTerms
from xnode.vm.limits import INTERNET_ANSWER_SECONDS

_ATTEMPTS: Final = 2  # a datagram may be lost
_QUESTION: Final = bytes.fromhex("010000010000000000000000020001")  # the name servers of the root, recursively


def ask_resolver(terms: InternetTerms, folder: Path) -> float:
    """Seconds until it answered; blocks for a while. Raises OperatorFault(internet_unavailable, internet_silent).

    Its rules and link are not those of a node that runs in `folder`, so nothing there is touched.
    """
    internet = Internet(terms, folder / "doctor")
    internet.check()
    seconds = internet.try_out(lambda: _ask(str(terms.resolver)))
    if seconds is None:
        message = (
            f"the resolver {terms.resolver} does not answer machines: look whether this host reaches it, and whether"
            " another firewall of this host lets it forward what comes from interfaces whose names begin with xn"
        )
        raise OperatorFault("internet_silent", message)
    return seconds


def _ask(resolver: str) -> float | None:
    began = time.monotonic()
    number = os.urandom(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(INTERNET_ANSWER_SECONDS)
        sock.connect((resolver, 53))
        for _ in range(_ATTEMPTS):
            try:
                sock.send(number + _QUESTION)
                if sock.recv(512)[:2] == number:
                    return time.monotonic() - began
            except OSError:  # nothing came in time, or a refusal did
                continue
    return None
