"""What shall happen in one run, drawn from its seed alone: who takes part, who is evil, and what befalls whom and when.

Faults stay within what the protocol promises to bear: representatives that lie weigh less than a third, at most one
timekeeper of three lies or has a wrong clock, and from `calm_at` on everything is mended and honest.
"""

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from tests.sim.fake_leveldb import Strike
from tests.sim.member import Role
from tests.sim.storm import Weather
from tests.support.ledger import TIMEKEEPER_NAMES, address_of, make_genesis
from xnode.core.genesis import Allocation, Genesis, Timing
from xnode.core.lease import Resources
from xnode.core.power import Verb
from xnode.core.values import Asset

SEND_TWICE, LEASE_TWICE, SEND_AND_LEASE = "sends twice", "leases twice", "sends against its lease"
VOTES_TWICE: Final = "votes twice"
LIES_ABOUT_TIME: Final = "lies about the time"
NEVER_SETTLES: Final = "never settles"
SETTLES_EARLY: Final = "settles early, without attestations"
CANCELS_LATE: Final = "cancels while it is accepted"
FORCE_SETTLES: Final = "force-settles as soon as it may"
SETTLES_LATE: Final = "shows its settlement when it is too late"
DOUBLE_SPENDS: Final = (SEND_TWICE, LEASE_TWICE, SEND_AND_LEASE)
ABUSES: Final = (*DOUBLE_SPENDS, CANCELS_LATE, CANCELS_LATE, FORCE_SETTLES)
SPENDS_TWICE: Final = "spends twice"

WEIGHT: Final = 100_000  # XUSD in all
EVIL_WEIGHT_MAX: Final = 30  # percent
LEAST: Final = 500  # XUSD of a member
FIRST_DEED: Final = 6.0  # seconds: by then all know each other
LATE_CHANCE: Final = 0.2  # that somebody joins late
CHANGE_CHANCE: Final = 0.15  # that the DAO changes the rates
BURST_CHANCE: Final = 0.15  # that somebody sends much at once
BURSTS: Final = (10, 20, 40)  # blocks; an account has sixteen elections at once
ACTS: Final = (  # at a machine, one after the other
    (),
    (),
    (Verb.STOP, Verb.START),
    (Verb.STOP,),
    (Verb.PAUSE, Verb.RESUME),
    (Verb.REBOOT, Verb.RESET),
)
HISTORY_CHANCE: Final = 0.015  # that it then has much to fetch
HISTORY: Final = 1_050  # blocks: enough for a ledger to be called old
ROOMY: Final = Resources(8, 16_384, 200)
SKEW: Final = 10
LARGE_STEPS: Final = (-3600, -600, 600, 3600)  # seconds by which a clock is set wrong
TIMING: Final = Timing(10, 3600, settle_grace=40, force_settle_gap=22, attestation_skew=SKEW, live_window=600)
SHORT_WINDOW: Final = 60  # s, of live blocks where rates change
HEARD_WITHIN: Final = 100.0  # s, that the DAO leaves for all to hear of a change before it can matter to anybody


class Deed(NamedTuple):
    """Something that is done to or by somebody at a time (s)."""

    at: float
    kind: str
    who: str
    details: tuple[object, ...] = ()


class ClockFault(NamedTuple):
    """How wrong a clock is from the start."""

    offset: float
    drift_ppm: int


class Plan(NamedTuple):
    """All of it; `weights` in XUSD by name."""

    seed: int
    genesis: Genesis
    roles: tuple[Role, ...]
    clocks: dict[str, ClockFault]
    weights: dict[str, int]
    deeds: tuple[Deed, ...]
    calm_at: float
    history: int = 0  # blocks of strangers that are there before the start


def make_plan(seed: int) -> Plan:
    """The same seed makes the same plan."""
    random = Random(f"plan {seed}")
    civic = Random(f"civic {seed}")
    roles, history = _joining(civic, _cast(random))
    weights = _weights(random, roles)
    calm_at = random.uniform(60, 130)
    changes = _changes(civic)
    deeds = [*_deeds(random, roles, calm_at), *_civic(civic, roles, calm_at), *changes]
    deeds += _busy(Random(f"busy {seed}"), roles, calm_at, deeds)
    deeds.sort(key=lambda deed: deed.at)
    clocks = {role.name: _clock(random, role) for role in roles}
    allocations = tuple(Allocation(address_of(name), Asset.XUSD, amount) for name, amount in weights.items())
    timing = TIMING._replace(live_window=SHORT_WINDOW) if changes else TIMING
    genesis = make_genesis(allocations=allocations, timing=timing, network_id="sim")
    return Plan(seed, genesis, roles, clocks, weights, tuple(deeds), calm_at, history)


