"""A small network on paper: its genesis, its people's keys, signed blocks of every type, and a ledger kept in dicts.

Everything is deterministic: keys come from names, times are given or NOW, nothing reads a clock or a random source.
"""

import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from xnode.core import price
from xnode.core.attestations import Attestation, Timekeepers, attestation_message
from xnode.core.blocks import (
    BODIES,
    Block,
    BlockType,
    Body,
    Claim,
    Lease,
    LeaseAccept,
    LeaseCancel,
    LeaseForceSettle,
    LeaseSettle,
    Receive,
    Send,
    block_hash,
)
from xnode.core.charter import Charter, genesis_charters
from xnode.core.genesis import DEFAULT_RATES, DEFAULT_TIMING, Allocation, Faucet, Genesis, check_genesis
from xnode.core.keys import SigningKey
from xnode.core.keyset import Keyset
from xnode.core.lease import LeaseRecord, Resources
from xnode.core.ledger import (
    AccountRecord,
    Bucket,
    Context,
    Effects,
    LedgerView,
    Pending,
    Refusal,
    new_account,
    supply_balances,
)
from xnode.core.rules import judge
from xnode.core.values import NS, U64_MAX, ZERO_HASH, Address, Asset, Hash, PublicKey
from xnode.core.work import is_valid_work

if TYPE_CHECKING:
    from tests.support.group import Group

NOW = 1_800_000_000 * NS  # the tests' present, ns
TIMEKEEPER_NAMES = ("timekeeper-1", "timekeeper-2", "timekeeper-3")
SMALL = Resources(vcpus=4, memory_mb=8192, disk_gb=100)  # costs 1 XUSD an hour, 7 a day
DAY = 86_400
RICH = 1_000_000
KINDS = {body: kind for kind, body in BODIES.items()}


@cache
def key_of(name: str) -> SigningKey:
    """The key of somebody; the same name always has the same key."""
    return SigningKey(hashlib.sha256(name.encode()).digest())


def address_of(name: str) -> Address:
    """The account address of somebody."""
    return Address(key_of(name).public_key)


def make_genesis(**changes: Any) -> Genesis:
    """Alice and Bob are rich in XUSD, any nonce is work, the faucet gives 100 a day, two of three timekeepers agree."""
    genesis = Genesis(
        network_id="test",
        created_at=NOW - 1000 * NS,
        allocations=(
            Allocation(address_of("alice"), Asset.XUSD, RICH),
            Allocation(address_of("bob"), Asset.XUSD, RICH),
        ),
        representative=address_of("representative"),
        faucet=Faucet(enabled=True, amount=100, interval=DAY),
        work_difficulty=0,
        rates=DEFAULT_RATES,
        timing=DEFAULT_TIMING,
        dao=Keyset((key_of("dao").public_key,), 1),
        timekeepers=Timekeepers(tuple(key_of(name).public_key for name in TIMEKEEPER_NAMES), 2),
    )
    return check_genesis(genesis._replace(**changes))


def attest(lease_hash: Hash, *times: int, names: tuple[str, ...] = TIMEKEEPER_NAMES) -> tuple[Attestation, ...]:
    """One attestation for each time (ns), by the timekeepers in turn."""
    return tuple(
        Attestation(key_of(name).public_key, time, key_of(name).sign(attestation_message(lease_hash, time)))
        for name, time in zip(names, times, strict=False)
    )


def find_work(root: bytes, difficulty: int) -> int:
    """The lowest nonce that is work; for low difficulties."""
    nonce = 0
    while not is_valid_work(root, nonce, difficulty):
        nonce += 1
    return nonce


