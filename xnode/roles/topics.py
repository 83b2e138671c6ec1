"""The gossip topics: what is checked before a record is passed on, and where it goes (protocol section 10).

REJECT is for what is provably bad, whoever looks: not well formed, not signed, too little work. All else that is of no
use here is IGNOREd, which costs the sender nothing. Validators look at the ledger but never write; delivery does.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final, cast

from xnode.core.blocks import Block
from xnode.core.codec import Malformed
from xnode.core.directory import DIRECTORY, is_current
from xnode.core.ledger import GAPS, Outcome
from xnode.core.market import MarketRecord
from xnode.core.state_blocks import StateBlock
from xnode.core.state_chain import StateOutcome
from xnode.core.votes import VOTES, VoteBundle
from xnode.net.network import Judged, Topic, Verdict
from xnode.net.streams import PeerId
from xnode.roles.contacts import DIRECTORY_TOPIC, Contacts
from xnode.roles.governance import STATE_TOPIC, Governance
from xnode.roles.market_board import MARKET_TOPIC, MarketBoard
from xnode.roles.replica import BLOCKS_TOPIC, Replica, check_wire
from xnode.roles.voting import VOTES_TOPIC, Voting

RATES: Final = {  # messages a second of one peer, and how many at once
    BLOCKS_TOPIC: (100.0, 1000),
    VOTES_TOPIC: (100.0, 1000),
    MARKET_TOPIC: (50.0, 200),
    DIRECTORY_TOPIC: (20.0, 500),
    STATE_TOPIC: (1.0, 20),
}
PASSED_ON: Final = GAPS | {
    Outcome.PROGRESS,
    Outcome.FORK,
    Outcome.RIVAL,
}  # good by themselves, whatever our ledger holds
# A state block's signatures are looked at only where it builds on a block that we have: then all see them alike.
STATE_PROVABLY_BAD: Final = (StateOutcome.BAD_FORMAT, StateOutcome.BAD_SIGNATURE, StateOutcome.FEW_SIGNATURES)
PROVABLY_BAD: Final = frozenset({Outcome.BAD_FORMAT, Outcome.BAD_WORK, Outcome.BAD_SIGNATURE})


class Topics:
    """Made before the network, because that needs the table; `wire` joins it to the roles once they are there."""

    def __init__(self) -> None:
        self._knows: Callable[[PeerId], bool] = lambda _peer_id: False
        self._roles: tuple[Replica, MarketBoard, Contacts, Voting] | None = None
        self._governance: Governance | None = None
        self._on_gap: Callable[[], None] = lambda: None
        self.ignored: Counter[str] = Counter()

    def wire(
        self,
        knows: Callable[[PeerId], bool],
        replica: Replica,
        board: MarketBoard,
        contacts: Contacts,
        voting: Voting,
        governance: Governance,
        on_state_gap: Callable[[], None],
    ) -> None:
        """From now on records of peers that `knows` says hello of are judged and delivered.

        `on_state_gap` is called when a state block shows that we miss others.
        """
        self._roles = (replica, board, contacts, voting)
        self._governance, self._on_gap = governance, on_state_gap
        self._knows = knows

    def table(self) -> dict[str, Topic]:
        """What `open_network` takes."""
        ways = {
            BLOCKS_TOPIC: (self._judge_block, self._deliver_block),
            VOTES_TOPIC: (self._judge_votes, self._deliver_votes),
            MARKET_TOPIC: (self._judge_market, self._deliver_market),
            DIRECTORY_TOPIC: (self._judge_directory, self._deliver_directory),
            STATE_TOPIC: (self._judge_state, self._deliver_state),
        }
        return {name: Topic(self._guarded(judge), deliver, *RATES[name]) for name, (judge, deliver) in ways.items()}

    def _guarded(self, judge: Callable[[bytes], Judged]) -> Callable[[PeerId, bytes], Judged]:
        def validate(peer_id: PeerId, data: bytes) -> Judged:
            if not self._knows(peer_id):
                return self._ignore("before_hello")
            return judge(data)

        return validate

    def _wired(self) -> tuple[Replica, MarketBoard, Contacts, Voting]:
        assert self._roles is not None, "nothing is delivered before a peer has said hello"
        return self._roles

    def _ignore(self, reason: str) -> Judged:
        self.ignored[reason] += 1
        return Judged(Verdict.IGNORE, None, reason)

    def _judge_block(self, data: bytes) -> Judged:
        replica = self._wired()[0]
        block, outcome, detail = check_wire(data, replica.context())
        if outcome in PROVABLY_BAD:
            return Judged(Verdict.REJECT, None, f"{outcome}: {detail}")
        if block is not None:
            outcome = replica.preview(block)
        if outcome not in PASSED_ON:
            return self._ignore(outcome)
        return Judged(Verdict.ACCEPT, block, "")

    def _deliver_block(self, _peer_id: PeerId, value: object) -> None:
        self._wired()[0].take_checked(cast(Block, value))

    def _judge_votes(self, data: bytes) -> Judged:
        replica, _, _, voting = self._wired()
        try:
            bundle, signed = VOTES.read(replica.context().genesis.network_key, data)
        except Malformed as error:
            return Judged(Verdict.REJECT, None, str(error))
        if not signed:
            return Judged(Verdict.REJECT, None, "not signed by its representative")
        if not voting.is_useful(bundle):
            return self._ignore("votes_without_weight")
        return Judged(Verdict.ACCEPT, (bundle, data), "")

    def _deliver_votes(self, _peer_id: PeerId, value: object) -> None:
        self._wired()[3].take(*cast(tuple[VoteBundle, bytes], value))

    def _judge_market(self, data: bytes) -> Judged:
        board = self._wired()[1]
        record = board.read(data)
        if record is None:
            return Judged(Verdict.REJECT, None, "not a signed market record")
        if not board.is_useful(record):
            return self._ignore("stale_record")
        return Judged(Verdict.ACCEPT, record, "")

    def _deliver_market(self, _peer_id: PeerId, value: object) -> None:
        self._wired()[1].take(cast(MarketRecord, value))

    def _judge_directory(self, data: bytes) -> Judged:
        replica, _, contacts, _ = self._wired()
        try:
            record, signed = DIRECTORY.read(replica.context().genesis.network_key, data)
        except Malformed as error:
            return Judged(Verdict.REJECT, None, str(error))
        if not signed:
            return Judged(Verdict.REJECT, None, "not signed by its account")
        if not is_current(record, contacts.now()):
            return self._ignore("stale_record")
        return Judged(Verdict.ACCEPT, data, "")

    def _deliver_directory(self, _peer_id: PeerId, value: object) -> None:
        self._wired()[2].take(cast(bytes, value))

    def _judge_state(self, data: bytes) -> Judged:
        assert self._governance is not None, "see _wired"
        block, outcome, detail = self._governance.preview(data)
        if outcome in STATE_PROVABLY_BAD:
            return Judged(Verdict.REJECT, None, f"{outcome}: {detail}")
        if outcome is StateOutcome.GAP_PREVIOUS:
            self._on_gap()
        if outcome not in (StateOutcome.PROGRESS, StateOutcome.FORK):
            return self._ignore(f"state_{outcome}")
        return Judged(Verdict.ACCEPT, block, "")

    def _deliver_state(self, _peer_id: PeerId, value: object) -> None:
        assert self._governance is not None, "see _wired"
        self._governance.take(cast(StateBlock, value))
