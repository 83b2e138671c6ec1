"""The record of a machine: what survives, what a change of state clears, and damage that is named."""

import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xnode.core.faults import MachineFault
from xnode.core.machine import MachineSpec, MachineStatus
from xnode.core.values import Hash, PublicKey
from xnode.vm import state
from xnode.vm.state import Record

SPEC = MachineSpec(Hash(b"\1" * 32), 1, 128, 1, PublicKey(b"\2" * 32), "tiny")
RECORD = Record(SPEC, "tiny-0123", 128, PublicKey(b"\3" * 32), "tcg", 10, MachineStatus.PROVISIONING, 10)
RUNNING = RECORD._replace(pid=7, started_ticks=8, ssh_port=9).at(MachineStatus.RUNNING, 11)


@settings(max_examples=10)
@given(
    record=st.builds(
        Record,
        spec=st.builds(
            MachineSpec,
            lease_hash=st.binary(min_size=32, max_size=32),
            access_key=st.binary(min_size=32, max_size=32),
            vcpus=st.integers(0, 2**32),
            image=st.text(),
        ),
        host_key=st.binary(min_size=32, max_size=32),
        status=st.sampled_from(MachineStatus),
        created_at=st.integers(0, 2**64 - 1),
        reason=st.text(),
    )
)
def test_record_survives_its_file(record):
    assert state.parse(state.render(record)) == record


def test_saved_record_is_read_again_and_is_nobody_elses(tmp_path):
    state.save(tmp_path, RECORD)
    state.save(tmp_path, RUNNING)
    assert state.load(tmp_path) == RUNNING
    assert [path.name for path in tmp_path.iterdir()] == ["machine.json"]
    assert stat.S_IMODE((tmp_path / "machine.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", state.render(RECORD)[:-20], b'{"format": 99}'])
def test_damage_is_named(tmp_path, data):
    (tmp_path / "machine.json").write_bytes(data)
    with pytest.raises(MachineFault) as caught:
        state.load(tmp_path)
    assert caught.value.code == "machine_record_damaged"
    assert str(tmp_path) in str(caught.value)


def test_only_a_living_machine_keeps_its_process_and_port():
    stopped = RUNNING.at(MachineStatus.STOPPED, 12, "why")
    assert (stopped.pid, stopped.started_ticks, stopped.ssh_port) == (0, 0, 0)
    assert (stopped.state_since, stopped.reason) == (12, "why")
    assert RUNNING.at(MachineStatus.PAUSED, 12).pid == 7


def test_same_state_keeps_its_time():
    assert RUNNING.at(MachineStatus.RUNNING, 99) is RUNNING


def test_port_is_shown_only_while_it_runs():
    assert RUNNING.machine("qemu").ssh_port == 9
    assert RUNNING.at(MachineStatus.PAUSED, 12).machine("qemu").ssh_port == 0


def test_uuid_is_the_lease_hashs_first_half():
    assert RECORD.uuid == "01010101-0101-0101-0101-010101010101"
