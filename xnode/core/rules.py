"""The rules of each block type, and `judge`, which runs all checks in their order (protocol section 4).

Each rule is a function of a `Case` that returns what the block changes or raises `Refuse`; `Case` has what they share.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn, TypeVar

from xnode.core import price
from xnode.core.attestations import Attestation, canonical_time
from xnode.core.authority import check_authority, check_signatures
from xnode.core.blocks import (
    Block,
    BlockType,
    Body,
    Claim,
    Lease,
    LeaseAccept,
    LeaseCancel,
    LeaseForceSettle,
    LeaseSettle,
    MultisigOpen,
    MultisigUpdate,
    Receive,
    Send,
    block_hash,
)
from xnode.core.faults import CallerFault
from xnode.core.keys import is_valid_point
from xnode.core.keyset import Keyset, points_flaw
from xnode.core.lease import LeaseEvent, LeaseRecord, LeaseState, next_state
from xnode.core.ledger import (
    AccountRecord,
    Bucket,
    Context,
    Effects,
    LedgerView,
    Move,
    Outcome,
    Pending,
    Refusal,
    moves_balance,
    new_account,
)
from xnode.core.reclaim import claimable_from
from xnode.core.values import NS, U64_MAX, ZERO_HASH, Asset, Hash, PublicKey
from xnode.core.work import is_valid_work

BodyT = TypeVar("BodyT", bound=Body)
_XUSD: Final = Asset.XUSD  # looking up a member of an enumeration takes longer than comparing it
_BALANCES: Final = Bucket.BALANCES
_PENDING: Final = Bucket.PENDING


class Refuse(Exception):
    """Carries a refusal out of a rule; never leaves this module."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


def _refuse(outcome: Outcome, detail: str, needs: Hash = ZERO_HASH) -> NoReturn:
    raise Refuse(Refusal(outcome, detail, needs))


def _require(holds: bool, outcome: Outcome, detail: str) -> None:
    if not holds:
        _refuse(outcome, detail)


class Case(NamedTuple):
    """One block under judgement: where it stands and what may be looked at."""

    view: LedgerView
    context: Context
    block: Block
    block_hash: Hash
    account: AccountRecord

    def body(self, kind: type[BodyT]) -> BodyT:
        """The block's own fields, of the kind that its type says."""
        assert isinstance(self.block.body, kind)
        return self.block.body

    def asset_is(self, asset: Asset) -> None:
        """Refuses bad_asset."""
        if self.block.asset is not asset:
            _refuse(Outcome.BAD_ASSET, f"{self.block.type.name.lower()} is in {asset.name} only")

    def moved(self, delta: int) -> AccountRecord:
        """The account with this block as its head and its balance moved by `delta`; refuses insufficient, overflow,
        bad_balance."""
        block, before = self.block, self.account
        xusd, xe = before.xusd, before.xe
        if block.asset is _XUSD:
            xusd = balance = xusd + delta
        else:
            xe = balance = xe + delta
        if block.balance != balance or not 0 <= balance <= U64_MAX:
            _refuse_balance(balance, delta)
        representative = block.representative or before.representative
        height, last_claim = before.height + 1, before.last_claim
        return AccountRecord(
            block.account,
            self.block_hash,
            height,
            xusd,
            xe,
            representative,
            last_claim,
            before.final_height,
            before.keyset,
        )

    def done(
        self,
        account: AccountRecord,
        moves: tuple[Move, ...],
        pending_put: Pending | None = None,
        pending_delete: Pending | None = None,
        lease: LeaseRecord | None = None,
    ) -> Effects:
        """All that the block does; `account` is made by `moved`."""
        assert moves_balance(moves), "a rule would break the supply identity"
        return Effects(self.block, self.block_hash, account, pending_put, pending_delete, lease, moves)

    def lease(self, source: Hash, event: LeaseEvent, signer: str) -> LeaseRecord:
        """The lease after `event`; refuses gap_source, no_source, not_yours, wrong_state."""
        lease = self.view.lease(source)
        if lease is None:
            if self.view.has_block(source):
                _refuse(Outcome.NO_SOURCE, "the source block is not a lease")
            _refuse(Outcome.GAP_SOURCE, "the lease is not here yet", source)
        _require(
            getattr(lease, signer) == self.block.account, Outcome.NOT_YOURS, f"only the lease's {signer} may do this"
        )
        state = next_state(lease.state, event)
        if state is None:
            _refuse(Outcome.WRONG_STATE, f"the lease is {lease.state}")
        return lease._replace(state=state)

    def attested(self, attestations: tuple[Attestation, ...], lease_hash: Hash) -> int:
        """The attested time in ns, by the timekeepers of the block's own time; refuses bad_attestations, bad_timestamp.

        A block that is dated further from it was never live anywhere; it would choose its timekeepers by its date.
        """
        timekeepers = self.view.charter_at(self.block.timestamp).timekeepers
        skew = self.context.genesis.timing.attestation_skew
        time = canonical_time(attestations, lease_hash, timekeepers, self.context.now, skew)
        if time is None:
            _refuse(Outcome.BAD_ATTESTATIONS, f"{timekeepers.threshold} valid attestations are needed")
        if abs(self.block.timestamp - time) > self.leeway:
            _refuse(Outcome.BAD_TIMESTAMP, f"more than {self.leeway // NS} s from its attested time")
        return time

    @property
    def leeway(self) -> int:
        """By how much (ns) the date and the attested time of a block that was live anywhere can differ."""
        timing = self.context.genesis.timing
        return (timing.live_window + timing.attestation_skew) * NS


