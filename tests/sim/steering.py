"""A consumer steers its machines, one act at a time, and remembers which ones it has stopped."""

from functools import partial

from tests.sim.journal import Journal
from tests.sim.member import Member
from xnode.core.faults import Fault, WrongState
from xnode.core.lease import LeaseState
from xnode.core.power import Verb
from xnode.core.values import Hash


class Steering:
    """`stopped` are the machines that must stay down until their consumer says otherwise."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._busy: set[Hash] = set()
        self._doubtful: set[Hash] = set()  # an act of which nobody knows what became may still be done
        self.stopped: set[Hash] = set()

    def order(self, member: Member, verb: Verb) -> None:
        """Tells the first machine that the member has leased; nothing while an act at it is under way."""
        assert member.roles is not None
        with member.roles.store.snapshot() as view:
            leases = list(view.leases(consumer=member.address, state=LeaseState.ACCEPTED, limit=1))
        if leases and leases[0].lease_hash not in self._busy:
            member.start_soon(partial(self._order, member, leases[0].lease_hash, verb))

    async def _order(self, member: Member, lease_hash: Hash, verb: Verb) -> None:
        assert member.roles is not None
        self._busy.add(lease_hash)
        was_doubtful = lease_hash in self._doubtful
        self._doubtful.add(lease_hash)
        self.stopped.discard(lease_hash)
        try:
            await member.roles.steering.act(lease_hash, verb, None)
            self._journal.note(f"machine {verb} done", member.name, lease_hash.hex()[:12])
            is_stopped = verb is Verb.STOP
        except WrongState as fault:
            self._journal.note(f"machine {verb} refused", member.name, str(fault))
            is_stopped = False
        except Fault as fault:
            self._journal.note(f"machine {verb} failed: {fault.code}", member.name, str(fault))
            return
        finally:
            self._busy.discard(lease_hash)
        if not was_doubtful:
            self._doubtful.discard(lease_hash)
            if is_stopped:
                self.stopped.add(lease_hash)
