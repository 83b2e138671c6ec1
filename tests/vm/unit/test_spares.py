"""A spare's turn to a lease's machine, on disk: whole or not at all, whenever the node dies or the disk is full."""

import errno
from pathlib import Path

import pytest

from tests.support.qemu import open_driver, settings
from xnode.core.machine import NOBODY, MachineSpec, MachineStatus
from xnode.core.values import Hash, PublicKey
from xnode.vm import arrival, machine_files, state
from xnode.vm.state import Record, machine_uuid

SPARE, LEASE = Hash(b"\1" * 32), Hash(b"\2" * 32)
SPEC = MachineSpec(SPARE, 1, 128, 1, NOBODY, "tiny")
RECORD = Record(SPEC, "tiny-0123", 128, PublicKey(b"\3" * 32), "tcg", 10, MachineStatus.RUNNING, 10)
LEASED = SPEC._replace(lease_hash=LEASE, access_key=PublicKey(b"\4" * 32))
TURNED = RECORD._replace(
    spec=LEASED, born_as=SPARE.hex(), is_arriving=True, status=MachineStatus.PROVISIONING
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of machines with one spare."""
    directory = machine_files.directory_of(tmp_path, SPARE)
    directory.mkdir()
    state.save(directory, RECORD)
    return tmp_path


async def adopted(root: Path) -> dict[str, bool]:
    """What the next run has: machines by their directories' names, and whether each is a spare."""
    async with open_driver(settings(root)) as driver:
        await driver.adopt()
        assert driver.damaged == ()
        found = {machine.spec.lease_hash.hex(): machine.spec.is_spare for machine in driver.machines()}
    assert sorted(found) == [path.name for path in machine_files.machine_directories(root)]
    return found


async def test_a_turn_outlives_the_node(root: Path) -> None:
    machine_files.turn(root, SPARE, TURNED)
    assert state.load(machine_files.directory_of(root, LEASE)) == TURNED
    assert await adopted(root) == {LEASE.hex(): False}


async def test_a_node_that_died_before_the_record_was_written_has_a_spare(root: Path) -> None:
    machine_files.rename(root, machine_files.directory_of(root, SPARE), LEASE)
    assert await adopted(root) == {SPARE.hex(): True}


async def test_a_full_disk_leaves_it_a_spare(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(directory: Path, record: Record) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(state, "save", refuse)
        with pytest.raises(OSError, match="No space"):
            machine_files.turn(root, SPARE, TURNED)
    assert await adopted(root) == {SPARE.hex(): True}


def test_a_leased_machine_keeps_the_name_that_its_qemu_was_born_with() -> None:
    assert (RECORD.born, TURNED.born) == (SPARE, SPARE)
    assert TURNED.uuid == machine_uuid(SPARE)
    assert state.parse(state.render(TURNED)) == TURNED


def test_the_guest_gets_the_leases_keys_and_no_text_of_anybody() -> None:
    told = arrival.script(LEASED, PublicKey(b"\5" * 32), has_grown=False)
    assert told.count("ssh-ed25519 AAAA") == 2
    assert "new=xnode-020202020202\n" in told
    assert "resize2fs" not in told
    assert "resize2fs /dev/vda" in arrival.script(LEASED, PublicKey(b"\5" * 32), has_grown=True)