def _refuse_balance(balance: int, delta: int) -> NoReturn:
    if balance < 0:
        _refuse(Outcome.INSUFFICIENT, f"the account holds {balance - delta}, which is less than {-delta}")
    if balance > U64_MAX:
        _refuse(Outcome.OVERFLOW, "the balance would not fit u64")
    _refuse(Outcome.BAD_BALANCE, f"the balance after this block must be {balance}")


def _moves(asset: Asset, *changes: tuple[Bucket, int]) -> tuple[Move, ...]:
    return tuple([Move(asset, bucket, delta) for bucket, delta in changes])  # a list is quicker than a generator


def _send(case: Case) -> Effects:
    destination, amount = case.body(Send)
    account, asset = case.block.account, case.block.asset
    if amount <= 0:
        _refuse(Outcome.BAD_AMOUNT, "a send moves at least 1")
    if destination == account:
        _refuse(Outcome.BAD_DESTINATION, "a send to oneself moves nothing")
    moves = (Move(asset, _BALANCES, -amount), Move(asset, _PENDING, amount))
    return case.done(case.moved(-amount), moves, Pending(case.block_hash, account, destination, asset, amount))


def _receive(case: Case) -> Effects:
    source = case.body(Receive).source
    entry = case.view.pending(case.block.account, source)
    if entry is None:
        if case.view.has_block(source):
            _refuse(Outcome.NO_SOURCE, "nothing is pending from that block for this account")
        _refuse(Outcome.GAP_SOURCE, "the send is not here yet", source)
    asset, amount = entry.asset, entry.amount
    case.asset_is(asset)
    moves = (Move(asset, _PENDING, -amount), Move(asset, _BALANCES, amount))
    return case.done(case.moved(amount), moves, pending_delete=entry)


def _claim(case: Case) -> Effects:
    case.body(Claim)
    case.asset_is(Asset.XUSD)
    faucet = case.context.genesis.faucet
    _require(faucet.enabled, Outcome.FAUCET_OFF, "this network has no faucet")
    _require(case.block.timestamp > 0, Outcome.BAD_TIMESTAMP, "a claim at time 0 could not be told from none")
    last = case.account.last_claim
    waited = last == 0 or case.block.timestamp - last >= faucet.interval * NS
    _require(waited, Outcome.FAUCET_WAIT, f"one claim in {faucet.interval} s for each account")
    moves = _moves(Asset.XUSD, (Bucket.CLAIMED, faucet.amount), (Bucket.BALANCES, faucet.amount))
    return case.done(case.moved(faucet.amount)._replace(last_claim=case.block.timestamp), moves)