class Chain(NamedTuple):
    """Somebody who signs the next block of its own chain, as a given view of the ledger has it.

    Every method makes a good block where the view allows one. `changes` replace fields of the block before it is signed
    (`timestamp=`, `balance=`, `previous=`, `representative=`, `body=`, ...), which is how a bad one is made.
    """

    genesis: Genesis
    name: str

    @property
    def address(self) -> Address:
        """Its account."""
        return address_of(self.name)

    def hash_of(self, block: Block) -> Hash:
        """The block's hash on this network."""
        return block_hash(self.genesis.network_key, block)

    def record(self, view: LedgerView) -> AccountRecord:
        """Its account's state before its next block."""
        return view.account(self.address) or new_account(self.address, self.genesis)

    def next(self, view: LedgerView, body: Body, asset: Asset, delta: int, **changes: Any) -> Block:
        """The next block: `delta` is what it adds to the balance of `asset`."""
        record = self.record(view)
        kind = KINDS[type(body)]
        balance = min(U64_MAX, max(0, record.balance(asset) + delta))
        block = Block(kind, self.address, record.head, asset, balance, None, NOW, body)
        return self.sign(block._replace(**changes))

    def sign(self, block: Block) -> Block:
        """The same block with good work and a good signature by this account's key."""
        signature = key_of(self.name).sign(self.hash_of(block))
        return block._replace(signature=signature, work=find_work(block.work_root, self.genesis.work_difficulty))

    def send(
        self, view: LedgerView, destination: Address, amount: int, asset: Asset = Asset.XUSD, **changes: Any
    ) -> Block:
        """Sends `amount`."""
        return self.next(view, Send(destination, amount), asset, -amount, **changes)

    def receive(self, view: LedgerView, source: Hash, **changes: Any) -> Block:
        """Receives what the block `source` sent; of an unknown one it pretends 1 XUSD."""
        entry = view.pending(self.address, source)
        asset, amount = (entry.asset, entry.amount) if entry else (Asset.XUSD, 1)
        return self.next(view, Receive(source), asset, amount, **changes)

    def claim(self, view: LedgerView, **changes: Any) -> Block:
        """Asks the faucet."""
        return self.next(view, Claim(), Asset.XUSD, self.genesis.faucet.amount, **changes)

    def lease(
        self,
        view: LedgerView,
        provider: Address,
        resources: Resources = SMALL,
        duration: int = DAY,
        multiplier_milli: int = price.MULTIPLIER_DEFAULT,
        rates: price.Rates | None = None,
        **changes: Any,
    ) -> Block:
        """Leases from `provider`, at the genesis' rates or others; the access key is that of "<name>-access"."""
        amount = price.cost(resources, duration, rates or self.genesis.rates, multiplier_milli)
        access = key_of(f"{self.name}-access").public_key
        body = Lease(provider, amount, *resources, duration, access, ZERO_HASH, multiplier_milli)
        return self.next(view, body, Asset.XUSD, -amount, **changes)

    def accept(self, view: LedgerView, lease_hash: Hash, time: int = NOW, **changes: Any) -> Block:
        """Accepts the lease, attested at `time` (ns)."""
        stake = _lease(view, lease_hash).stake
        attestations = attest(lease_hash, time, time)
        body = LeaseAccept(lease_hash, stake, ZERO_HASH, key_of("host-key").public_key, attestations)
        return self.next(view, body, Asset.XUSD, -stake, **changes)

    def settle(self, view: LedgerView, lease_hash: Hash, time: int | None = None, **changes: Any) -> Block:
        """Settles the lease, attested and dated at `time` (ns; else at its expiry)."""
        lease = _lease(view, lease_hash)
        at = lease.expiry if time is None else time
        reward = price.reward(lease.cost)
        body = LeaseSettle(lease_hash, reward, attest(lease_hash, at, at))
        return self.next(view, body, Asset.XE, reward, **{"timestamp": at} | changes)

    def cancel(self, view: LedgerView, lease_hash: Hash, **changes: Any) -> Block:
        """Cancels the lease."""
        return self.next(view, LeaseCancel(lease_hash), Asset.XUSD, _lease(view, lease_hash).cost, **changes)

    def force_settle(self, view: LedgerView, lease_hash: Hash, time: int | None = None, **changes: Any) -> Block:
        """Force-settles the lease, attested and dated at `time` (ns; else as early as the rules allow)."""
        lease, timing = _lease(view, lease_hash), self.genesis.timing
        first = lease.expiry + (timing.settle_grace + timing.force_settle_gap) * NS
        at = first if time is None else time
        body = LeaseForceSettle(lease_hash, attest(lease_hash, at, at))
        return self.next(view, body, Asset.XUSD, lease.cost, **{"timestamp": at} | changes)


def _lease(view: LedgerView, lease_hash: Hash) -> LeaseRecord:
    lease = view.lease(lease_hash)
    assert lease is not None, "the test's own lease is not in this view"
    return lease


