"""A model network of voters on virtual time: only `Elections` is real; its role, disk and network are a few lines.

Everything follows from one seed. Messages are late, lost, doubled and overtake each other until `Weather.calm_at`;
nodes crash between any two effects and come back with what was on disk: blocks, final votes, confirmed blocks.
Byzantine representatives, whom nobody stops from voting for everything, tell each node what may mislead it most.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, NamedTuple

from xnode.core.codec import encode
from xnode.core.elections import Elections
from xnode.core.heard_votes import HeardVotes
from xnode.core.values import NS, ZERO_HASH, Address, Hash
from xnode.core.vote_effects import CastVote, Confirmed, Effect, Expired, WantBlock, WantVotes
from xnode.core.votes import Position, Vote, VoteBundle
from xnode.core.weights import freeze_weights

TICK_NS = NS // 2
EVENTS_MAX = 200_000
LIES_MAX = 200  # rounds of misleading votes in one run


class Weather(NamedTuple):
    """What befalls messages and nodes before `calm_at` (ns); chances are of 1, the delay bound also holds after it."""

    loss: float = 0.0
    double: float = 0.0
    crash: float = 0.0  # at each effect carried out
    delay_max: int = NS // 5
    calm_at: int = 0


class Member:
    """A node: `disk` fields outlive a crash, `elections` does not."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.blocks: dict[Position, list[Hash]] = {}  # on disk, in order of arrival
        self.finals: dict[Position, Hash] = {}  # on disk
        self.confirmed: dict[Position, Hash] = {}  # on disk
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
        self.restore_finals = True  # a broken rule of the tests turns it off
        self._queue: list[tuple[int, int, str, int, Any]] = []
        self._serial = count()
        self._lies = 0
        self._wires: dict[bytes, VoteBundle] = {}
        for number in self.honest:
            self._at(self.random.randrange(TICK_NS), "tick", number, None)

    def publish(self, position: Position, block_hash: Hash, first: int, at: int = 0) -> None:
        """A block of this position, seen first by member `first` at time `at`, then gossiped to all."""
        self.known.setdefault(position, set()).add(block_hash)
        self._at(at, "block", first, (position, block_hash))

    def run(self, until: int) -> None:
        """Up to the time `until`, or until all honest members have confirmed all positions."""
        for _ in range(EVENTS_MAX):
            if not self._queue or self._queue[0][0] > until or self.is_decided():
                return
            self.now, _, kind, number, content = heappop(self._queue)
            getattr(self, "_on_" + kind)(number, content)
        raise AssertionError("the network never comes to rest")

    def is_live(self) -> bool:
        """Whether the honest members have the weight to confirm anything."""
        return self.weights.is_quorum(sum(self.weights.of(self.members[number].address) for number in self.honest))

    def is_decided(self) -> bool:
        """Whether every honest member has confirmed a block at every position."""
        return all(len(self.members[number].confirmed) == len(self.known) for number in self.honest)

    def _at(self, time: int, kind: str, number: int, content: Any) -> None:
        heappush(self._queue, (time, next(self._serial), kind, number, content))

    def _is_rough(self) -> bool:
        return self.now < self.weather.calm_at

    def _happens(self, chance: float) -> bool:
        return self._is_rough() and self.random.random() < chance

    def _post(self, kind: str, number: int, content: Any) -> None:
        if self._happens(self.weather.loss):
            return
        for _ in range(1 + self._happens(self.weather.double)):
            self._at(self.now + 1 + self.random.randrange(self.weather.delay_max), kind, number, content)

    def _others(self, number: int) -> Iterator[int]:
        return (other for other in range(len(self.members)) if other != number)

    def _on_tick(self, number: int, _: None) -> None:
        self._at(self.now + TICK_NS, "tick", number, None)
        self._carry_out(number, self.members[number].elections.on_tick(self.now))

    def _on_block(self, number: int, content: tuple[Position, Hash]) -> None:
        position, block_hash = content
        held = self.members[number].blocks.setdefault(position, [])
        if block_hash in held:
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
        if position not in member.confirmed:
            effects = member.elections.on_block(position, block_hash, self.weights, self.now, is_votable=True)
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
        for wire in member.heard.at([position]):
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
        return VoteBundle(member.address, member.clock_floor, (Vote(*vote),))

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
            self.members[number].finals[vote.position] = vote.block_hash
            if self._happens(self.weather.crash):  # written, not sent
                self._restart(number)
                return
        bundle = self._bundle(number, vote)
        for other in self._others(number):
            self._post("votes", other, bundle)

    def _confirm(self, position: Position, block_hash: Hash, member: Member) -> None:
        earlier = (member.confirmed.get(position, block_hash), self.decided.setdefault(position, block_hash))
        if earlier != (block_hash, block_hash):
            raise Conflict(f"at {self.now / NS:.3f} s")
        member.confirmed[position] = block_hash

    def _restart(self, number: int) -> None:
        member = self.members[number]
        member.elections = Elections(member.address)
        member.heard = HeardVotes()
        if self.restore_finals:
            for position, block_hash in member.finals.items():
                if position not in member.confirmed:
                    member.elections.restore_final(position, block_hash)
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


def dark_network(seed: int) -> VoteNetwork:
    """The barest majority: 33, 34 and a Byzantine 33 of 100, so that one honest final vote too many breaks safety."""
    weather = Weather(loss=0.2, crash=0.2, delay_max=NS, calm_at=60 * NS)
    network = VoteNetwork(seed, [33, 34, 33], frozenset({2}), weather)
    for number in range(3):
        publish_forks(network, position_number(number), 2)
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
        network.publish(position, hash_number(1 + number % forks), number)


def address_number(number: int) -> Address:
    """An address that nobody signs with: elections see votes whose signature was checked."""
    return Address(number.to_bytes(32, "big"))


def position_number(number: int) -> Position:
    """The first place in some chain."""
    return Position(address_number(1_000 + number), ZERO_HASH)


def hash_number(number: int) -> Hash:
    """A block that only has a hash."""
    return Hash(number.to_bytes(32, "big"))