def _lease(case: Case) -> Effects:
    body, timing = case.body(Lease), case.context.genesis.timing
    case.asset_is(Asset.XUSD)
    latest = case.context.latest
    is_due = latest is None or case.block.timestamp <= latest  # before, the rates of its time may still change
    _require(is_due, Outcome.BAD_TIMESTAMP, f"a lease dated more than {timing.live_window} s ahead waits for its time")
    _require(body.destination != case.block.account, Outcome.BAD_DESTINATION, "a lease from oneself")
    in_range = timing.lease_duration_min <= body.duration <= timing.lease_duration_max
    _require(in_range, Outcome.BAD_DURATION, f"{timing.lease_duration_min} to {timing.lease_duration_max} s")
    _require(body.amount == _lease_cost(case, body), Outcome.BAD_AMOUNT, "the amount is not what the formula gives")
    account = case.moved(-body.amount)
    _require(is_valid_point(body.destination), Outcome.BAD_DESTINATION, "the provider is no account that can sign")
    _require(is_valid_point(body.access_pub_key), Outcome.BAD_KEY, "access_pub_key is no usable ed25519 key")
    moves = _moves(Asset.XUSD, (Bucket.BALANCES, -body.amount), (Bucket.ESCROW, body.amount))
    return case.done(account, moves, lease=_opened(case, body))


def _lease_cost(case: Case, body: Lease) -> int:
    rates = case.view.charter_at(case.block.timestamp).rates
    try:
        amount = price.cost(body.resources, body.duration, rates, body.multiplier_milli)
    except CallerFault as fault:
        _refuse(Outcome(fault.code), str(fault))
    _require(amount <= U64_MAX, Outcome.OVERFLOW, "the cost would not fit u64")
    return amount


def _opened(case: Case, body: Lease) -> LeaseRecord:
    return LeaseRecord(
        lease_hash=case.block_hash,
        consumer=case.block.account,
        provider=body.destination,
        resources=body.resources,
        duration=body.duration,
        access_pub_key=body.access_pub_key,
        cost=body.amount,
        stake=price.stake(body.amount),
        multiplier_milli=body.multiplier_milli,
        certificate_hash=body.certificate_hash,
        created_at=case.block.timestamp,
        state=LeaseState.CREATED,
        start_time=0,
        host_key=PublicKey(ZERO_HASH),
        accept_hash=ZERO_HASH,
        end_hash=ZERO_HASH,
    )


def _lease_accept(case: Case) -> Effects:
    body = case.body(LeaseAccept)
    case.asset_is(Asset.XUSD)
    lease = case.lease(body.source, LeaseEvent.ACCEPT, "provider")
    _require(body.amount == lease.stake, Outcome.BAD_AMOUNT, f"the stake is {lease.stake}")
    account = case.moved(-body.amount)
    _require(is_valid_point(body.host_key), Outcome.BAD_KEY, "host_key is no usable ed25519 key")
    start = case.attested(body.attestations, body.source)
    _require(start >= lease.created_at - case.leeway, Outcome.BAD_TIME, "a lease is not accepted before it is made")
    moves = _moves(Asset.XUSD, (Bucket.BALANCES, -body.amount), (Bucket.STAKE, body.amount))
    lease = lease._replace(
        start_time=start,
        host_key=body.host_key,
        certificate_hash=body.certificate_hash,
        accept_hash=case.block_hash,
    )
    return case.done(account, moves, lease=lease)


def _lease_settle(case: Case) -> Effects:
    body = case.body(LeaseSettle)
    case.asset_is(Asset.XE)
    lease = case.lease(body.source, LeaseEvent.SETTLE, "provider")
    _require(body.amount == price.reward(lease.cost), Outcome.BAD_AMOUNT, f"the reward is {price.reward(lease.cost)}")
    account = case.moved(body.amount)
    _require(account.xusd + lease.stake <= U64_MAX, Outcome.OVERFLOW, "the returned stake would not fit u64")
    time = case.attested(body.attestations, body.source)
    last = lease.expiry + case.context.genesis.timing.settle_grace * NS
    _require(
        lease.expiry <= time <= last, Outcome.BAD_TIME, "a lease is settled from its expiry to the end of its grace"
    )
    moves = (
        *_moves(Asset.XUSD, (Bucket.ESCROW, -lease.cost), (Bucket.BURNT, lease.cost)),
        *_moves(Asset.XUSD, (Bucket.STAKE, -lease.stake), (Bucket.BALANCES, lease.stake)),
        *_moves(Asset.XE, (Bucket.MINTED, body.amount), (Bucket.BALANCES, body.amount)),
    )
    account = account._replace(xusd=account.xusd + lease.stake)
    return case.done(account, moves, lease=lease._replace(end_hash=case.block_hash))


def _lease_cancel(case: Case) -> Effects:
    case.asset_is(Asset.XUSD)
    lease = case.lease(case.body(LeaseCancel).source, LeaseEvent.CANCEL, "consumer")
    moves = _moves(Asset.XUSD, (Bucket.ESCROW, -lease.cost), (Bucket.BALANCES, lease.cost))
    return case.done(case.moved(lease.cost), moves, lease=lease._replace(end_hash=case.block_hash))


