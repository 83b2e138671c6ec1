"""A model network of voters on virtual time: only `Elections` is real; its role, disk and network are a few lines.

Everything follows from one seed. Messages are late, lost, doubled and overtake each other until `Weather.calm_at`;
nodes crash between any two effects and come back with what was on disk: blocks, final votes, confirmed blocks.
Byzantine representatives, whom nobody stops from voting for everything, tell each node what may mislead it most.
Blocks that want one step of a lease are rivals across positions. Now and then a node sends another all its blocks.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, NamedTuple

from xnode.core.codec import encode
from xnode.core.elections import Elections
from xnode.core.heard_votes import HeardVotes
from xnode.core.lease import LeaseState
from xnode.core.steps import Step
from xnode.core.values import NS, ZERO_HASH, Address, Hash
from xnode.core.vote_effects import CastVote, Confirmed, Effect, Expired, WantBlock, WantVotes
from xnode.core.votes import Position, Vote, VoteBundle
from xnode.core.weights import freeze_weights

TICK_NS = NS // 2
EVENTS_MAX = 200_000
SYNC_CHANCE = 0.2  # at each tick
LIES_MAX = 200  # rounds of misleading votes in one run


class Weather(NamedTuple):
    """What befalls messages and nodes before `calm_at` (ns); chances are of 1, the delay bound also holds after it."""

    loss: float = 0.0
    double: float = 0.0
    crash: float = 0.0  # at each effect carried out
    delay_max: int = NS // 5
    calm_at: int = 0
    island: frozenset[int] = frozenset()  # members that are cut off from all others until then


class Member:
    """A node: `disk` fields outlive a crash, `elections` does not."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.blocks: dict[Position, list[Hash]] = {}  # on disk, in order of arrival
        self.finals: dict[Position, Hash] = {}  # on disk
        self.step_finals: dict[Step, Hash] = {}  # on disk
        self.lost: set[Hash] = set()  # on disk: own finals that bind no longer
        self.confirmed: dict[Position, Hash] = {}  # on disk
        self.taken: dict[Step, Hash] = {}  # on disk
        self.elections = Elections(address)
        self.clock_floor = 0  # vote timestamps rise
        self.heard = HeardVotes()
        self.seen: set[tuple[Address, int]] = set()


class Conflict(AssertionError):
    """Two honest nodes, or one at two times, confirmed different blocks at one position."""


