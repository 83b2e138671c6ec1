"""The replica and the author: any order of arrival, one chain without forks, pending entries taken."""

from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing

from tests.support.ledger import NOW, Chain, MemoryLedger, address_of, key_of
from tests.support.role_node import REPRESENTATIVE, AnyWork, Village, open_gate, until
from tests.support.store import GENESIS, open_store, story_blocks
from xnode.core.blocks import Block, Claim, Send, encode_block
from xnode.core.codec import Malformed
from xnode.core.faults import CallerFault
from xnode.core.ledger import Context, Outcome
from xnode.core.rules import judge
from xnode.core.values import Asset
from xnode.roles.author import Author, Draft
from xnode.roles.replica import RELEASED_MAX, Replica, check_wire
from xnode.store.store import Store


class Published:
    """Where gossip would go."""

    def __init__(self) -> None:
        self.wires: list[bytes] = []

    async def publish(self, topic: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.wires.append(data)


def make(store: Store, published: Published | None = None) -> Replica:
    return Replica(store, GENESIS, lambda: NOW, (published or Published()).publish)


def digest(store: Store) -> bytes:
    with store.snapshot() as view:
        return view.frontiers_digest()


def sends(count: int) -> list[Block]:
    """Alice's sends to Bob, each with Bob's receipt."""
    ledger, blocks = MemoryLedger(GENESIS), []
    alice, bob = Chain(GENESIS, "alice"), Chain(GENESIS, "bob")
    for _ in range(count):
        for block in (alice.send(ledger, bob.address, 5), None):
            chosen = block or bob.receive(ledger, alice.record(ledger).head)
            effects = judge(ledger, chosen, Context(GENESIS, NOW))
            ledger.apply(effects)  # type: ignore[arg-type]
            blocks.append(chosen)
    return blocks


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_arrival_gives_the_same_ledger(tmp_path: Path, seed: int) -> None:
    blocks = sends(6)
    with open_store(tmp_path / "straight") as straight, open_store(tmp_path / "mixed") as mixed:
        replica = make(straight)
        assert {replica.take(block).outcome for block in blocks} == {Outcome.PROGRESS}
        shuffled = Random(seed).sample(blocks, len(blocks))
        other, applied = make(mixed), []
        other.watch(lambda batch: applied.extend(effects.block for effects in batch))
        for block in shuffled:
            other.take(block)
        assert len(other.held) == 0
        assert sorted(applied) == sorted(blocks)
        assert digest(mixed) == digest(straight)


def test_the_last_comes_first(tmp_path: Path) -> None:
    blocks = sends(3)
    with open_store(tmp_path) as store:
        replica = make(store)
        outcomes = [replica.take(block).outcome for block in reversed(blocks)]
        assert outcomes[-1] is Outcome.PROGRESS
        assert set(outcomes[:-1]) <= {Outcome.GAP_PREVIOUS, Outcome.GAP_SOURCE}
        assert replica.outcomes[Outcome.PROGRESS] == len(blocks)
        assert replica.take(blocks[0]).outcome is Outcome.OLD


async def test_what_one_arrival_sets_free_is_judged_a_few_at_a_time(tmp_path: Path) -> None:
    first, *others = sends(2 * RELEASED_MAX)
    with open_store(tmp_path) as store:
        replica, batches = make(store), list[int]()
        replica.watch(lambda applied: batches.append(len(applied)))
        for block in others:
            replica.take(block)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replica.carry_on)
            await trio.testing.wait_all_tasks_blocked()
            replica.take(first)
            assert batches == [RELEASED_MAX + 1]
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert (sum(batches), len(replica.held)) == (4 * RELEASED_MAX, 0)
        assert max(batches[1:]) <= RELEASED_MAX


def test_a_page_of_old_blocks_stops_at_what_is_no_block(tmp_path: Path) -> None:
    wires = [encode_block(block) for block in story_blocks()]
    with open_store(tmp_path) as store:
        replica = make(store)
        with pytest.raises(Malformed):
            replica.take_synced([*wires[:3], b"junk", *wires[3:]])
        with store.snapshot() as view:
            assert view.counts().blocks == 3
        assert replica.take_synced(wires) == len(wires) - 3
        assert replica.take_synced(wires) == 0


