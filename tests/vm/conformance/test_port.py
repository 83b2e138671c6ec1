"""What every driver does, the simulator's fake included: states, refusals, repetition, adoption. See README.md."""

import pytest
import trio

from tests.support.qemu import ended, new_consumer
from xnode.core.faults import MachineFault, NotAllowed, NotFound, WrongState
from xnode.core.machine import NOBODY, MachineStatus
from xnode.core.pool import SpareProof
from xnode.core.values import Hash
from xnode.vm.driver import BOOTED

NEEDS_UP = {
    "pause": lambda driver, lease_hash: driver.pause(lease_hash),
    "resume": lambda driver, lease_hash: driver.resume(lease_hash),
    "reboot": lambda driver, lease_hash: driver.reboot(lease_hash),
    "reset": lambda driver, lease_hash: driver.reset(lease_hash),
    "execute": lambda driver, lease_hash: driver.execute(lease_hash, "true", 5),
    "dial_ssh": lambda driver, lease_hash: driver.dial_ssh(lease_hash),
    "figures": lambda driver, lease_hash: driver.figures(lease_hash),
}
NEEDS_MACHINE = {
    **NEEDS_UP,
    "start": lambda driver, lease_hash: driver.start(lease_hash),
    "stop": lambda driver, lease_hash: driver.stop(lease_hash),
    "console": lambda driver, lease_hash: driver.console(lease_hash, 0),
}


@pytest.fixture
async def made(kit, driver):
    """A machine that has not been started; gone after the test."""
    spec = kit.new_spec(new_consumer())
    await driver.create(spec)
    yield spec
    with trio.CancelScope(shield=True):
        await driver.destroy(spec.lease_hash, ended(spec.lease_hash))


def find(driver, spec):
    return next((machine for machine in driver.machines() if machine.spec == spec), None)


async def test_a_life_from_reboot_to_another_start(kit, running):
    driver, before, lease_hash = running.driver, running.machine, running.machine.spec.lease_hash
    assert (before.driver, before.reason) == (kit.name, "")
    assert before.ssh_port > 0
    told = []
    assert (await driver.reboot(lease_hash, told.append)).status is MachineStatus.RUNNING
    assert told == [BOOTED]
    stopped = await driver.stop(lease_hash)
    assert (stopped.status, stopped.ssh_port) == (MachineStatus.STOPPED, 0)
    assert await driver.stop(lease_hash) == stopped
    for act in NEEDS_UP.values():
        with pytest.raises(WrongState, match="start it first") as caught:
            await act(driver, lease_hash)
        assert caught.value.code == "not_running"
    async with kit.open() as later:
        await later.adopt()
        assert find(later, before.spec) == stopped
        again = await later.start(lease_hash, told.append)
        assert told == [BOOTED, BOOTED]
        assert (again.status, again.host_key) == (MachineStatus.RUNNING, before.host_key)


async def test_created_machine_waits_to_be_started(kit, driver, made):
    machine = find(driver, made)
    assert (machine.status, machine.ssh_port, machine.driver) == (MachineStatus.PROVISIONING, 0, kit.name)
    assert await driver.create(made) == machine
    async with kit.open() as later:
        assert machine in await later.adopt()
        await later.destroy(made.lease_hash, ended(made.lease_hash))
        assert find(later, made) is None
        await later.destroy(made.lease_hash, ended(made.lease_hash))


async def test_machine_that_was_never_started_can_be_stopped(kit, driver, made):
    """Or who has to stop it would never be done."""
    stopped = await driver.stop(made.lease_hash)
    assert (stopped.status, stopped.ssh_port) == (MachineStatus.STOPPED, 0)
    assert await driver.stop(made.lease_hash) == stopped
    assert stopped in await driver.refresh()
    async with kit.open() as later:
        assert stopped in await later.adopt()


@pytest.mark.parametrize("verb", NEEDS_UP)
async def test_what_needs_a_running_machine_is_refused_before_the_first_start(driver, made, verb):
    with pytest.raises(WrongState) as caught:
        await NEEDS_UP[verb](driver, made.lease_hash)
    assert caught.value.code == "not_running"


@pytest.mark.parametrize("verb", NEEDS_MACHINE)
async def test_unknown_lease_is_not_found(driver, verb):
    with pytest.raises(NotFound) as caught:
        await NEEDS_MACHINE[verb](driver, Hash(bytes(32)))
    assert caught.value.code == "machine_not_found"


async def test_destroying_what_is_not_there_succeeds(driver):
    await driver.destroy(Hash(bytes(32)), ended(Hash(bytes(32))))


async def test_stop_and_destroy_interrupt_a_boot(driver, made):
    async def boot() -> None:
        with pytest.raises(WrongState) as caught:
            await driver.start(made.lease_hash)
        assert caught.value.code == "machine_stopped"

    for end in (driver.stop, lambda lease_hash: driver.destroy(lease_hash, ended(lease_hash))):
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(boot)
                await trio.sleep(0.03)
                await end(made.lease_hash)
    assert find(driver, made) is None


async def test_create_and_start_again_change_nothing(running):
    assert await running.driver.create(running.machine.spec) == running.machine
    told = []
    assert await running.driver.start(running.machine.spec.lease_hash, told.append) == running.machine
    assert told == []
    assert running.machine in await running.driver.refresh()