class VoteNetwork:
    """`weights[i]` is that of member i (0: it only watches); `byzantine` names members by number."""

    def __init__(self, seed: int, weights: list[int], byzantine: frozenset[int], weather: Weather) -> None:
        self.random = Random(seed)
        self.members = [Member(address_number(number)) for number in range(len(weights))]
        self.byzantine = byzantine
        self.honest = [number for number in range(len(weights)) if number not in byzantine]
        self.weights = freeze_weights({one.address: weight for one, weight in zip(self.members, weights, strict=True)})
        self.weather = weather
        self.now = 0
        self.decided: dict[Position, Hash] = {}
        self.known: dict[Position, set[Hash]] = {}
        self.steps: dict[Hash, Step] = {}
        self.takers: dict[Step, Hash] = {}
        self.restore_finals = True  # a broken rule of the tests turns it off
        self._queue: list[tuple[int, int, str, int, Any]] = []
        self._serial = count()
        self._lies = 0
        self._acting = 0
        self._published_at = -1  # the last block
        self._wires: dict[bytes, VoteBundle] = {}
        for number in self.honest:
            self._at(self.random.randrange(TICK_NS), "tick", number, None)

    def publish(self, position: Position, block_hash: Hash, first: int, at: int = 0, step: Step | None = None) -> None:
        """A block of this position, seen first by member `first` at time `at`, then gossiped to all."""
        self.known.setdefault(position, set()).add(block_hash)
        self._published_at = max(at, self._published_at)
        if step is not None:
            self.steps[block_hash] = step
        self._at(at, "block", first, (position, block_hash))

    def run(self, until: int) -> None:
        """Up to the time `until`, or until all honest members have confirmed all positions."""
        for _ in range(EVENTS_MAX):
            if not self._queue or self._queue[0][0] > until or self.is_decided():
                return
            self.now, _, kind, number, content = heappop(self._queue)
            self._acting = number
            getattr(self, "_on_" + kind)(number, content)
        raise AssertionError("the network never comes to rest")

    def is_live(self) -> bool:
        """Whether the honest members have the weight to confirm anything."""
        return self.weights.is_quorum(sum(self.weights.of(self.members[number].address) for number in self.honest))

    def is_decided(self) -> bool:
        """Whether every honest member has confirmed a block wherever one of them has seen one that can be."""
        if self.now <= self._published_at:
            return False
        members = [self.members[number] for number in self.honest]
        for position in self.known:
            seen = {block_hash for member in members for block_hash in member.blocks.get(position, ())}
            if not all(position in one.confirmed or self._has_lost_all(one, seen) for one in members):
                return False
        return True

    def _has_lost_all(self, member: Member, blocks: set[Hash]) -> bool:
        return all(self._is_lost(member, block_hash) for block_hash in blocks)

    def _is_lost(self, member: Member, block_hash: Hash) -> bool:
        step = self.steps.get(block_hash)
        return step is not None and member.taken.get(step, block_hash) != block_hash

    def _at(self, time: int, kind: str, number: int, content: Any) -> None:
        heappush(self._queue, (time, next(self._serial), kind, number, content))

    def _is_rough(self) -> bool:
        return self.now < self.weather.calm_at

    def _happens(self, chance: float) -> bool:
        return self._is_rough() and self.random.random() < chance

    def _post(self, kind: str, number: int, content: Any) -> None:
        is_cut = self._is_rough() and (number in self.weather.island) != (self._acting in self.weather.island)
        if is_cut or self._happens(self.weather.loss):
            return
        for _ in range(1 + self._happens(self.weather.double)):
            self._at(self.now + 1 + self.random.randrange(self.weather.delay_max), kind, number, content)

    def _others(self, number: int) -> Iterator[int]:
        return (other for other in range(len(self.members)) if other != number)

    def _on_tick(self, number: int, _: None) -> None:
        self._at(self.now + TICK_NS, "tick", number, None)
        if self.random.random() < SYNC_CHANCE:
            other = self.random.choice(list(self._others(number)) or [number])
            for position, blocks in self.members[number].blocks.items():
                for block_hash in blocks:
                    self._post("block", other, (position, block_hash))
        self._carry_out(number, self.members[number].elections.on_tick(self.now))

    def _on_block(self, number: int, content: tuple[Position, Hash]) -> None:
        position, block_hash = content
        held = self.members[number].blocks.setdefault(position, [])
        if block_hash in held:
            if number not in self.byzantine:  # again: as a fork that was forgotten comes back by sync
                self._offer(number, position, block_hash)
            return
        held.append(block_hash)
        for other in self._others(number):
            self._post("block", other, content)
        if number in self.byzantine:
            self._mislead(number, position)
        else:
            self._offer(number, position, block_hash)

    def _offer(self, number: int, position: Position, block_hash: Hash) -> None:
        member = self.members[number]
        if position not in member.confirmed and not self._is_lost(member, block_hash):
            effects = member.elections.on_block(
                position, block_hash, self.weights, self.now, is_votable=True, step=self.steps.get(block_hash)
            )
            self._carry_out(number, effects)

    def _on_votes(self, number: int, bundle: VoteBundle) -> None:
        member = self.members[number]
        key = (bundle.representative, bundle.timestamp)
        if key not in member.seen and self._number(bundle.representative) in self.byzantine - {number}:
            for other in self.honest:  # gossip: what one honest node has, all get; honest voters tell all
                self._post("votes", other, bundle)
        member.seen.add(key)
        member.heard.put(bundle, self._wire(bundle))
        wanted = tuple(vote for vote in bundle.votes if vote.position not in member.confirmed)
        if number in self.byzantine:
            if self._happens(0.2):
                self._mislead(number, bundle.votes[0].position)
        elif wanted:
            effects = member.elections.on_votes(bundle._replace(votes=wanted), self.weights, self.now)
            self._carry_out(number, effects)

    def _on_ask_votes(self, number: int, content: tuple[Position, int]) -> None:
        position, asker = content
        if number in self.byzantine:
            self._mislead(number, position, asker)
            return
        member = self.members[number]
        for wire in member.heard.at([position], member.elections.has_moved):
            self._post("votes", asker, self._wires[wire])
        vote = member.elections.answer(position)
        if vote is None and position in member.finals:
            vote = CastVote(position, member.finals[position], is_final=True)
        if vote is not None:
            self._post("votes", asker, self._bundle(number, vote))

    def _on_ask_block(self, number: int, content: tuple[Position, Hash, int]) -> None:
        position, block_hash, asker = content
        if block_hash in self.members[number].blocks.get(position, ()):
            self._post("block", asker, (position, block_hash))

    def _wire(self, bundle: VoteBundle) -> bytes:
        wire = encode(tuple(bundle))
        self._wires[wire] = bundle
        return wire

    def _number(self, address: Address) -> int:
        return int.from_bytes(address, "big")

    def _bundle(self, number: int, vote: CastVote) -> VoteBundle:
        member = self.members[number]
        member.clock_floor = max(self.now, member.clock_floor + 1)
        return VoteBundle(member.address, member.clock_floor, (Vote(*vote[:3]),))

    def _carry_out(self, number: int, effects: tuple[Effect, ...]) -> None:
        member = self.members[number]
        for effect in effects:
            if self._happens(self.weather.crash):
                self._restart(number)
                return
            if isinstance(effect, CastVote):
                self._cast(number, effect)
            elif isinstance(effect, Confirmed):
                self._confirm(effect.position, effect.block_hash, member)
            elif isinstance(effect, WantVotes):
                for other in self._others(number):
                    self._post("ask_votes", other, (effect.position, number))
            elif isinstance(effect, WantBlock):
                for other in self._others(number):
                    self._post("ask_block", other, (effect.position, effect.block_hash, number))
            elif isinstance(effect, Expired):
                self._reoffer(number, effect.position)

    def _cast(self, number: int, vote: CastVote) -> None:
        if vote.is_final:
            self._write_final(self.members[number], vote)
            if self._happens(self.weather.crash):  # written, not sent
                self._restart(number)
                return
        bundle = self._bundle(number, vote)
        for other in self._others(number):
            self._post("votes", other, bundle)

    def _write_final(self, member: Member, vote: CastVote) -> None:
        member.finals[vote.position] = vote.block_hash
        assert vote.step == self.steps.get(vote.block_hash) or vote.step is None
        if vote.step and member.step_finals.setdefault(vote.step, vote.block_hash) != vote.block_hash:
            raise Conflict("two final votes of one member for one step")

    def _confirm(self, position: Position, block_hash: Hash, member: Member) -> None:
        earlier = (member.confirmed.get(position, block_hash), self.decided.setdefault(position, block_hash))
        if earlier != (block_hash, block_hash):
            raise Conflict(f"at {self.now / NS:.3f} s")
        member.confirmed[position] = block_hash
        step = self.steps.get(block_hash)
        if step is not None:
            taken = (member.taken.setdefault(step, block_hash), self.takers.setdefault(step, block_hash))
            if taken != (block_hash, block_hash):
                raise Conflict(f"one step taken twice, at {self.now / NS:.3f} s")
        own = (member.finals.get(position), member.step_finals.get(step) if step is not None else None)
        for lost in dict.fromkeys(one for one in own if one not in (None, block_hash)):
            member.lost.add(lost)
            member.finals = {key: value for key, value in member.finals.items() if value != lost or key == position}
            member.step_finals = {key: value for key, value in member.step_finals.items() if value != lost}

    def _restart(self, number: int) -> None:
        member = self.members[number]
        member.elections = Elections(member.address)
        member.heard = HeardVotes()
        if self.restore_finals:
            for position, block_hash in member.finals.items():
                if position not in member.confirmed:
                    member.elections.restore_final(position, block_hash)
            for step, block_hash in member.step_finals.items():
                if step not in member.taken:
                    member.elections.restore_step(step, block_hash)
            for block_hash in member.lost:
                member.elections.restore_lost(block_hash)
        self._at(self.now + 1 + self.random.randrange(NS), "return", number, None)

    def _on_return(self, number: int, _: None) -> None:
        for position in tuple(self.members[number].blocks):
            self._reoffer(number, position)

    def _reoffer(self, number: int, position: Position) -> None:
        for block_hash in tuple(self.members[number].blocks[position]):
            self._offer(number, position, block_hash)

    def _mislead(self, number: int, position: Position, only: int | None = None) -> None:
        """Votes of a Byzantine representative: for each node what it seems to prefer, or at random, final or not."""
        if not self._is_rough() or self._lies > LIES_MAX:
            return
        self._lies += 1
        for other in self.honest if only is None else [only]:
            seen = self.members[other].blocks.get(position) or sorted(self.known[position])
            choice = seen[0] if self.random.random() < 0.7 else self.random.choice(sorted(self.known[position]))
            vote = CastVote(position, choice, is_final=self.random.random() < 0.7)
            self._post("votes", other, self._bundle(number, vote))


