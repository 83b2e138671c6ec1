"""Machines of this node, as provider and as consumer, and commands in them."""

from typing import Final

from xnode.api.calls import Api, Asked, Call
from xnode.api.parse import Field, optional, path_hash
from xnode.api.render import MACHINE, machine_json, rendered
from xnode.api.schema import BOOLEAN, INTEGER, NUMBER, TEXT, listing, record
from xnode.core.faults import NotFound

TIMEOUT_DEFAULT: Final = 30.0
TIMEOUT_MAX: Final = 600
MARGIN_SECONDS: Final = 10.0
COMMAND_MAX: Final = 64 * 1024  # characters

COMMAND: Final = (
    Field("command", "text", "the shell command to run in the machine", low=1, high=COMMAND_MAX),
    optional("timeout", "number", "seconds it may take", TIMEOUT_DEFAULT, low=1, high=TIMEOUT_MAX),
)
RESULT: Final = record(exit_code=NUMBER, stdout=TEXT, stderr=TEXT, duration_ms=INTEGER, truncated=BOOLEAN)


async def list_vms(api: Api, asked: Asked) -> list[dict[str, object]]:  # noqa: ARG001 every handler has one shape
    """By lease hash."""
    return rendered(api.port.machines(), machine_json)


async def get_vm(api: Api, asked: Asked) -> dict[str, object]:
    """One machine."""
    lease_hash = path_hash(asked.request, "vm")
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


CALLS: Final = (
    Call("GET", "/vms", "All machines of this node", list_vms, listing(MACHINE)),
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
)