def test_a_bad_block_leaves_no_open_transaction(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        replica, block = make(store), sends(1)[0]
        assert replica.take(block._replace(signature=bytes(64))).outcome is Outcome.BAD_SIGNATURE
        assert replica.preview(block) is Outcome.PROGRESS
        assert replica.take(block).outcome is Outcome.PROGRESS
        assert replica.preview(block) is Outcome.OLD


def test_the_validator_needs_no_ledger(tmp_path: Path) -> None:
    context, block = Context(GENESIS, NOW), sends(1)[0]
    assert check_wire(encode_block(block), context) == (block, Outcome.PROGRESS, "")
    assert check_wire(b"junk", context)[:2] == (None, Outcome.BAD_FORMAT)
    late = Context(GENESIS, NOW + 10**9 * 86_400)
    assert check_wire(encode_block(block), late)[:2] == (None, Outcome.BAD_TIMESTAMP)


class SlowWork(AnyWork):
    """Work takes now this long, now that."""

    def __init__(self) -> None:
        super().__init__()
        self._random = Random(7)

    async def solve(self, root: bytes, difficulty: int) -> int:
        await trio.sleep(self._random.random())
        return await super().solve(root, difficulty)


async def test_an_author_never_forks_itself(autojump_clock: object, tmp_path: Path) -> None:
    published = Published()
    with open_store(tmp_path) as store:
        replica = make(store, published)
        author = Author(key_of("alice"), store, GENESIS, replica, SlowWork(), lambda: NOW, open_gate())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(author.work_ahead)
            async with trio.open_nursery() as appends:
                for amount in range(1, 21):
                    appends.start_soon(author.append, Draft(Asset.XUSD, -amount, Send(address_of("bob"), amount)))
            nursery.cancel_scope.cancel()
        assert author.account().height == 20
        assert author.account().xusd == 1_000_000 - sum(range(1, 21))
        assert replica.outcomes == {Outcome.PROGRESS: 20}
    with open_store(tmp_path / "other") as other:
        follower = make(other)
        assert [follower.take(check_wire(wire, follower.context())[0]).outcome for wire in published.wires] == [  # type: ignore[arg-type]
            Outcome.PROGRESS
        ] * 20


async def test_a_cancelled_append_is_whole_or_not_at_all(autojump_clock: object, tmp_path: Path) -> None:
    published = Published()
    with open_store(tmp_path) as store:
        author = Author(key_of("alice"), store, GENESIS, make(store, published), SlowWork(), lambda: NOW, open_gate())
        for seconds in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0):
            with trio.move_on_after(seconds):
                await author.append(Draft(Asset.XUSD, -1, Send(address_of("bob"), 1)))
        assert 0 < author.account().height < 7
        assert len(published.wires) == author.account().height


async def test_an_author_says_why_it_can_not(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        author = Author(key_of("dora"), store, GENESIS, make(store), AnyWork(), lambda: NOW, open_gate())
        with pytest.raises(CallerFault, match="needs 1 XUSD and the account holds 0"):
            await author.append(Draft(Asset.XUSD, -1, Send(address_of("bob"), 1)))
        await author.append(Draft(Asset.XUSD, 100, Claim()))
        with pytest.raises(CallerFault) as caught:
            await author.append(Draft(Asset.XUSD, 100, Claim()))
        assert caught.value.code == "faucet_wait"


@pytest.mark.slow
async def test_what_is_sent_is_received_by_itself(village: Village, autojump_clock: object) -> None:
    await village.start(REPRESENTATIVE)
    alice, dora = await village.start("alice"), await village.start("dora")
    for amount in (3, 4):
        await alice.roles.author.append(Draft(Asset.XUSD, -amount, Send(dora.address, amount)))
    await until(lambda: dora.roles.author.account().xusd == 7, 10, "the receipts")
    late = Draft(Asset.XUSD, -5, Send(address_of("anna"), 5))
    await alice.roles.author.append(late)
    anna = await village.start("anna")
    await until(lambda: anna.roles.author.account().xusd == 1005, 20, "the receipt after sync")
    await village.agreed()