class MemoryLedger(LedgerView):
    """The naive ledger: dicts, and totals counted anew from what is in them."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        opened = {item.account for item in genesis.allocations}
        self.accounts = {address: new_account(address, genesis) for address in opened}
        self.blocks: dict[Hash, Block] = {}  # in order of arrival
        self.pendings: dict[tuple[Address, Hash], Pending] = {}
        self.leases: dict[Hash, LeaseRecord] = {}
        self.charters = genesis_charters(genesis)
        self.issued: dict[tuple[Asset, Bucket], int] = {}
        for item in genesis.allocations:
            self._add(item.asset, Bucket.GENESIS, item.amount)

    def account(self, address: Address) -> AccountRecord | None:
        return self.accounts.get(address)

    def has_block(self, block_hash: Hash) -> bool:
        return block_hash in self.blocks

    def pending(self, destination: Address, source: Hash) -> Pending | None:
        return self.pendings.get((destination, source))

    def lease(self, lease_hash: Hash) -> LeaseRecord | None:
        return self.leases.get(lease_hash)

    def charter_at(self, time: int) -> Charter:
        return self.charters.at(time)

    def chain(self, name: str) -> Chain:
        """Somebody's chain on this network, or that of a group ("2:ann,ben,cay")."""
        return self.group(name) if ":" in name else Chain(self.genesis, name)

    def group(self, name: str) -> "Group":
        """The chain of people who hold an account together."""
        from tests.support.group import Group  # it is made of what stands above

        return Group(self.genesis, name)

    def judge(self, block: Block, now: int | None = NOW) -> Effects | Refusal:
        """What the rules say of this block; `now` None as for a synced one."""
        return judge(self, block, Context(self.genesis, now))

    def play(self, block: Block, now: int | None = None) -> Hash:
        """Applies a block that must be good, and returns its hash."""
        effects = self.judge(block, now)
        assert isinstance(effects, Effects), effects
        self.apply(effects)
        return effects.block_hash

    def apply(self, effects: Effects) -> None:
        """Lands the effects."""
        self.blocks[effects.block_hash] = effects.block
        self.accounts[effects.account.address] = effects.account
        if effects.pending_put is not None:
            self.pendings[(effects.pending_put.destination, effects.pending_put.source)] = effects.pending_put
        if effects.pending_delete is not None:
            del self.pendings[(effects.pending_delete.destination, effects.pending_delete.source)]
        if effects.lease is not None:
            self.leases[effects.lease.lease_hash] = effects.lease
        for move in effects.moves:
            if move.bucket in (Bucket.BURNT, Bucket.FORFEITED, Bucket.CLAIMED, Bucket.MINTED):
                self._add(move.asset, move.bucket, move.delta)

    def _add(self, asset: Asset, bucket: Bucket, amount: int) -> None:
        self.issued[(asset, bucket)] = self.issued.get((asset, bucket), 0) + amount

    def totals(self) -> dict[tuple[Asset, Bucket], int]:
        """All buckets that are not empty; what can be counted is counted."""
        totals = dict(self.issued)
        for asset in Asset:
            totals[(asset, Bucket.BALANCES)] = sum(item.balance(asset) for item in self.accounts.values())
            totals[(asset, Bucket.PENDING)] = sum(item.amount for item in self.pendings.values() if item.asset is asset)
        live = [item for item in self.leases.values() if not item.is_final]
        totals[(Asset.XUSD, Bucket.ESCROW)] = sum(item.cost for item in live)
        totals[(Asset.XUSD, Bucket.STAKE)] = sum(item.stake for item in live if item.accept_hash != ZERO_HASH)
        return {key: amount for key, amount in totals.items() if amount}

    def is_sound(self) -> bool:
        """The supply identity."""
        return supply_balances(self.totals())


def public_key_of(name: str) -> PublicKey:
    """Somebody's public key."""
    return key_of(name).public_key


def play_all_types(ledger: MemoryLedger) -> dict[BlockType, Hash]:
    """Plays a short story that has every block type; returns the last block of each."""
    alice, bob, carol = ledger.chain("alice"), ledger.chain("bob"), ledger.chain("carol")
    done: dict[BlockType, Hash] = {}
    done[BlockType.SEND] = ledger.play(alice.send(ledger, carol.address, 50))
    done[BlockType.RECEIVE] = ledger.play(carol.receive(ledger, done[BlockType.SEND]))
    done[BlockType.CLAIM] = ledger.play(carol.claim(ledger, representative=address_of("alice")))
    cancelled = ledger.play(alice.lease(ledger, bob.address))
    done[BlockType.LEASE_CANCEL] = ledger.play(alice.cancel(ledger, cancelled))
    settled = ledger.play(alice.lease(ledger, bob.address, timestamp=NOW + 1))
    ledger.play(bob.accept(ledger, settled))
    done[BlockType.LEASE_SETTLE] = ledger.play(bob.settle(ledger, settled))
    done[BlockType.LEASE] = ledger.play(carol.lease(ledger, bob.address, timestamp=NOW + 2))
    done[BlockType.LEASE_ACCEPT] = ledger.play(bob.accept(ledger, done[BlockType.LEASE]))
    done[BlockType.LEASE_FORCE_SETTLE] = ledger.play(carol.force_settle(ledger, done[BlockType.LEASE]))
    ledger.play(bob.send(ledger, alice.address, 3, Asset.XE))
    trio = ledger.group("2:ann,ben,cay")
    done[BlockType.MULTISIG_OPEN] = ledger.play(trio.open(ledger))
    ledger.play(trio.claim(ledger))
    done[BlockType.MULTISIG_UPDATE] = ledger.play(trio.update(ledger, "1:dan,eve"))
    ledger.play(trio.send(ledger, address_of("dave"), 4))
    return done
