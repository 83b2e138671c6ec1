"""What is asked of a lease's machine, and by whom: done here by its provider, carried to its provider by its consumer.

Theory of operation. Who asks is the operator of this node, or shows a proof (core/access.py) that is for this node.
The operator of the consumer's node, and any proof by the lease's keys, may do all; the operator of the provider's node
may look, as it may run commands. A consumer's node that is asked signs the question anew with its account's key and
calls the provider's, which checks it like any other proof. So the provider trusts no connection and no directory, and
what it must remember is bounded (core/access.py).
"""

from collections.abc import Callable
from typing import Final

import trio

from xnode.core.access import UsedActs, check_timestamp, find_signer, machine_message
from xnode.core.faults import CallerFault, Fault, NotAllowed, NotFound
from xnode.core.genesis import Genesis
from xnode.core.keys import SigningKey
from xnode.core.lease import LeaseRecord
from xnode.core.machine import ConsolePart, MachineFigures
from xnode.core.machine_calls import (
    METHOD,
    Args,
    Done,
    Look,
    Question,
    console_answer,
    done_answer,
    figures_answer,
    read_console,
    read_done,
    read_figures,
    read_question,
    refusal,
)
from xnode.core.power import Verb
from xnode.core.values import U64_MAX, Address, Hash, PublicKey, Signature
from xnode.net.streams import PeerId
from xnode.roles.acts import Act, Acts
from xnode.roles.contacts import Contacts
from xnode.roles.progress import Progress
from xnode.roles.tunnelling import live_lease
from xnode.store.store import Store
from xnode.vm.driver import Driver

CALL_SECONDS: Final = 25.0  # one question to the provider's node
WAIT_SECONDS: Final = 15.0  # of them, for an act to end
PATIENCE_SECONDS_MAX: Final = 5.0  # for something to come on a console
VERBS: Final = frozenset(str(verb) for verb in Verb)

Proof = tuple[Signature, int]  # by whom it is signed, its timestamp in ns


class Watching:
    """The right to read one machine's console until its lease ends."""

    def __init__(self, steering: "Steering", lease: LeaseRecord) -> None:
        self._steering = steering
        self._lease = lease

    async def read(self, position: int, patience: float) -> ConsolePart:
        """As `Driver.console`; raises NotFound, PeerFault."""
        return await self._steering.console(self._lease, position, min(patience, PATIENCE_SECONDS_MAX))


