"""The consumer: finds an offer, pays for it, and waits until the machine is there or the money is back (section 11)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import trio

from xnode.core import price
from xnode.core.blocks import Lease, LeaseCancel
from xnode.core.codec import Plain
from xnode.core.faults import CallerFault, Fault, NotFound, PeerFault, Unavailable, WrongState
from xnode.core.genesis import Genesis
from xnode.core.keys import is_valid_point
from xnode.core.lease import LeaseRecord, LeaseState
from xnode.core.ledger import Effects
from xnode.core.market import (
    WINDOW_AFTER_FIRST,
    WINDOW_IN_ALL,
    Decline,
    LeaseForm,
    Offer,
    Quote,
    Request,
    policy_named,
)
from xnode.core.provision import CANCEL_AFTER
from xnode.core.values import NS, Address, Asset, Hash
from xnode.net.pulse import Pulse
from xnode.roles.author import Author, Draft
from xnode.roles.confirmation import is_confirmed
from xnode.roles.contacts import Contacts
from xnode.roles.lease_log import LeaseLog, Stopwatch
from xnode.roles.market_board import Answers, MarketBoard
from xnode.roles.progress import ASK_SECONDS_MAX, Progress
from xnode.roles.replica import Note
from xnode.store.store import Store

WITHDRAW_METHOD: Final = "lease_withdraw"
WITHDRAWN_ANSWER: Final = "withdrawn"
TAKEN_BACK_TRIES: Final = 6  # while its provider says that it is about to accept
OFFERS_TRIED_MAX: Final = 5
LOOK_EVERY: Final = 1.0  # seconds between looks at a lease that is waited for
SWEEP_EVERY: Final = 10.0  # seconds between looks for leases that nobody accepted in time
SWEEP_LEASES_MAX: Final = 100
DEADLINES: Final = "lease-deadline"  # note space: lease hash -> ns until which it is waited for
KEYS: Final = "idempotency"  # note space: Idempotency-Key -> lease hash
KEY_CHARACTERS_MAX: Final = 128


ENDS: Final = {
    LeaseState.SETTLED: "its time is over; the machine is gone",
    LeaseState.CANCELLED: "the money is back",
    LeaseState.UNFULFILLED: "the provider never settled; the money is back",
}


class Failed(NamedTuple):
    """Why one provider was not taken."""

    provider: Address
    reason: str


class Consumer:
    """Leases machines for the node's own account."""

    def __init__(
        self,
        store: Store,
        genesis: Genesis,
        author: Author,
        board: MarketBoard,
        contacts: Contacts,
        log: LeaseLog,
        progress: Progress,
        changed: Pulse,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._genesis = genesis
        self._author = author
        self._board = board
        self._contacts = contacts
        self._log = log
        self._progress = progress
        self._changed = changed
        self._clock = clock
        self._random = random
        self._waiting: set[Hash] = set()
        self._keys_busy: set[str] = set()

    async def quote(self, form: LeaseForm) -> Quote:
        """Asks the market and commits nothing; raises CallerFault(no_providers) that says why, per provider."""
        offers = await self._offers(form)
        cost = offers[0].cost
        return Quote(cost, price.stake(cost), tuple((offer.provider, offer.cost) for offer in offers))

    async def request(self, form: LeaseForm) -> Hash:
        """Leases a machine and returns once its provider has accepted.

        Raises CallerFault (bad_resources, bad_duration, bad_key, insufficient_balance, no_providers, lease_failed).
        """
        if not form.idempotency_key:
            return await self._lease(form)
        return await self._once(form)

    async def cancel(self, lease_hash: Hash) -> None:
        """Takes the money back; raises NotFound, WrongState(lease_accepted), Unavailable(provider_silent)."""
        lease = self._own_lease(lease_hash)
        if lease.state is LeaseState.CREATED:
            await self._withdraw(lease)
            lease = self._own_lease(lease_hash)
        if lease.state is not LeaseState.CREATED:
            raise WrongState(f"lease_{lease.state}", f"the lease is {lease.state}; only a created one can be cancelled")
        await self._author.append(Draft(Asset.XUSD, lease.cost, LeaseCancel(lease_hash)))

    async def _withdraw(self, lease: LeaseRecord) -> None:
        """Makes sure that the provider will not accept, or has had its time (see `core.provision`)."""
        if self._clock() > lease.created_at + CANCEL_AFTER:
            return
        try:
            answer = await self._contacts.call(lease.provider, WITHDRAW_METHOD, (lease.lease_hash,), ASK_SECONDS_MAX)
        except PeerFault as fault:
            wait = (lease.created_at + CANCEL_AFTER - self._clock()) // NS
            message = (
                f"the provider does not say that it lets go ({fault}); the money is back in {wait} s at the latest"
            )
            raise Unavailable("provider_silent", message, retryable=True) from fault
        if answer != (WITHDRAWN_ANSWER,):
            raise WrongState("lease_accepted", "the provider has just accepted this lease")

    def note_ends(self, applied: Sequence[Effects]) -> None:
        """Logs how leases of ours ended, whoever ended them; a watcher of the replica."""
        for effects in applied:
            lease = effects.lease
            if lease is not None and lease.consumer == self._author.address and lease.is_final:
                self._log.record(lease.lease_hash, str(lease.state), ENDS[lease.state])

    async def sweep(self) -> None:
        """Cancels leases of ours that nobody accepted in time, such as those of an earlier run; runs with the node."""
        await self._author.until_in_step()
        while True:
            await trio.sleep(SWEEP_EVERY)
            for lease in self._overdue():
                try:
                    await self.cancel(lease.lease_hash)
                except Fault as fault:
                    self._log.record(lease.lease_hash, "cancel_failed", str(fault))

    def _check(self, form: LeaseForm) -> int:
        """The least that this would cost; raises CallerFault for what no provider could mend."""
        timing = self._genesis.timing
        low, high = timing.lease_duration_min, timing.lease_duration_max
        if not low <= form.duration <= high:
            raise CallerFault("bad_duration", f"duration must be from {low} to {high} seconds")
        if not is_valid_point(form.access_pub_key):
            raise CallerFault("bad_key", "access_pub_key is not a usable ed25519 public key")
        policy_named(form.policy)
        least = price.cost(form.resources, form.duration, self._rates(), price.MULTIPLIER_MIN)
        held = self._author.account().xusd
        if held < least:
            message = f"this lease costs at least {least} XUSD and the account holds {held}; send it some first"
            raise CallerFault("insufficient_balance", message)
        return least

    def _rates(self) -> price.Rates:
        """Those that hold now: a lease block is dated when it is written."""
        return self._store.charter_at(self._clock()).rates

    async def _once(self, form: LeaseForm) -> Hash:
        """The same Idempotency-Key gives the same lease, also after a restart."""
        key = form.idempotency_key
        if len(key) > KEY_CHARACTERS_MAX:
            raise CallerFault("bad_idempotency_key", f"Idempotency-Key has {KEY_CHARACTERS_MAX} characters at most")
        if key in self._keys_busy:
            raise WrongState("in_progress", "a request with this Idempotency-Key is still running; try again later")
        with self._store.snapshot() as view:
            note = view.note(KEYS, key.encode())
        if note is not None:
            return await self._resumed(Hash(note), form)
        self._keys_busy.add(key)
        try:
            return await self._lease(form)
        finally:
            self._keys_busy.discard(key)

    async def _resumed(self, lease_hash: Hash, form: LeaseForm) -> Hash:
        lease = self._own_lease(lease_hash)
        if lease.state is LeaseState.CREATED:
            with trio.move_on_after(form.timeout):
                await self._accepted(lease.provider, lease_hash, self._log.stopwatch(lease_hash))
            lease = self._own_lease(lease_hash)
        if lease.state in (LeaseState.CREATED, LeaseState.CANCELLED):
            message = f"the lease {lease_hash.hex()} of this Idempotency-Key is {lease.state}; use a new key"
            raise CallerFault("lease_failed", message)
        return lease_hash

    async def _lease(self, form: LeaseForm) -> Hash:
        self._check(form)
        began = trio.current_time()
        deadline = began + form.timeout
        await self._prepare(form)
        failed: list[Failed] = []
        for offer in (await self._offers(form))[:OFFERS_TRIED_MAX]:
            if trio.current_time() >= deadline:
                break
            lease_hash, watch = await self._pay(offer, form, began, deadline)
            try:
                await self._until_accepted(offer.provider, lease_hash, watch, deadline)
                return lease_hash
            except Unavailable as fault:
                failed.append(Failed(offer.provider, str(fault)))
            began = trio.current_time()
        if not failed:
            raise CallerFault("lease_failed", f"no provider had accepted within {form.timeout:.0f} s; try again")
        raise CallerFault("lease_failed", "no provider gave a machine: " + _reasons(failed))

    async def _prepare(self, form: LeaseForm) -> None:
        """Work for the lease block before the market is asked: an offer holds up capacity and ends soon."""
        await self._author.be_in_step()
        with trio.move_on_after(form.timeout) as scope:
            await self._author.prepare()
        if scope.cancelled_caught:
            message = f"no proof of work was found within {form.timeout:.0f} s; try again, or give it more time"
            raise CallerFault("lease_failed", message)

    async def _pay(self, offer: Offer, form: LeaseForm, began: float, deadline: float) -> tuple[Hash, Stopwatch]:
        draft = Draft(Asset.XUSD, -offer.cost, _body(offer, form))
        lease_hash = await self._author.append(draft, lambda identity: self._notes(identity, form, deadline))
        watch = self._log.stopwatch(lease_hash, began)
        watch.step("requested", f"{offer.cost} XUSD in escrow for {offer.provider.hex()}, image {offer.image}")
        return lease_hash, watch

    async def _until_accepted(self, provider: Address, lease_hash: Hash, watch: Stopwatch, deadline: float) -> None:
        """Waits for the acceptance; on any other end the money is taken back, and Unavailable raised."""
        self._waiting.add(lease_hash)
        try:
            await self._accepted_by(deadline, provider, lease_hash, watch)
        except Unavailable:
            if await self._taken_back(lease_hash):
                raise
        except trio.Cancelled:  # the caller has left, and nobody would use the machine
            await self._taken_back(lease_hash)
            raise
        finally:
            self._waiting.discard(lease_hash)

    async def _taken_back(self, lease_hash: Hash) -> bool:
        """Cancels; False where the acceptance was quicker, and the lease stands."""
        with trio.CancelScope(shield=True):
            for _ in range(TAKEN_BACK_TRIES):
                try:
                    await self.cancel(lease_hash)
                    return True
                except WrongState:  # it may take a moment until the acceptance is here
                    state = await self._state_soon(lease_hash)
                    if state is not LeaseState.CREATED:
                        return state is not LeaseState.ACCEPTED
                except Fault as fault:
                    self._log.record(lease_hash, "cancel_failed", str(fault))
                    return True
        return True  # the sweep tries again

    async def _state_soon(self, lease_hash: Hash) -> LeaseState:
        with trio.move_on_after(ASK_SECONDS_MAX):
            while self._own_lease(lease_hash).state is LeaseState.CREATED:
                await self._changed.wait(LOOK_EVERY)
        return self._own_lease(lease_hash).state

    async def _accepted_by(self, deadline: float, provider: Address, lease_hash: Hash, watch: Stopwatch) -> None:
        with trio.move_on_at(deadline) as scope:
            await self._accepted(provider, lease_hash, watch)
        if scope.cancelled_caught:
            raise Unavailable("no_acceptance", "it did not accept in time")

    async def _accepted(self, provider: Address, lease_hash: Hash, watch: Stopwatch) -> None:
        """Returns once the ledger has the acceptance; raises Unavailable when the provider says that it failed."""
        ask_at, is_confirmed_here = trio.current_time(), False
        while self._own_lease(lease_hash).state is LeaseState.CREATED:
            if not is_confirmed_here and (is_confirmed_here := self._is_confirmed(lease_hash)):
                watch.step("lease_confirmed", "the network has decided for it")
            if trio.current_time() >= ask_at:
                await self._check_progress(provider, lease_hash)
                ask_at = trio.current_time() + LOOK_EVERY
            await self._changed.wait(LOOK_EVERY)
        watch.step("acceptance_seen")
        await self._confirmed(lease_hash)
        if self._own_lease(lease_hash).state is not LeaseState.ACCEPTED:
            raise Unavailable("lease_ended", "the lease ended before it was accepted")
        watch.step("acceptance_confirmed", "the network has decided for it")
        await self._progress.ask(provider, lease_hash)  # for its last steps
        watch.whole("accepted", "the machine answers on SSH")

    def _is_confirmed(self, lease_hash: Hash) -> bool:
        with self._store.snapshot() as view:
            return is_confirmed(view, lease_hash)

    async def _confirmed(self, lease_hash: Hash) -> None:
        """Waits until nothing can take the acceptance back."""
        while True:
            with self._store.snapshot() as view:
                lease = view.lease(lease_hash)
                if lease is None or lease.is_final or is_confirmed(view, lease.accept_hash):
                    return
            await self._changed.wait(LOOK_EVERY)

    async def _check_progress(self, provider: Address, lease_hash: Hash) -> None:
        phase, reason = await self._progress.ask(provider, lease_hash)
        if reason:
            self._log.record(lease_hash, f"provider_{phase}", reason)
        if phase == "failed":
            raise Unavailable("provider_failed", reason or "it could not boot the machine")

    async def _offers(self, form: LeaseForm) -> tuple[Offer, ...]:
        """Good offers, best first; raises CallerFault(no_providers)."""
        request_id = Hash(self._random(32))
        request = Request(
            request_id,
            self._author.address,
            form.resources,
            form.duration,
            form.access_pub_key,
            form.image,
            timestamp=self._clock(),
        )
        answers = self._board.open_request(request_id)
        try:
            await self._board.post(request)
            await self._collect(answers, form)
        finally:
            self._board.close_request(request_id)
        flaws = {offer: self._flaw(offer, form) for offer in answers.offers.values()}
        good = [offer for offer, flaw in flaws.items() if not flaw]
        if not good:
            declined = [Failed(item.provider, f"{item.code}: {item.detail}") for item in answers.declines.values()]
            unfit = [Failed(offer.provider, flaw) for offer, flaw in flaws.items()]
            raise CallerFault("no_providers", _no_offers(declined + unfit))
        return policy_named(form.policy)(good)

    async def _collect(self, answers: Answers, form: LeaseForm) -> None:
        """Waits the window out; the end comes early where the one wanted has answered, or all known ones have."""
        with trio.move_on_after(min(WINDOW_IN_ALL, form.timeout)):
            while not answers.offers and not self._all_declined(answers.declines, form):
                await answers.changed.wait(LOOK_EVERY)
            with trio.move_on_after(WINDOW_AFTER_FIRST):
                while not self._all_answered(answers, form):
                    await answers.changed.wait(WINDOW_AFTER_FIRST)

    def _wanted(self, form: LeaseForm) -> set[Address]:
        known = {ad.provider for ad in self._board.ads()} - {self._author.address}
        return {form.provider} if form.provider is not None else known

    def _all_declined(self, declines: Mapping[Address, Decline], form: LeaseForm) -> bool:
        wanted = self._wanted(form)
        return bool(wanted) and wanted <= declines.keys()

    def _all_answered(self, answers: Answers, form: LeaseForm) -> bool:
        wanted = self._wanted(form)
        return bool(wanted) and wanted <= answers.declines.keys() | answers.offers.keys()

    def _flaw(self, offer: Offer, form: LeaseForm) -> str:
        """Why an offer can't be taken; "" where it is from whom we want, at the right price, and still open."""
        if offer.provider == self._author.address:
            return "is this node's own account"
        if form.provider is not None and offer.provider != form.provider:
            return "is not the provider that was asked for"
        if form.image and offer.image != form.image:
            return f"offers the image {offer.image!r} and not {form.image!r}"
        if offer.valid_until <= self._clock():
            return "its offer had ended when it came; do the clocks of both nodes agree?"
        try:
            due = price.cost(form.resources, form.duration, self._rates(), offer.multiplier_milli)
        except CallerFault as fault:
            return str(fault)
        if offer.cost != due:
            return f"asks {offer.cost} XUSD where the formula gives {due}"
        is_too_dear = 0 < form.max_cost < offer.cost
        return f"asks {offer.cost} XUSD, more than the max_cost of {form.max_cost}" if is_too_dear else ""

    def _own_lease(self, lease_hash: Hash) -> LeaseRecord:
        with self._store.snapshot() as view:
            lease = view.lease(lease_hash)
        if lease is None or lease.consumer != self._author.address:
            raise NotFound("lease_unknown", "this node's account has no such lease")
        return lease

    def _notes(self, lease_hash: Hash, form: LeaseForm, deadline: float) -> list[Note]:
        """So that after a crash the money comes back, and the same Idempotency-Key finds the same lease."""
        until = self._clock() + max(0, int((deadline - trio.current_time()) * NS))
        notes: list[Note] = [(DEADLINES, lease_hash, until.to_bytes(8, "big"))]
        if form.idempotency_key:
            notes.append((KEYS, form.idempotency_key.encode(), lease_hash))
        return notes

    def _overdue(self) -> list[LeaseRecord]:
        with self._store.snapshot() as view:
            leases = view.leases(state=LeaseState.CREATED, consumer=self._author.address, limit=SWEEP_LEASES_MAX)
            return [lease for lease in leases if self._is_overdue(lease, view.note(DEADLINES, lease.lease_hash))]

    def _is_overdue(self, lease: LeaseRecord, deadline: Plain) -> bool:
        if lease.lease_hash in self._waiting:
            return False
        until = int.from_bytes(deadline, "big") if isinstance(deadline, bytes) else lease.created_at + 600 * NS
        return self._clock() > until


def _body(offer: Offer, form: LeaseForm) -> Lease:
    return Lease(
        destination=offer.provider,
        amount=offer.cost,
        vcpus=form.resources.vcpus,
        memory_mb=form.resources.memory_mb,
        disk_gb=form.resources.disk_gb,
        duration=form.duration,
        access_pub_key=form.access_pub_key,
        certificate_hash=offer.certificate_hash,
        multiplier_milli=offer.multiplier_milli,
    )


def _reasons(failed: list[Failed]) -> str:
    return "; ".join(f"{item.provider.hex()[:12]}: {item.reason}" for item in failed)


def _no_offers(reasons: list[Failed]) -> str:
    if not reasons:
        return "no provider answered; is one running and connected? (GET /providers lists those heard of)"
    return "no offer fits: " + _reasons(reasons)