def _lease_force_settle(case: Case) -> Effects:
    body, timing = case.body(LeaseForceSettle), case.context.genesis.timing
    case.asset_is(Asset.XUSD)
    lease = case.lease(body.source, LeaseEvent.FORCE_SETTLE, "consumer")
    account = case.moved(lease.cost)
    late = case.attested(body.attestations, body.source) >= claimable_from(lease, timing)
    _require(late, Outcome.BAD_TIME, "a lease is force-settled only after expiry, grace and gap")
    moves = _moves(
        Asset.XUSD,
        (Bucket.ESCROW, -lease.cost),
        (Bucket.BALANCES, lease.cost),
        (Bucket.STAKE, -lease.stake),
        (Bucket.FORFEITED, lease.stake),
    )
    return case.done(account, moves, lease=lease._replace(end_hash=case.block_hash))


def _multisig_open(case: Case) -> Effects:
    return _with_keyset(case, case.body(MultisigOpen).keyset)


def _multisig_update(case: Case) -> Effects:
    return _with_keyset(case, case.body(MultisigUpdate).keyset)


def _with_keyset(case: Case, keyset: Keyset) -> Effects:
    """Moves nothing; who may do it is asked by `core.authority`."""
    account = case.moved(0)
    flaw = points_flaw(keyset)
    _require(not flaw, Outcome.BAD_KEY, flaw)
    return case.done(account._replace(keyset=keyset), moves=())


RULES: Final[dict[BlockType, Callable[[Case], Effects]]] = {
    BlockType.SEND: _send,
    BlockType.RECEIVE: _receive,
    BlockType.CLAIM: _claim,
    BlockType.LEASE: _lease,
    BlockType.LEASE_ACCEPT: _lease_accept,
    BlockType.LEASE_SETTLE: _lease_settle,
    BlockType.LEASE_CANCEL: _lease_cancel,
    BlockType.LEASE_FORCE_SETTLE: _lease_force_settle,
    BlockType.MULTISIG_OPEN: _multisig_open,
    BlockType.MULTISIG_UPDATE: _multisig_update,
}


def check_alone(block: Block, context: Context) -> Refusal | None:
    """The checks that need no ledger: work, signatures, live window. What gossip's validator may ask."""
    genesis = context.genesis
    if not is_valid_work(block.work_root, block.work, genesis.work_difficulty):
        return Refusal(Outcome.BAD_WORK, "too little work for this block's root")
    unsigned = check_signatures(block, block_hash(genesis.network_key, block), genesis.network_key)
    if unsigned is not None:
        return unsigned
    if context.now is not None and abs(block.timestamp - context.now) > genesis.timing.live_window * NS:
        return Refusal(Outcome.BAD_TIMESTAMP, f"more than {genesis.timing.live_window} s from now")
    return None


def judge(view: LedgerView, block: Block, context: Context) -> Effects | Refusal:
    """What the block does, or why it does nothing: all checks of section 4 after the decoding, in their order."""
    return check_alone(block, context) or judge_checked(view, block, context)


def judge_checked(view: LedgerView, block: Block, context: Context) -> Effects | Refusal:
    """The same for a block that has passed `check_alone`."""
    return judge_identified(view, block, block_hash(context.genesis.network_key, block), context)


def judge_identified(view: LedgerView, block: Block, identity: Hash, context: Context) -> Effects | Refusal:
    """The same where the block's hash is known too."""
    account = view.account(block.account) or new_account(block.account, context.genesis)
    refusal = _place(view, block, identity, account) or check_authority(block, account)
    if refusal is not None:
        return refusal
    try:
        return RULES[block.type](Case(view, context, block, identity, account))
    except Refuse as refuse:
        return refuse.refusal


def _place(view: LedgerView, block: Block, identity: Hash, account: AccountRecord) -> Refusal | None:
    """Whether it follows its account's head. What does can't be applied already, for nothing applied follows a head."""
    if block.previous == account.head:
        return None
    if view.has_block(identity):
        return Refusal(Outcome.OLD, "already applied")
    if block.previous == ZERO_HASH or view.has_block(block.previous):
        return Refusal(Outcome.FORK, "another block stands at this position")
    return Refusal(Outcome.GAP_PREVIOUS, "the block before it is not here yet", block.previous)
