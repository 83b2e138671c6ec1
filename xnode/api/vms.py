"""Machines of this node, as provider and as consumer: what they are, use and do; commands in them."""

import asyncio
from typing import Final

from xnode.api.access import PROOF, proof_of
from xnode.api.calls import Api, Asked, Call
from xnode.api.events import refresh
from xnode.api.parse import Field, optional, path_hash
from xnode.api.render import MACHINE, machine_json, rendered
from xnode.api.schema import BOOLEAN, HEX32, INTEGER, MAYBE_INTEGER, NUMBER, TEXT, listing, record, word
from xnode.core.faults import NotFound
from xnode.core.machine import MachineStatus
from xnode.core.power import Verb

TIMEOUT_DEFAULT: Final = 30.0
TIMEOUT_MAX: Final = 600
MARGIN_SECONDS: Final = 10.0
COMMAND_MAX: Final = 64 * 1024  # characters
ASKED_MAX: Final = 64  # machines at other providers that one list asks about
LOOK_SECONDS: Final = 2.0  # for all of them

STEER_SECONDS_MAX: Final = 660.0  # beyond the longest boot

COMMAND: Final = (
    Field("command", "text", "the shell command to run in the machine", low=1, high=COMMAND_MAX),
    optional("timeout", "number", "seconds it may take", TIMEOUT_DEFAULT, low=1, high=TIMEOUT_MAX),
)
STEERED: Final = {
    Verb.STOP: "Switch the machine off; its disk is kept, and it stays off until it is told to start",
    Verb.START: "Boot a machine that is off or has failed",
    Verb.REBOOT: "Shut the machine down and boot it; ends when it answers on SSH",
    Verb.PAUSE: "Hold the machine still with all that is in its memory",
    Verb.RESUME: "Let a paused machine run on",
    Verb.RESET: "As reboot, but the guest is not asked, as by a power cut",
}
DONE: Final = record(lease_hash=HEX32, status=word(*MachineStatus), duration_ms=INTEGER)
FIGURES: Final = record(
    lease_hash=HEX32,
    at=INTEGER,
    cpu_ns=INTEGER,
    memory_bytes=INTEGER,
    disk_bytes=INTEGER,
    disk_read_bytes=INTEGER,
    disk_written_bytes=INTEGER,
    guest_memory_bytes=MAYBE_INTEGER,
    network_received_bytes=MAYBE_INTEGER,
    network_sent_bytes=MAYBE_INTEGER,
)
RESULT: Final = record(exit_code=NUMBER, stdout=TEXT, stderr=TEXT, duration_ms=INTEGER, truncated=BOOLEAN)


async def list_vms(api: Api, asked: Asked) -> list[dict[str, object]]:  # noqa: ARG001 every handler has one shape
    """By lease hash; of machines at other providers what these say now, where they answer soon."""
    elsewhere = [machine.lease_hash for machine in api.port.machines() if not machine.driver]
    await asyncio.gather(*(refresh(api, lease_hash, LOOK_SECONDS) for lease_hash in elsewhere[:ASKED_MAX]))
    return rendered(api.port.machines(), machine_json)


async def get_vm(api: Api, asked: Asked) -> dict[str, object]:
    """One machine."""
    lease_hash = path_hash(asked.request, "vm")
    await refresh(api, lease_hash)
    for machine in api.port.machines():
        if machine.lease_hash == lease_hash:
            return machine_json(machine)
    raise NotFound("vm_unknown", f"vm not found: this node has no machine for the lease {lease_hash.hex()}")


async def execute(api: Api, asked: Asked) -> dict[str, object]:
    """Runs a shell command in a machine that this node hosts; bytes that are no UTF-8 are shown as U+FFFD."""
    lease_hash = path_hash(asked.request, "vm")
    command, timeout = asked.body["command"], asked.body["timeout"]
    deadline_s = timeout + MARGIN_SECONDS
    result = await api.bridge.call(api.port.execute, lease_hash, command, timeout, deadline_s=deadline_s)
    return result._asdict() | {
        "stdout": result.stdout.decode(errors="replace"),
        "stderr": result.stderr.decode(errors="replace"),
    }


async def get_metrics(api: Api, asked: Asked) -> dict[str, object]:
    """Counters run since the machine was last started."""
    lease_hash = path_hash(asked.request, "vm")
    figures = await api.bridge.call(api.port.figures, lease_hash, proof_of(asked.request.headers))
    return {"lease_hash": lease_hash.hex(), **figures._asdict()}


def _steering(verb: Verb) -> Call:
    """POST /vms/{hash}/stop and its like."""

    async def steer(api: Api, asked: Asked) -> dict[str, object]:
        lease_hash, proof = path_hash(asked.request, "vm"), proof_of(asked.request.headers)
        done = await api.bridge.call(api.port.steer, lease_hash, verb, proof, deadline_s=STEER_SECONDS_MAX)
        return {"lease_hash": lease_hash.hex(), "status": str(done.status), "duration_ms": done.duration_ms}

    return Call(
        "POST",
        f"/vms/{{hash}}/{verb}",
        STEERED[verb],
        steer,
        DONE,
        (401, 404, 409, 410, 502, 503),
        body=(),
        headers=PROOF,
        signed=True,
        price=10,
    )


CALLS: Final = (
    Call("GET", "/vms", "All machines of this node", list_vms, listing(MACHINE), price=5),
    Call("GET", "/vms/{hash}", "One machine by its lease's hash", get_vm, MACHINE, (404,)),
    Call(
        "POST",
        "/vms/{hash}/exec",
        "Run a shell command in a machine that this node hosts",
        execute,
        RESULT,
        (400, 401, 404, 409, 502, 503),
        body=COMMAND,
        acting=True,
        price=10,
    ),
    *map(_steering, Verb),
    Call(
        "GET",
        "/vms/{hash}/metrics",
        "What the machine uses of processor, memory, disk and network",
        get_metrics,
        FIGURES,
        (401, 404, 409, 410, 502, 503),
        headers=PROOF,
        signed=True,
        price=10,
    ),
)