async def test_create_to_another_specification_is_refused(running):
    with pytest.raises(WrongState) as caught:
        await running.driver.create(running.machine.spec._replace(memory_mb=4096))
    assert caught.value.code == "machine_differs"


async def test_only_the_proof_of_its_own_end_destroys_it(running):
    with pytest.raises(NotAllowed) as caught:
        await running.driver.destroy(running.machine.spec.lease_hash, ended(Hash(bytes(32))))
    assert caught.value.code == "wrong_proof"
    assert running.machine in await running.driver.refresh()


async def test_paused_machine_is_held_and_runs_on(kit, running):
    driver, lease_hash = running.driver, running.machine.spec.lease_hash
    assert (await driver.resume(lease_hash)) == running.machine
    paused = await driver.pause(lease_hash)
    try:
        assert (paused.status, paused.ssh_port) == (MachineStatus.PAUSED, 0)
        assert await driver.pause(lease_hash) == paused
        assert paused in await driver.refresh()
        assert (await driver.figures(lease_hash)).guest_memory_bytes is None
        for verb in ("execute", "dial_ssh"):
            with pytest.raises(WrongState, match="resume it first"):
                await NEEDS_UP[verb](driver, lease_hash)
        async with kit.open() as later:
            assert paused in await later.adopt()
    finally:
        resumed = await driver.resume(lease_hash)
    assert (resumed.status, resumed.ssh_port) == (MachineStatus.RUNNING, running.machine.ssh_port)
    assert (await driver.execute(lease_hash, "true", 20)).exit_code == 0


async def test_start_resumes_a_paused_machine(running):
    await running.driver.pause(running.machine.spec.lease_hash)
    started = await running.driver.start(running.machine.spec.lease_hash)
    assert started.status is MachineStatus.RUNNING


async def test_console_is_read_in_pieces_from_either_end(running):
    driver, lease_hash = running.driver, running.machine.spec.lease_hash
    whole = await driver.console(lease_hash, 0)
    assert whole.data
    assert whole.position == len(whole.data)
    assert (await driver.console(lease_hash, -2)).data == whole.data[-2:]
    assert (await driver.console(lease_hash, 1)).data == whole.data[1:]
    assert (await driver.console(lease_hash, 10**9)).data == whole.data
    began = trio.current_time()
    nothing = await driver.console(lease_hash, whole.position, patience=0.3)
    assert nothing == (b"", whole.position)
    assert trio.current_time() - began >= 0.29


async def test_figures_are_told(running):
    await running.driver.execute(running.machine.spec.lease_hash, "true", 30)  # so that it is logged in to
    figures = await running.driver.figures(running.machine.spec.lease_hash)
    assert min(figures.cpu_ns, figures.memory_bytes, figures.disk_bytes, figures.guest_memory_bytes) > 0
    assert min(figures[4:]) >= 0


async def test_dialled_connection_is_the_callers(running):
    stream = await running.driver.dial_ssh(running.machine.spec.lease_hash)
    await stream.aclose()


async def test_a_spare_becomes_a_leases_machine_or_there_is_no_pool(kit, driver):
    """Lima has none, and says so by name."""
    spec = kit.new_spec(new_consumer())
    spare = kit.new_spec(new_consumer())._replace(access_key=NOBODY)
    if not driver.has_pool:
        for act in (driver.create(spare), driver.take(spare.lease_hash, spec), driver.full_image("")):
            with pytest.raises(NotAllowed) as caught:
                await act
            assert (caught.value.code, kit.name) == ("no_pool", "lima")
        return
    try:
        await driver.create(spare)
        with pytest.raises(MachineFault) as caught:
            await driver.take(spare.lease_hash, spec)
        assert caught.value.code == "spare_unfit", "it does not run"
        host_key = (await driver.start(spare.lease_hash)).host_key
        await refuses_to_be_taken(driver, spare, spec)
        taken = await driver.take(spare.lease_hash, spec)
        assert (taken.spec, taken.status, taken.ssh_port) == (spec, MachineStatus.PROVISIONING, 0)
        assert await driver.take(spare.lease_hash, spec) == taken
        assert find(driver, spare) is None
        with pytest.raises(NotAllowed) as refused:
            await driver.destroy(spec.lease_hash, SpareProof(spec.lease_hash))
        assert refused.value.code in ("not_a_spare", "wrong_proof")
        async with kit.open() as later:  # as after a death of the node: it goes on
            await later.adopt()
            assert (await later.start(spec.lease_hash)).host_key == host_key
            assert (await later.execute(spec.lease_hash, "true", 30)).exit_code == 0
    finally:
        with trio.CancelScope(shield=True):
            await driver.destroy(spec.lease_hash, ended(spec.lease_hash))
            await driver.destroy(spare.lease_hash, SpareProof(spare.lease_hash))


async def refuses_to_be_taken(driver, spare, spec):
    """By what does not suit, and by what is not there; it stays a spare."""
    for unfit in (spec._replace(memory_mb=4096), spec._replace(vcpus=2)):
        with pytest.raises(MachineFault) as caught:
            await driver.take(spare.lease_hash, unfit)
        assert caught.value.code == "spare_unfit"
    with pytest.raises(WrongState) as wrong:
        await driver.take(spare.lease_hash, spare._replace(lease_hash=spec.lease_hash))
    assert wrong.value.code == "not_a_spare"
    with pytest.raises(NotFound):
        await driver.take(Hash(bytes(32)), spec)
    assert find(driver, spare).status is MachineStatus.RUNNING
