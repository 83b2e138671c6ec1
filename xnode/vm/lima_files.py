"""What this node keeps of a Lima machine, made whole before it gets its name; the rest is Lima's.

    <root>/<lease hash>/machine.json    the record
    <root>/<lease hash>/provider_key    32 bytes, the node's own login (0600)
    <root>/<lease hash>/host_key        32 bytes, the guest's, given to it at every start (0600)

All of it blocks: call it in a worker thread.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from xnode.core.faults import CallerFault, MachineFault
from xnode.core.keys import is_valid_point
from xnode.core.machine import MachineSpec, MachineStatus
from xnode.core.values import Hash
from xnode.vm import machine_files, ssh_keys, state
from xnode.vm.durable import create_file, remove_tree
from xnode.vm.state import Record

HOST_KEY: Final = "host_key"


def new_record(
    spec: MachineSpec, image: str, memory_mb: int, accelerator: str, now: int, random: Callable[[int], bytes]
) -> tuple[Record, bytes, bytes]:
    """The record with the seeds of the provider's and the host's key; `now` in ns. Raises CallerFault."""
    if not is_valid_point(spec.access_key):  # an all-zero key, say, would let anybody in
        raise CallerFault("bad_access_key", "the access key is no ed25519 public key")
    provider_seed, host_seed = ssh_keys.new_seed(random), ssh_keys.new_seed(random)
    record = Record(
        spec, image, memory_mb, ssh_keys.public_key_of(host_seed), accelerator, now, MachineStatus.PROVISIONING, now
    )
    return record, provider_seed, host_seed


def publish(root: Path, record: Record, provider_seed: bytes, host_seed: bytes) -> None:
    """Makes the directory; if the node dies meanwhile, `machine_files.sweep` removes what there is."""
    unfinished = machine_files.directory_of(root, record.spec.lease_hash).with_suffix(machine_files.UNFINISHED)
    remove_tree(unfinished)
    unfinished.mkdir(mode=0o700)
    create_file(unfinished / machine_files.PROVIDER_KEY, provider_seed)
    create_file(unfinished / HOST_KEY, host_seed)
    state.save(unfinished, record)
    machine_files.publish(unfinished)


def seeds(root: Path, lease_hash: Hash) -> tuple[bytes, bytes]:
    """The private keys of the provider's login and of the guest; raises MachineFault(machine_record_damaged)."""
    directory = machine_files.directory_of(root, lease_hash)
    try:
        return (directory / machine_files.PROVIDER_KEY).read_bytes(), (directory / HOST_KEY).read_bytes()
    except OSError as error:
        raise MachineFault("machine_record_damaged", f"a key in {directory} can't be read ({error})") from error