class Steering:
    """For the HTTP API, and for the nodes of consumers. `driver` and `acts` are None where this node hosts nothing."""

    def __init__(
        self,
        store: Store,
        genesis: Genesis,
        key: SigningKey,
        contacts: Contacts,
        driver: Driver | None,
        acts: Acts | None,
        progress: Progress,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._network_key = genesis.network_key
        self._key = key
        self._address = Address(key.public_key)
        self._contacts = contacts
        self._driver = driver
        self._acts = acts
        self._progress = progress
        self._clock = clock
        self._began = clock()
        self._signed = 0
        self._used = UsedActs()

    async def act(self, lease_hash: Hash, verb: Verb, proof: Proof | None) -> Done:
        """Returns when it is done; raises NotFound, Ended, NotAllowed, WrongState, MachineFault, PeerFault."""
        lease = self._allowed(lease_hash, verb, proof)
        if lease.provider == self._address:
            act = self._here().begin(lease_hash, verb, self._next_timestamp())
            await act.over.wait()
            return act.result()
        return await self._act_there(lease, verb)

    async def _act_there(self, lease: LeaseRecord, verb: Verb) -> Done:
        question = self._signed_question(lease, verb)
        done = read_done(await self._ask(lease, question))
        while done is None:
            done = read_done(await self._ask(lease, self._signed_question(lease, Look.WAIT, question.timestamp)))
        self._progress.note_status(lease.lease_hash, done.status)
        return done

    def watch(self, lease_hash: Hash, proof: Proof | None) -> Watching:
        """Raises NotFound, Ended, NotAllowed."""
        return Watching(self, self._allowed(lease_hash, Look.CONSOLE, proof))

    async def console(self, lease: LeaseRecord, position: int, patience: float) -> ConsolePart:
        """For who has been allowed to."""
        if lease.provider == self._address:
            return await self._hosted(lease.lease_hash).console(lease.lease_hash, position, patience)
        numbers = (abs(position), int(position < 0), int(patience * 1000))
        return read_console(await self._ask(lease, self._signed_question(lease, Look.CONSOLE, *numbers)))

    async def figures(self, lease_hash: Hash, proof: Proof | None) -> MachineFigures:
        """Raises NotFound, Ended, NotAllowed, WrongState, PeerFault."""
        lease = self._allowed(lease_hash, Look.METRICS, proof)
        if lease.provider == self._address:
            return await self._hosted(lease_hash).figures(lease_hash)
        return read_figures(await self._ask(lease, self._signed_question(lease, Look.METRICS)))

    async def serve(self, _peer_id: PeerId, args: Args) -> Args:
        """A question of a consumer's node, or of anybody who can prove as much."""
        try:
            return await self._answer(read_question(args))
        except Fault as fault:
            return refusal(fault)

    async def _answer(self, question: Question) -> Args:
        lease_hash, what = question.lease_hash, question.what
        lease = live_lease(self._store, lease_hash)
        if lease.provider != self._address:
            raise NotFound("lease_unknown", "that lease is another provider's")
        self._check(lease, what, (question.signature, question.timestamp))
        match what, question.numbers:
            case Look.WAIT, (number,):
                return done_answer(await self._wait(self._here().find(lease_hash, number)))
            case Look.CONSOLE, (position, from_end, patience_ms) if position <= U64_MAX // 2:
                patience = min(patience_ms / 1000, PATIENCE_SECONDS_MAX)
                part = await self._hosted(lease_hash).console(lease_hash, -position if from_end else position, patience)
                return console_answer(part)
            case Look.METRICS, ():
                return figures_answer(await self._hosted(lease_hash).figures(lease_hash))
            case _, () if what in VERBS:
                return done_answer(await self._wait(self._here().begin(lease_hash, Verb(what), question.timestamp)))
        raise CallerFault("unknown_question", "this node does not know what is asked of the machine; is it older?")

    async def _wait(self, act: Act) -> Done | None:
        with trio.move_on_after(WAIT_SECONDS):
            await act.over.wait()
            return act.result()
        return None

    def _allowed(self, lease_hash: Hash, what: str, proof: Proof | None) -> LeaseRecord:
        lease = live_lease(self._store, lease_hash)
        if self._address not in (lease.consumer, lease.provider):
            message = "this node is neither the lease's consumer nor its provider; ask one of theirs"
            raise NotAllowed("not_your_lease", message)
        if proof is not None:
            self._check(lease, what, proof)
        elif self._address != lease.consumer and what not in tuple(Look):
            message = f"only the lease's consumer may {what} its machine: sign it (X-Access-Signature)"
            raise NotAllowed("not_your_lease", message)
        return lease

    def _check(self, lease: LeaseRecord, what: str, proof: Proof) -> None:
        """Raises Unproved, Unavailable; spends the proof of an act."""
        signature, timestamp = proof
        now = self._clock()
        check_timestamp(timestamp, now, self._began)
        message = machine_message(self._network_key, lease.lease_hash, self._address, timestamp, what)
        signer = find_signer((lease.access_pub_key, PublicKey(lease.consumer)), message, signature)
        if what in VERBS:
            self._used.of(lease.lease_hash, now).add(message + signer, timestamp, now)

    def _here(self) -> Acts:
        if self._acts is None:
            raise NotFound("vm_unknown", "this node hosts no machines now; start it with --provide")
        return self._acts

    def _hosted(self, lease_hash: Hash) -> Driver:
        if self._driver is None or all(item.spec.lease_hash != lease_hash for item in self._driver.machines()):
            raise NotFound("vm_unknown", "its provider has no machine for that lease")
        return self._driver

    def _signed_question(self, lease: LeaseRecord, what: str, *numbers: int) -> Question:
        timestamp = self._next_timestamp()
        message = machine_message(self._network_key, lease.lease_hash, lease.provider, timestamp, what)
        return Question(lease.lease_hash, str(what), timestamp, self._key.sign(message), numbers)

    def _next_timestamp(self) -> int:
        """No two alike, or the second would look like the first, repeated."""
        self._signed = max(self._clock(), self._signed + 1)
        return self._signed

    async def _ask(self, lease: LeaseRecord, question: Question) -> Args:
        return await self._contacts.call(lease.provider, METHOD, question.wire(), CALL_SECONDS)