def _cast(random: Random) -> tuple[Role, ...]:
    roles = [Role(name, is_timekeeper=True) for name in TIMEKEEPER_NAMES]
    roles += [Role("bob", capacity=ROOMY), Role("alice")]
    if random.random() < 0.5:
        roles.append(Role("bert", capacity=ROOMY, multiplier_milli=random.choice([500, 1000, 2000])))
    if random.random() < 0.6:
        roles.append(Role("mallory", evils=frozenset({SPENDS_TWICE})))
    by_name = {role.name: role for role in roles}
    host = "bert" if "bert" in by_name else "bob"
    for evil, name, chance in (
        (LIES_ABOUT_TIME, TIMEKEEPER_NAMES[2], 0.3),
        (NEVER_SETTLES, host, 0.25),
        (SETTLES_EARLY, host, 0.25),
        (VOTES_TWICE, random.choice([host, TIMEKEEPER_NAMES[2], "mallory", "mallory"]), 0.6),
    ):
        if random.random() < chance and name in by_name:
            by_name[name] = by_name[name]._replace(evils=by_name[name].evils | {evil})
    return tuple(by_name.values())


def _joining(random: Random, roles: tuple[Role, ...]) -> tuple[tuple[Role, ...], int]:
    """Sometimes somebody honest comes late and with nothing; now and then there is much to fetch."""
    draw = random.random()
    honest = [role for role in roles if not role.evils]
    if draw > LATE_CHANCE:
        return roles, 0
    late = random.choice(honest)
    joined = late._replace(joins_at=random.uniform(2, 40))
    history = HISTORY if draw < HISTORY_CHANCE else 0
    return tuple(joined if role is late else role for role in roles), history


def _weights(random: Random, roles: Sequence[Role]) -> dict[str, int]:
    evil = [role.name for role in roles if role.evils]
    honest = [role.name for role in roles if not role.evils]
    evil_part = WEIGHT * random.choice([5, 20, EVIL_WEIGHT_MAX, EVIL_WEIGHT_MAX]) // 100 if evil else 0
    voters = [role.name for role in roles if VOTES_TWICE in role.evils] or evil
    weights = _shares(random, honest, WEIGHT - evil_part) | dict.fromkeys(evil, LEAST)
    return weights | _shares(random, voters, evil_part)