def rough_network(seed: int) -> VoteNetwork:
    """A random network in bad weather: up to 7 nodes, less than 34 % of weight Byzantine, 1 to 3 blocks a position."""
    random = Random(seed)
    weights = [random.randint(0, 100) for _ in range(random.randint(1, 7))]
    weights[0] = weights[0] or 1
    weather = Weather(
        loss=random.choice([0, 0.1, 0.4]),
        double=random.choice([0, 0.3]),
        crash=random.choice([0, 0.03, 0.1]),
        delay_max=random.choice([NS // 10, NS, 5 * NS]),
        calm_at=15 * NS,
    )
    network = VoteNetwork(seed, weights, _traitors(random, weights), weather)
    for number in range(2):
        publish_forks(network, position_number(number), random.choice([1, 2, 2, 3]))
    return network


def lease_network(seed: int) -> VoteNetwork:
    """As `rough_network`, with leases that are accepted and cancelled at once, some by accounts that fork besides, and
    now and then with members that are cut off."""
    random = Random(seed)
    network = rough_network(seed)
    members = len(network.members)
    if random.random() < 0.5:
        island = frozenset(random.sample(range(members), random.randint(0, members)))
        network.weather = network.weather._replace(island=island)
    for number in range(random.choice([1, 2])):
        publish_rivals(network, random, number)
    return network


def publish_rivals(network: VoteNetwork, random: Random, number: int) -> None:
    """One lease: its provider accepts it, its consumer cancels it, each seen first by half of the members; one of them
    may have signed something else for that position too."""
    step = Step(hash_number(number), LeaseState.CREATED)
    for side in range(2):
        position = position_number(100 + 2 * number + side)
        for first in range(side, len(network.members), 2) or [0]:
            network.publish(position, fork_number(position, 0), first, random.randrange(2 * NS), step)
            if random.random() < 0.1:
                network.publish(position, fork_number(position, 1), first, random.randrange(2 * NS))


def dark_network(seed: int) -> VoteNetwork:
    """The barest majority: 33, 34 and a Byzantine 33 of 100, so that one honest final vote too many breaks safety."""
    weather = Weather(loss=0.2, crash=0.2, delay_max=NS, calm_at=60 * NS)
    network = VoteNetwork(seed, [33, 34, 33], frozenset({2}), weather)
    for number in range(3):
        publish_forks(network, position_number(number), 2)
    return network


def dark_lease_network(seed: int) -> VoteNetwork:
    """The same majority, and leases that one honest member sees accepted first and the other cancelled."""
    network = dark_network(seed)
    for number in range(3):
        publish_rivals(network, Random(seed), number)
    return network


def _traitors(random: Random, weights: list[int]) -> frozenset[int]:
    traitors: set[int] = set()
    for number in random.sample(range(len(weights)), len(weights)):
        if 100 * sum(weights[one] for one in {*traitors, number}) < 34 * sum(weights):
            traitors.add(number)
    return frozenset(traitors)


def publish_forks(network: VoteNetwork, position: Position, forks: int) -> None:
    """So many blocks at one position, each seen first by its share of the members."""
    for number in range(len(network.members)):
        network.publish(position, fork_number(position, number % forks), number)


def address_number(number: int) -> Address:
    """An address that nobody signs with: elections see votes whose signature was checked."""
    return Address(number.to_bytes(32, "big"))


def position_number(number: int) -> Position:
    """The first place in some chain."""
    return Position(address_number(1_000 + number), ZERO_HASH)


def fork_number(position: Position, number: int) -> Hash:
    """One of several blocks for a position; no two positions share one."""
    return hash_number(100 * int.from_bytes(position.account, "big") + number + 1)


def hash_number(number: int) -> Hash:
    """A block that only has a hash."""
    return Hash(number.to_bytes(32, "big"))
