"""A consumer steers its machine: through its own node, by its signature at the provider's, and nobody else does."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.support.ledger import DAY, address_of, key_of
from tests.support.role_node import FORM, ROOMY, RoleNode, Village, until, virtual_clock
from xnode.core.access import UsedActs, machine_message
from xnode.core.faults import Ended, Fault, NotAllowed, NotFound, PeerFault, Unavailable, Unproved, WrongState
from xnode.core.genesis import DEFAULT_TIMING
from xnode.core.machine import MachineStatus
from xnode.core.machine_calls import CONSOLE_BYTES_MAX, METHOD, Question, read_done
from xnode.core.market import LeaseForm
from xnode.core.power import Verb
from xnode.core.values import NS, Hash
from xnode.roles.steering import Proof

pytestmark = pytest.mark.slow

LONG = FORM._replace(duration=DAY)
RUNNING, PAUSED, STOPPED = MachineStatus.RUNNING, MachineStatus.PAUSED, MachineStatus.STOPPED
LEADS_TO = {
    Verb.STOP: STOPPED,
    Verb.START: RUNNING,
    Verb.REBOOT: RUNNING,
    Verb.RESET: RUNNING,
    Verb.PAUSE: PAUSED,
    Verb.RESUME: RUNNING,
}
ACCEPTED = [
    (Verb.STOP, RUNNING),
    (Verb.STOP, PAUSED),
    (Verb.START, STOPPED),
    (Verb.REBOOT, RUNNING),
    (Verb.REBOOT, PAUSED),
    (Verb.RESET, RUNNING),
    (Verb.RESET, PAUSED),
    (Verb.PAUSE, RUNNING),
    (Verb.RESUME, PAUSED),
]
REFUSED = [(verb, state) for verb in Verb for state in (RUNNING, PAUSED, STOPPED) if (verb, state) not in ACCEPTED]


async def lease_machine(village: Village, *strangers: str, form: LeaseForm = LONG) -> Hash:
    """Alice's, at bob's."""
    await village.start_market("alice", *strangers, bob=ROOMY)
    return await village.nodes["alice"].roles.consumer.request(form)


def sign(village: Village, lease_hash: Hash, what: str, name: str = "access", at: str = "bob", off: int = 0) -> Proof:
    """A proof by somebody's key for somebody's node, dated `off` ns from now."""
    timestamp = virtual_clock()() + off
    message = machine_message(village.genesis.network_key, lease_hash, address_of(at), timestamp, what)
    return key_of(name).sign(message), timestamp


async def act(node: RoleNode, lease_hash: Hash, verb: Verb, proof: Proof | None = None) -> MachineStatus:
    done = await node.roles.steering.act(lease_hash, verb, proof)
    return done.status


async def bring_to(node: RoleNode, lease_hash: Hash, now: MachineStatus | None, state: MachineStatus) -> None:
    """Into one of the three states from any other."""
    if now is not None and now is not state:
        ways = {RUNNING: {PAUSED: Verb.RESUME, STOPPED: Verb.START}, PAUSED: {}, STOPPED: {RUNNING: Verb.STOP}}
        if state is PAUSED and now is STOPPED:
            await act(node, lease_hash, Verb.START)
        await act(node, lease_hash, ways[state].get(now) or (Verb.PAUSE if state is PAUSED else Verb.STOP))


async def test_what_the_table_allows_is_done_and_stays(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    alice, disk = village.nodes["alice"], village.disk("bob")
    for verb, state in ACCEPTED:
        await bring_to(alice, lease_hash, disk.status(lease_hash), state)
        boots = disk.boots[lease_hash]
        assert await act(alice, lease_hash, verb) is LEADS_TO[verb], (verb, state)
        assert disk.boots[lease_hash] - boots == (verb in (Verb.START, Verb.REBOOT, Verb.RESET))
        await trio.sleep(5)
        assert disk.status(lease_hash) is LEADS_TO[verb], "the reconciler has undone it"
        assert village.nodes["bob"].steps(lease_hash)[-1] == f"consumer_{verb}"


async def test_what_the_table_does_not_allow_is_refused_and_changes_nothing(
    village: Village, autojump_clock: object
) -> None:
    lease_hash = await lease_machine(village)
    alice, disk = village.nodes["alice"], village.disk("bob")
    for verb, state in REFUSED:
        await bring_to(alice, lease_hash, disk.status(lease_hash), state)
        boots = disk.boots[lease_hash]
        with pytest.raises(
            WrongState, match=rf"the machine is {state}, so it can't be told to {verb}: .* it"
        ) as caught:
            await act(alice, lease_hash, verb)
        assert caught.value.code == f"vm_{state}"
        await trio.sleep(5)
        assert (disk.status(lease_hash), disk.boots[lease_hash]) == (state, boots)


async def test_a_signed_act_is_done_at_the_providers_and_at_ones_own_node(
    village: Village, autojump_clock: object
) -> None:
    lease_hash = await lease_machine(village)
    alice, bob = village.nodes["alice"], village.nodes["bob"]
    for name in ("access", "alice"):
        assert await act(bob, lease_hash, Verb.STOP, sign(village, lease_hash, "stop", name)) is STOPPED
        assert await act(alice, lease_hash, Verb.START, sign(village, lease_hash, "start", name, at="alice")) is RUNNING


async def test_a_proof_is_used_once_also_after_a_restart(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    bob = village.nodes["bob"]
    proof = sign(village, lease_hash, "stop")
    await act(bob, lease_hash, Verb.STOP, proof)
    await act(bob, lease_hash, Verb.START, sign(village, lease_hash, "start"))
    with pytest.raises(Unproved, match="used already"):
        await act(bob, lease_hash, Verb.STOP, proof)
    bob = await village.again("bob")  # it has forgotten what was used
    with pytest.raises(Unproved, match="older than this node's start"):
        await act(bob, lease_hash, Verb.STOP, proof)
    assert village.disk("bob").status(lease_hash) is RUNNING


async def check_proofs_for_something_else(village: Village, lease_hash: Hash) -> None:
    bob = village.nodes["bob"]
    wrong = [
        sign(village, lease_hash, "stop", name="anna"),
        sign(village, lease_hash, "stop", name="bob"),
        sign(village, lease_hash, "reset"),
        sign(village, lease_hash, "stop", at="alice"),
        sign(village, Hash(b"x" * 32), "stop"),
        sign(village, lease_hash, "stop", off=61 * NS),
        sign(village, lease_hash, "stop", off=-61 * NS),
    ]
    for proof in wrong:
        with pytest.raises(Unproved):
            await act(bob, lease_hash, Verb.STOP, proof)
    assert village.disk("bob").status(lease_hash) is RUNNING


async def check_strangers_and_hosts(village: Village, lease_hash: Hash) -> None:
    with pytest.raises(NotAllowed, match="neither the lease's consumer nor its provider"):
        await act(village.nodes["anna"], lease_hash, Verb.STOP)
    with pytest.raises(NotAllowed, match="only the lease's consumer may stop its machine"):
        await act(village.nodes["bob"], lease_hash, Verb.STOP)
    with pytest.raises(NotFound):
        await act(village.nodes["alice"], Hash(b"x" * 32), Verb.STOP)
    assert village.disk("bob").status(lease_hash) is RUNNING


async def check_questions_in_the_consumers_name(village: Village, lease_hash: Hash) -> None:
    anna = village.nodes["anna"]
    lease = anna.lease(lease_hash)
    assert lease is not None
    for what in ("stop", "console", "metrics", "wait"):
        signature, timestamp = sign(village, lease_hash, what, name="anna")
        question = Question(lease_hash, what, timestamp, signature)
        answer = await anna.roles.contacts.call(lease.provider, METHOD, question.wire(), 5)
        with pytest.raises(NotAllowed):
            read_done(answer)
    told = await anna.roles.contacts.call(lease.provider, "lease_progress", (lease_hash, 0), 5)
    assert told == ("running", "", ())
    assert village.disk("bob").status(lease_hash) is RUNNING


async def check_nonsense(village: Village, lease_hash: Hash) -> None:
    alice = village.nodes["alice"].roles
    signature, timestamp = sign(village, lease_hash, "dance")
    for args in (
        (),
        (lease_hash,),
        (lease_hash[:31], "stop", 1, bytes(64), ()),
        (lease_hash, "stop", 1, bytes(64), (True,)),
        (lease_hash, "stop", 1, bytes(64), (0,) * 5),
        (lease_hash, "dance", timestamp, bytes(signature), ()),
    ):
        answer = await alice.contacts.call(address_of("bob"), METHOD, args, 5)
        assert answer[:2] == ("refused", "caller"), args


async def test_nobody_else_steers_the_machine(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village, "anna")
    await check_proofs_for_something_else(village, lease_hash)
    await check_strangers_and_hosts(village, lease_hash)
    await check_questions_in_the_consumers_name(village, lease_hash)
    await check_nonsense(village, lease_hash)
    assert village.disk("bob").status(lease_hash) is RUNNING


async def test_acts_are_bounded_by_lease_and_reads_are_not(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    bob = village.nodes["bob"].roles.steering
    bob._used = UsedActs(acts_max=5)
    for number in range(5):
        with pytest.raises(WrongState):
            await bob.act(lease_hash, Verb.RESUME, sign(village, lease_hash, "resume", off=number))
    with pytest.raises(Unavailable, match="too many"):
        await bob.act(lease_hash, Verb.RESUME, sign(village, lease_hash, "resume", off=NS))
    look = sign(village, lease_hash, "metrics")
    assert await bob.figures(lease_hash, look) == await bob.figures(lease_hash, look)
    await trio.sleep(125)
    assert await act(village.nodes["bob"], lease_hash, Verb.PAUSE, sign(village, lease_hash, "pause")) is PAUSED


async def test_a_stop_survives_the_node_and_the_host(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    disk = village.disk("bob")
    await act(village.nodes["alice"], lease_hash, Verb.STOP)
    bob = await village.again("bob")
    disk.power_cut()
    await trio.sleep(60)
    assert (disk.status(lease_hash), disk.boots[lease_hash]) == (STOPPED, 1)
    assert "given_up" not in bob.steps(lease_hash)
    assert await act(village.nodes["alice"], lease_hash, Verb.START) is RUNNING
    bob = await village.again("bob")
    disk.power_cut()
    await until(lambda: disk.status(lease_hash) is RUNNING, 20, "the machine, which is to run again")
    assert bob.roles.acts is not None


async def test_it_dies_between_the_wish_and_the_act(village: Village, autojump_clock: object) -> None:
    """The wish is on disk first, and the next life carries it out."""
    lease_hash = await lease_machine(village)
    bob, disk = village.nodes["bob"], village.disk("bob")
    assert bob.roles.driver is not None

    async def die(_lease_hash: Hash) -> None:
        bob.scope.cancel()
        await trio.sleep_forever()

    bob.roles.driver.stop = die  # type: ignore[method-assign,assignment]
    with pytest.raises((PeerFault, Unavailable)):
        await act(village.nodes["alice"], lease_hash, Verb.STOP)
    await village.again("bob")
    await until(lambda: disk.status(lease_hash) is STOPPED, 10, "the end that was asked for")
    assert village.nodes["bob"].steps(lease_hash) == ["switched_off"]
    await trio.sleep(30)
    assert disk.status(lease_hash) is STOPPED


async def test_a_pause_survives_the_node_and_ends_with_its_qemu(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    disk = village.disk("bob")
    await act(village.nodes["alice"], lease_hash, Verb.PAUSE)
    await village.again("bob")
    await trio.sleep(30)
    assert disk.status(lease_hash) is PAUSED
    disk.power_cut()
    await until(lambda: disk.status(lease_hash) is RUNNING, 20, "the machine, which had lost what it held")


async def test_a_machine_that_falls_is_booted_as_before_and_starts_by_its_consumer_are_no_strikes(
    village: Village, autojump_clock: object
) -> None:
    lease_hash = await lease_machine(village)
    alice, disk = village.nodes["alice"], village.disk("bob")
    for _ in range(5):
        await act(alice, lease_hash, Verb.STOP)
        await act(alice, lease_hash, Verb.START)
    disk.power_cut()
    await until(lambda: disk.status(lease_hash) is RUNNING, 20, "the machine")


async def test_a_machine_that_was_given_up_starts_once_more_when_its_consumer_says_so(
    village: Village, autojump_clock: object
) -> None:
    lease_hash = await lease_machine(village)
    disk = village.disk("bob")
    disk.boots_to_fail, disk.fault_code = 3, "guest_panicked"
    disk.power_cut()
    await until(lambda: "given_up" in village.nodes["bob"].steps(lease_hash), 60, "the end of tries")
    assert await act(village.nodes["alice"], lease_hash, Verb.START) is RUNNING


async def test_a_start_that_fails_says_why(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    alice, disk = village.nodes["alice"], village.disk("bob")
    await act(alice, lease_hash, Verb.STOP)
    disk.boots_to_fail = 1
    with pytest.raises(Fault, match="did not answer on SSH in time") as caught:
        await act(alice, lease_hash, Verb.START)
    assert caught.value.code == "boot_failed"
    await until(lambda: disk.status(lease_hash) is RUNNING, 20, "the next try, for it is to run")


async def test_a_boot_that_takes_longer_than_a_call_is_waited_for(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    alice = village.nodes["alice"].roles.steering
    village.disk("bob").boot_seconds = 100.0
    done = await alice.act(lease_hash, Verb.REBOOT, None)
    assert done.status is RUNNING
    assert 100_000 <= done.duration_ms < 101_000


async def end_by_stop(node: RoleNode, lease_hash: Hash) -> None:
    """A reboot that is not to reach its end."""
    with pytest.raises(WrongState, match="told to stop while it booted"):
        await act(node, lease_hash, Verb.REBOOT)


async def test_one_act_at_a_time_and_it_ends_though_its_caller_leaves(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    alice, disk = village.nodes["alice"], village.disk("bob")
    with trio.move_on_after(2) as scope:
        await act(alice, lease_hash, Verb.REBOOT)
    assert scope.cancelled_caught
    with pytest.raises(WrongState, match="told to reboot already") as caught:
        await act(alice, lease_hash, Verb.PAUSE)
    assert (caught.value.code, caught.value.retryable) == ("vm_busy", True)
    await until(lambda: disk.status(lease_hash) is RUNNING, 10, "the end of the boot")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_by_stop, alice, lease_hash)
        await trio.sleep(2)
        assert disk.status(lease_hash) is MachineStatus.PROVISIONING
        assert await act(alice, lease_hash, Verb.STOP) is STOPPED
    await trio.sleep(10)
    assert disk.status(lease_hash) is STOPPED


async def test_a_stop_ends_a_boot_and_nothing_else_does(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    alice, disk = village.nodes["alice"], village.disk("bob")
    disk.boot_seconds = 60.0
    disk.power_cut()
    await until(lambda: disk.status(lease_hash) is MachineStatus.PROVISIONING, 10, "the boot")
    with pytest.raises(WrongState, match="wait until it runs, or stop it"):
        await act(alice, lease_hash, Verb.RESET)
    assert await act(alice, lease_hash, Verb.STOP) is STOPPED
    await trio.sleep(120)
    assert disk.status(lease_hash) is STOPPED


async def test_before_acceptance_and_after_the_end_nothing_is_done(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    alice, disk = village.nodes["alice"], village.disk("bob")
    found: list[Hash] = []

    async def ask() -> None:
        found.append(await alice.roles.consumer.request(FORM))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await until(lambda: disk.boots, 20, "the boot")
        (lease_hash,) = disk.boots
        with pytest.raises(WrongState, match="not accepted yet"):
            await act(alice, lease_hash, Verb.STOP)
    lease = alice.lease(lease_hash)
    assert lease is not None
    await trio.sleep((lease.expiry - virtual_clock()()) / NS)
    with pytest.raises(Ended, match="time is over"):
        await act(alice, lease_hash, Verb.STOP)
    await until(lambda: lease_hash in disk.destroyed, 150, "the machine's end")
    await village.agreed()
    for call in (alice.roles.steering.figures(lease_hash, None), act(alice, lease_hash, Verb.STOP)):
        with pytest.raises(Ended):
            await call


@pytest.mark.parametrize(("verb", "end"), [(Verb.STOP, "settled"), (Verb.STOP, "expired"), (Verb.PAUSE, "settled")])
async def test_a_machine_that_does_not_run_is_destroyed_with_its_proof(
    village: Village, autojump_clock: object, verb: Verb, end: str
) -> None:
    village.genesis = village.genesis._replace(timing=DEFAULT_TIMING._replace(settle_grace=30))
    lease_hash = await lease_machine(village, form=FORM)
    disk = village.disk("bob")
    await act(village.nodes["alice"], lease_hash, verb)
    if end == "expired":
        await village.crash("bob")
        await trio.sleep(95)
        await village.start("bob", capacity=ROOMY)
    await until(lambda: lease_hash in disk.destroyed, 150, "the machine's end")
    await village.agreed()
    assert disk.destroyed[lease_hash].reason == end  # type: ignore[union-attr]
    provider = village.nodes["bob"].roles.provider
    assert provider is not None
    await until(lambda: end == "expired" or not provider._power._off, 10, "the end of the note")


async def test_what_is_switched_off_keeps_its_place(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    alice = village.nodes["alice"].roles
    await alice.consumer.request(LONG)
    await alice.steering.act(lease_hash, Verb.STOP, None)
    with pytest.raises(Fault, match="vcpus 4 asked"):
        await alice.consumer.request(LONG)
    await alice.steering.act(lease_hash, Verb.START, None)


async def check_console(village: Village, lease_hash: Hash) -> None:
    disk = village.disk("bob")
    disk.consoles[lease_hash] = text = b"0123456789" * 10_000
    alice, bob, anna = (village.nodes[name].roles.steering for name in ("alice", "bob", "anna"))
    for steering, proof in (
        (alice, None),
        (alice, sign(village, lease_hash, "console", at="alice")),
        (bob, None),
        (bob, sign(village, lease_hash, "console")),
    ):
        watching = steering.watch(lease_hash, proof)
        first = await watching.read(0, 0)
        assert first.data
        assert text.startswith(first.data)
        assert (await watching.read(-7, 0)).data == text[-7:]
        assert (await watching.read(first.position, 0)).data[:5] == text[first.position :][:5]
    part = await alice.watch(lease_hash, None).read(0, 0)
    assert (len(part.data), part.position) == (CONSOLE_BYTES_MAX, CONSOLE_BYTES_MAX)
    with pytest.raises(NotAllowed):
        anna.watch(lease_hash, None)
    with pytest.raises(NotAllowed):
        bob.watch(lease_hash, sign(village, lease_hash, "console", name="anna"))


async def check_figures(village: Village, lease_hash: Hash) -> None:
    alice, bob, anna = (village.nodes[name].roles.steering for name in ("alice", "bob", "anna"))
    assert (await alice.figures(lease_hash, None)).guest_memory_bytes == 1
    assert (await bob.figures(lease_hash, None)).guest_memory_bytes == 1
    await alice.act(lease_hash, Verb.PAUSE, None)
    assert (await alice.figures(lease_hash, None)).guest_memory_bytes is None
    await alice.act(lease_hash, Verb.STOP, None)
    with pytest.raises(WrongState, match="start it first"):
        await alice.figures(lease_hash, None)
    with pytest.raises(NotAllowed):
        await anna.figures(lease_hash, None)


async def test_console_and_figures_are_for_both_sides_and_nobody_else(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village, "anna")
    await check_console(village, lease_hash)
    await check_figures(village, lease_hash)
    off = await village.nodes["alice"].roles.steering.watch(lease_hash, None).read(-3, 0)
    assert off.data == b"789", "the console of a machine that is off can be read"


async def test_a_provider_that_is_away_is_told(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    alice = village.nodes["alice"].roles.steering
    await village.crash("bob")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: alice.act(lease_hash, Verb.STOP, None),
        lambda: alice.figures(lease_hash, None),
        lambda: alice.watch(lease_hash, None).read(0, 0),
    ]
    for call in calls:
        with pytest.raises(PeerFault):
            await call()


async def test_a_node_that_hosts_nothing_any_more_says_so(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    await village.crash("bob")
    bob = await village.start("bob")
    with pytest.raises(NotFound, match="hosts no machines"):
        await act(bob, lease_hash, Verb.STOP, sign(village, lease_hash, "stop", off=NS))
    with pytest.raises(NotFound, match="no machine for that lease"):
        await bob.roles.steering.figures(lease_hash, None)


def whole_steps(node: RoleNode, lease_hash: Hash) -> list[tuple[str, int | None]]:
    return [(step.step, step.duration_ms) for step in node.roles.log.steps(lease_hash)]


async def test_the_consumers_node_knows_each_step_and_its_time(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    steps = dict(whole_steps(village.nodes["alice"], lease_hash))
    assert next(iter(steps)) == "requested"
    assert list(steps)[-1] == "accepted"
    told = [word.removeprefix("provider_") for word in steps if word.startswith("provider_")]
    assert told == village.nodes["bob"].steps(lease_hash)
    assert steps["provider_booted"] == 5_000
    assert steps["provider_machine_ready"] == steps["provider_disk_made"] + 5_000 + steps["provider_ssh_answered"]  # type: ignore[operator]
    untimed = [word for word, duration_ms in steps.items() if duration_ms is None]
    assert untimed == ["provider_booting"]
    times = [step.at for step in village.nodes["alice"].roles.log.steps(lease_hash)]
    assert times == sorted(set(times))


async def test_the_consumers_node_hears_what_happens_later(village: Village, autojump_clock: object) -> None:
    lease_hash = await lease_machine(village)
    alice = village.nodes["alice"]
    await act(alice, lease_hash, Verb.STOP)
    assert alice.roles.progress.status(lease_hash) is STOPPED
    await trio.sleep(3)
    await alice.roles.progress.refresh(lease_hash)
    assert alice.steps(lease_hash)[-1] == "provider_consumer_stop"
    village.disk("bob").boots_to_fail = 9
    with pytest.raises(Fault):
        await act(alice, lease_hash, Verb.START)
    await trio.sleep(60)
    await alice.roles.progress.refresh(lease_hash)
    assert alice.steps(lease_hash)[-1] == "provider_given_up"
    known = alice.roles.log.steps(lease_hash)
    await trio.sleep(3)
    await alice.roles.progress.refresh(lease_hash)
    assert alice.roles.log.steps(lease_hash) == known