def _shares(random: Random, names: Sequence[str], total: int) -> dict[str, int]:
    parts = [random.choice([1, 1, 5, 10, 10]) for _ in names]
    return {name: max(LEAST, total * part // sum(parts)) for name, part in zip(names, parts, strict=True)}


def _clock(random: Random, role: Role) -> ClockFault:
    far = 0.5 if role.is_timekeeper else 3.0
    return ClockFault(random.uniform(-far, far), random.randint(-200, 200))


def _deeds(random: Random, roles: Sequence[Role], calm_at: float) -> list[Deed]:
    def times(count: int, last: float = calm_at) -> list[float]:
        return [random.uniform(FIRST_DEED, last) for _ in range(count)]

    def anyone() -> str:
        return random.choice(roles).name

    names = [role.name for role in roles]
    deeds = [_lease_wanted(random, at) for at in times(random.randint(2, 3), calm_at / 2)]
    deeds += [Deed(at, "send", anyone(), (anyone(), random.randint(1, 20))) for at in times(random.randint(2, 5))]
    deeds += [Deed(at, "weather", "", (_weather(random),)) for at in times(random.randint(0, 3))]
    for at in times(random.randint(0, 3)):
        deeds += _partition(random, roles, at)
    deeds += [Deed(at, "crash", anyone(), _crash(random)) for at in times(random.randint(0, 4))]
    deeds += [Deed(at, "disk", anyone(), _disk_fault(random)) for at in times(random.choice([0, 0, 1, 2]))]
    deeds += [
        Deed(at, "clock step", _not_timekeeper(random, roles), (random.choice([-90, -20, -3, 3, 20, 90]),))
        for at in times(random.choice([0, 0, 1, 2]))
    ]
    deeds += [
        Deed(at, "boots fail", _host(random, roles), (random.randint(1, 4),)) for at in times(random.choice([0, 0, 1]))
    ]
    deeds += [Deed(at, "boots are slow", _host(random, roles), (random.uniform(5, 40),)) for at in times(1)]
    if "mallory" in names:
        deeds += [Deed(at, "abuse", "mallory", (random.choice(ABUSES),)) for at in times(3, calm_at / 2)]
    return deeds


def _civic(random: Random, roles: Sequence[Role], calm_at: float) -> list[Deed]:
    """What a DAO, people with a joint account and operators do."""
    names = [role.name for role in roles]

    def times(*counts: int) -> list[float]:
        return [random.uniform(FIRST_DEED, calm_at) for _ in range(random.choice(counts))]

    deeds = [Deed(at, "state block", "", ("a word", random.uniform(0, 40))) for at in times(0, 0, 1)]
    deeds += [Deed(at, "joint block", random.choice(names), _joint(random, names)) for at in times(0, 1, 3)]
    deeds += [
        Deed(at, "clock step", _not_timekeeper(random, roles), (random.choice(LARGE_STEPS),))
        for at in times(0, 0, 0, 1)
    ]
    deeds += [Deed(at, "gift", random.choice(names)) for at in times(0, 1)]
    for at in times(0, 0, 1):
        host = _host(random, roles)
        deeds += [Deed(at, "drain", host, (True,)), Deed(at + random.uniform(1, 60), "drain", host, (False,))]
    return deeds


def _busy(random: Random, roles: Sequence[Role], calm_at: float, others: Sequence[Deed]) -> list[Deed]:
    """Somebody sends much at once; the consumer stops its machine, starts it again, and so on."""
    deeds = []
    if random.random() < BURST_CHANCE:
        at = random.uniform(FIRST_DEED, calm_at)
        deeds.append(Deed(at, "burst", random.choice(roles).name, (random.choice(BURSTS),)))
    for wanted in [deed for deed in others if deed.kind == "lease wanted"]:
        at, verbs = wanted.at + random.uniform(6, 20), random.choice(ACTS)
        deeds += [
            Deed(at + number * random.uniform(1, 8), "machine act", wanted.who, (verb,))
            for number, verb in enumerate(verbs)
        ]
    return deeds


def _changes(random: Random) -> list[Deed]:
    """Sometimes the DAO changes the rates, as early as it promises to; a lease follows when they hold."""
    if random.random() > CHANGE_CHANCE:
        return []
    at, ahead = random.uniform(1, 30), SHORT_WINDOW + HEARD_WITHIN
    deeds = [
        Deed(at, "state block", "", ("high rates", ahead)),
        _lease_wanted(random, at + ahead + random.uniform(-5, 9)),
    ]
    if random.random() < 0.3:
        deeds.append(Deed(at + random.uniform(1, 5), "state block", "", ("old rates", ahead + 5)))
    return deeds


def _joint(random: Random, names: Sequence[str]) -> tuple[object, ...]:
    """What is signed, to whom a payment goes, and at which nodes others sign something else at the same time."""
    others = tuple(random.sample(names, random.choice([0, 0, 1])))
    return (random.choice(["payment", "payment", "receipt", "rotation"]), random.choice(names), others)


def _lease_wanted(random: Random, at: float) -> Deed:
    return Deed(at, "lease wanted", "alice", (random.randint(10, 40), random.choice([8.0, 30.0, 60.0])))


def _weather(random: Random) -> Weather:
    return Weather(
        loss=random.choice([0, 0.1, 0.4]),
        double=random.choice([0, 0.2]),
        slow=random.choice([0, 0.1, 0.3]),
        delay_max=random.choice([0.05, 0.3, 1.0]),
    )


def _partition(random: Random, roles: Sequence[Role], at: float) -> list[Deed]:
    """Sometimes the evil ones reach both sides, and use it."""
    on_seam = random.random() < 0.5
    names = [role.name for role in roles if not (on_seam and role.evils)]
    random.shuffle(names)
    middle = random.randint(1, len(names) - 1)
    island, others = tuple(names[:middle]), tuple(names[middle:])
    deeds = [Deed(at, "partition", "", (island, others, random.random() < 0.6, random.uniform(3, 40)))]
    if on_seam and any(SPENDS_TWICE in role.evils for role in roles):
        deeds.append(Deed(at + random.uniform(0.1, 3), "abuse", "mallory", (random.choice(DOUBLE_SPENDS),)))
    return deeds


def _crash(random: Random) -> tuple[object, ...]:
    """How (None: at whatever it waits for), after how many writes, how long, and whether the machines go down too."""
    how = random.choice([None, Strike.BEFORE, Strike.AFTER])
    return (how, random.randint(1, 6), random.choice([0.2, 2.0, 20.0]), random.random() < 0.5)


def _disk_fault(random: Random) -> tuple[object, ...]:
    return (random.choice([Strike.FAIL_LOST, Strike.FAIL_KEPT]), random.randint(1, 6), random.choice([0.2, 5.0]), False)


def _not_timekeeper(random: Random, roles: Sequence[Role]) -> str:
    return random.choice([role.name for role in roles if not role.is_timekeeper])


def _host(random: Random, roles: Sequence[Role]) -> str:
    return random.choice([role.name for role in roles if role.capacity is not None])
