"""Rules of the protocol, each broken on purpose: what the simulator must find. Nothing in the product can switch them.

Each takes a pytest MonkeyPatch and exchanges the one function or constant that holds the rule; the scenarios stay what
they are.
"""

from collections.abc import Callable
from typing import Any, Final

import pytest

from xnode.core import weights
from xnode.core.blocks import LeaseSettle
from xnode.core.election import Election
from xnode.core.lease import EndProof, LeaseRecord
from xnode.core.provision import Action, Situation, next_action
from xnode.core.rules import Case
from xnode.core.values import Hash
from xnode.roles import provider
from xnode.roles.power_book import PowerBook


def allow_double_votes(patch: pytest.MonkeyPatch) -> None:
    """A representative gives its final vote to every good block that it sees at a position."""

    def vote_for_all(self: Election, now: int, *_: Any) -> list[Any]:
        given: set[Hash] = self.__dict__.setdefault("given", set())
        fresh = [block_hash for block_hash in self._votable() if block_hash not in given]
        given.update(fresh)
        return [self._cast(block_hash, True, now) for block_hash in fresh] if self._own is not None else []

    patch.setattr(Election, "_vote_finally", vote_for_all)


def halve_the_threshold(patch: pytest.MonkeyPatch) -> None:
    """50 % of the weight decide."""
    patch.setattr(weights, "QUORUM_PERCENT", 50)


def settle_without_attestation(patch: pytest.MonkeyPatch) -> None:
    """Nobody has to attest that a lease's time is over."""
    attested = Case.attested

    def believing(self: Case, attestations: Any, lease_hash: Hash) -> int:
        if isinstance(self.block.body, LeaseSettle):
            lease = self.view.lease(lease_hash)
            assert lease is not None
            return lease.expiry
        return attested(self, attestations, lease_hash)

    patch.setattr(Case, "attested", believing)


def destroy_without_proof(patch: pytest.MonkeyPatch) -> None:
    """A machine that does not run is cleared away, whatever its lease says."""

    def clear_away(situation: Situation) -> Action:
        action = next_action(situation)
        return Action.DESTROY if action is Action.BOOT and situation.machine is not None else action

    def prove_nothing(lease: LeaseRecord, *_: Any, **__: Any) -> EndProof:
        return EndProof(lease.lease_hash, lease.accept_hash, "settled")

    patch.setattr(provider, "next_action", clear_away)
    patch.setattr(provider, "prove_ended", prove_nothing)


def forget_stops(patch: pytest.MonkeyPatch) -> None:
    """A provider does not remember which machines are to stay off."""
    patch.setattr(PowerBook, "is_off", lambda *_: False)


BROKEN: Final[dict[str, tuple[Callable[[pytest.MonkeyPatch], None], frozenset[str]]]] = {
    "double vote allowed": (allow_double_votes, frozenset({"one_block_a_position"})),
    "threshold at 50 %": (halve_the_threshold, frozenset({"one_block_a_position"})),
    "settle without attestation": (settle_without_attestation, frozenset({"settled_in_time"})),
    "destroy without proof": (destroy_without_proof, frozenset({"live_machine_kept"})),
    "stop forgotten": (forget_stops, frozenset({"stopped_stays_down"})),
}
