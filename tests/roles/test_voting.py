"""Voting on real nodes: of two blocks for one position one is confirmed, everywhere the same, whatever gets lost."""

import pytest
import trio

from tests.support.ledger import DAY, address_of, key_of
from tests.support.memory_network import Weather
from tests.support.role_node import (
    FORM,
    PEOPLE,
    REPRESENTATIVE,
    RICH,
    ROOMY,
    RoleNode,
    Village,
    until,
    virtual_clock,
)
from tests.support.voters import (
    chain_of,
    chosen,
    final_notes,
    give,
    hash_of,
    is_confirmed,
    peer_ids,
    rivals,
    settled,
    spread,
    unconfirmed,
)
from xnode.core.blocks import Block, Receive, Send
from xnode.core.ledger import Outcome
from xnode.core.values import Address, Asset, Hash
from xnode.core.votes import VOTES, Position, Vote, VoteBundle
from xnode.net.network import Verdict
from xnode.roles.author import Draft
from xnode.roles.topics import Topics
from xnode.roles.voting import VOTES_TOPIC, Voting

pytestmark = pytest.mark.slow

BUSY = Weather(loss=0.3, delay_min=0.02, delay_max=0.5)


async def test_a_block_is_confirmed_within_a_second(village: Village, autojump_clock: object) -> None:
    await spread(village, *PEOPLE)
    alice = village.nodes["alice"]
    sent = await alice.roles.author.append(Draft(Asset.XUSD, -5, Send(address_of("bob"), 5)))
    nodes = village.nodes.values()
    await until(lambda: all(is_confirmed(node, sent) for node in nodes), 1, "the send's confirmation")
    await until(lambda: alice.account(address_of("bob")).xusd == RICH + 105, 2, "its receipt")  # type: ignore[union-attr]
    await settled(village)
    assert [final_notes(node) for node in nodes] == [{}] * 5, "what is confirmed needs no note"


async def receive_all(node: RoleNode) -> None:
    """All that is pending for its account, confirmed or not: an author does so only when it is told to."""
    with node.store.snapshot() as view:
        entries = view.pendings(node.address)
    for entry in entries:
        await node.roles.author.append(Draft(entry.asset, entry.amount, Receive(entry.source)))


async def test_of_a_double_spend_one_is_confirmed(village: Village, autojump_clock: object) -> None:
    await spread(village, *PEOPLE)
    alice, bob = village.nodes["alice"], village.nodes["bob"]
    blocks = rivals(village, alice, "alice", "anna", "bert")
    await village.internet.part(peer_ids("alice", "anna"))
    for node, block in zip((alice, bob), blocks, strict=True):
        await give(node, block)
    await trio.sleep(20)
    assert not any(is_confirmed(node, hash_of(village, block)) for node in village.nodes.values() for block in blocks)
    await village.internet.part(())
    await chosen(village, blocks)
    await settled(village)


async def test_what_rests_on_the_loser_is_taken_back(village: Village, autojump_clock: object) -> None:
    """The smaller side goes on building on its block: sends, receipts, receipts of what was received."""
    await spread(village, *PEOPLE)
    alice, bob = village.nodes["alice"], village.nodes["bob"]
    lost, won = rivals(village, alice, "alice", "anna", "bert")
    await village.internet.part(peer_ids("alice", "anna"))
    await give(alice, lost)
    await give(bob, won)
    for _ in range(3):
        await alice.roles.author.append(Draft(Asset.XUSD, -7, Send(address_of("anna"), 7)))
    await trio.sleep(5)
    await receive_all(village.nodes["anna"])
    await village.nodes["anna"].roles.author.append(Draft(Asset.XUSD, -RICH, Send(address_of("alice"), RICH)))
    await trio.sleep(5)
    await receive_all(alice)
    await trio.sleep(5)
    assert len(unconfirmed(alice)) == 10
    await village.internet.part(())
    winner = await chosen(village, [lost, won], 120)
    assert winner == won, "three of five stood for it from the start"
    await settled(village, 120)


async def test_a_lease_spent_twice_has_one_machine(village: Village, autojump_clock: object) -> None:
    await spread(village, "alice", "anna", "carol")
    for name in ("timekeeper-1", "timekeeper-2", "timekeeper-3"):
        await village.start(name, timekeeper=True)
    for name in ("bob", "bert"):
        await village.start(name, capacity=ROOMY)
    await village.start(REPRESENTATIVE)
    await village.ready()
    alice = village.nodes["alice"]
    with alice.store.snapshot() as view:
        chain, now = chain_of(village, "alice"), virtual_clock()()
        blocks = [chain.lease(view, address_of(name), duration=DAY, timestamp=now) for name in ("bob", "bert")]
    await village.internet.part(peer_ids("alice", "carol", "bob", "timekeeper-1"))
    await give(village.nodes["bob"], blocks[0])
    await give(village.nodes["bert"], blocks[1])
    await trio.sleep(15)
    assert not village.disk("bob").machines
    assert not village.disk("bert").machines
    await village.internet.part(())
    winner = await chosen(village, blocks, 120)
    await until(lambda: [item.state for item in alice.leases()] == ["accepted"], 60, "its acceptance")
    machines = [*village.disk("bob").machines, *village.disk("bert").machines]
    assert machines == [hash_of(village, winner)]
    assert village.disk("bob").destroyed == village.disk("bert").destroyed == {}
    await settled(village)


async def test_nothing_happens_while_a_third_is_away(village: Village, autojump_clock: object) -> None:
    await village.start_market("alice", bob=ROOMY)
    await village.crash(REPRESENTATIVE)
    alice = village.nodes["alice"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.roles.consumer.request, FORM._replace(timeout=300, duration=DAY))
        await trio.sleep(40)
        (lease,) = alice.leases()
        assert not is_confirmed(alice, lease.lease_hash)
        assert not village.disk("bob").machines
        await village.start(REPRESENTATIVE)
    assert list(village.disk("bob").machines) == [lease.lease_hash]
    await settled(village)


async def test_it_takes_67_percent(village: Village, autojump_clock: object) -> None:
    """Three of five are not enough, four are; an election that has expired meanwhile opens anew."""
    await spread(village, *PEOPLE)
    for name in ("bert", "carol"):
        await village.crash(name)
    alice = village.nodes["alice"]
    sent = await alice.roles.author.append(Draft(Asset.XUSD, -5, Send(address_of("dora"), 5)))
    await trio.sleep(400)
    assert not is_confirmed(alice, sent)
    await village.start("bert")
    nodes = village.nodes.values()
    await until(lambda: all(is_confirmed(node, sent) for node in nodes), 60, "the confirmation")
    await village.start("carol")
    await settled(village)


def watch_finals(node: RoleNode, seen: dict[tuple[str, Position], set[bytes]]) -> None:
    """Collects every final vote that this node signs, by position."""
    sign = node.roles.voting._sign

    def spy(votes):  # type: ignore[no-untyped-def]
        for vote in votes:
            if vote.is_final:
                seen.setdefault((node.setup.name, vote.position), set()).add(vote.block_hash)
        return sign(votes)

    node.roles.voting._sign = spy  # type: ignore[method-assign]


async def test_a_restarted_representative_votes_as_before(village: Village, autojump_clock: object) -> None:
    """Bob's network fails in the moment in which a final vote is on disk: he may have said it, so he stands by it."""
    await spread(village, *PEOPLE)
    seen: dict[tuple[str, Position], set[bytes]] = {}
    alice, bob = village.nodes["alice"], village.nodes["bob"]
    blocks = rivals(village, alice, "alice", "anna", "bert")
    watch_finals(bob, seen)
    await give(alice, blocks[0])
    await give(bob, blocks[1])
    with trio.fail_after(60):
        while not final_notes(bob):  # noqa: ASYNC110  it stands for a moment only, between a flush and the confirmation
            await trio.sleep(0.01)
    await village.internet.part(peer_ids("bob"))
    before = final_notes(bob)
    for _ in range(3):
        bob = await village.again("bob", 0.1)
        watch_finals(bob, seen)
        assert final_notes(bob) == before
        await trio.sleep(5)
    await village.internet.part(())
    await chosen(village, blocks)
    await settled(village)
    ((position, block),) = before.items()
    assert seen[("bob", Position(Address(position[:32]), Hash(position[32:])))] == {block}
    assert max(map(len, seen.values())) == 1


async def test_no_final_vote_is_said_before_it_is_on_disk(village: Village, autojump_clock: object) -> None:
    """Nor is any in an answer to a peer; votes that go out together are written together."""
    await spread(village, *PEOPLE)
    bob = village.nodes["bob"]
    said: list[Vote] = []
    sign = bob.roles.voting._sign

    def spy(votes: list[Vote]) -> tuple[bytes, ...]:
        finals = [vote for vote in votes if vote.is_final]
        for vote in finals:
            key = vote.position.account + vote.position.previous
            assert final_notes(bob).get(key) == vote.block_hash or is_confirmed(bob, vote.block_hash)
        said.extend(finals)
        return sign(votes)

    bob.roles.voting._sign = spy  # type: ignore[method-assign]
    alice = village.nodes["alice"]
    for _ in range(5):
        await alice.roles.author.append(Draft(Asset.XUSD, -1, Send(address_of("dora"), 1)))
        bob.roles.voting.answer([Position(vote.position.account, vote.block_hash) for vote in said])
    await settled(village)
    assert len(said) >= 5


async def test_votes_are_passed_on_for_who_has_weight_only(village: Village, autojump_clock: object) -> None:
    await spread(village, *PEOPLE)
    judge = village.nodes["alice"].roles
    topic = Topics()
    topic.wire(
        lambda _: True,
        judge.replica,
        judge.board,
        judge.contacts,
        judge.voting,
        judge.governance,
        lambda: None,
    )
    votes = (Vote(Position(address_of("alice"), Hash(bytes(32))), Hash(bytes(32)), False),)

    def verdict(name: str, signer: str) -> Verdict:
        bundle = VoteBundle(address_of(name), 1, votes)
        wire = VOTES.sign(village.genesis.network_key, key_of(signer), bundle)
        return topic.table()[VOTES_TOPIC].validate(peer_ids("bob")[0], wire).verdict

    assert verdict("bob", "bob") is Verdict.ACCEPT
    assert verdict("mallory", "mallory") is Verdict.IGNORE
    assert topic.ignored["votes_without_weight"] == 1
    assert verdict("bob", "mallory") is Verdict.REJECT


async def test_all_representatives_crash_in_the_middle(village: Village, autojump_clock: object) -> None:
    await spread(village, *PEOPLE)
    alice = village.nodes["alice"]
    blocks = rivals(village, alice, "alice", "anna", "bert")
    seen: dict[tuple[str, Position], set[bytes]] = {}
    for node, block in zip((alice, village.nodes["bob"]), blocks, strict=True):
        watch_finals(node, seen)
        await give(node, block)
    for _ in range(4):
        await trio.sleep(4.6)
        for name in PEOPLE:
            watch_finals(await village.again(name, 0.1), seen)
    await chosen(village, blocks)
    await settled(village)
    assert max(map(len, seen.values())) == 1


async def test_votes_that_are_lost_are_asked_for(village: Village, autojump_clock: object) -> None:
    """Gossip loses everything: only calls get through, and the blocks come by sync."""
    await spread(village, *PEOPLE)
    village.internet.weather = Weather(loss=1.0)
    alice = village.nodes["alice"]
    sent = await alice.roles.author.append(Draft(Asset.XUSD, -5, Send(address_of("bob"), 5)))
    for name in PEOPLE:
        await village.internet.part(peer_ids(name))
        await village.internet.part(())
        await trio.sleep(3)
    await until(lambda: all(is_confirmed(node, sent) for node in village.nodes.values()), 60, "the confirmation")
    assert sum(node.roles.voting.counters["WantVotes"] for node in village.nodes.values()) > 0


async def test_a_node_that_was_off_learns_what_is_confirmed(village: Village, autojump_clock: object) -> None:
    await spread(village, *PEOPLE)
    await village.crash("carol")
    alice = village.nodes["alice"]
    for _ in range(40):
        await alice.roles.author.append(Draft(Asset.XUSD, -1, Send(address_of("bob"), 1)))
    await settled(village)
    carol = await village.start("carol")
    dora = await village.start("dora")
    await until(lambda: carol.digest() == dora.digest() == alice.digest(), 20, "the blocks")
    await settled(village, 30)


async def test_votes_are_handed_on_by_who_heard_them(village: Village, autojump_clock: object) -> None:
    """All who voted have gone; Dora, who has no weight, has heard them."""
    await spread(village, *PEOPLE)
    await village.start("dora")
    await village.crash("carol")
    alice = village.nodes["alice"]
    sent = await alice.roles.author.append(Draft(Asset.XUSD, -5, Send(address_of("bob"), 5)))
    await settled(village)
    for name in ("alice", "anna", "bob", "bert"):
        await village.crash(name)
    carol = await village.start("carol")
    await until(lambda: is_confirmed(carol, sent), 30, "the confirmation")


async def test_a_node_that_was_off_with_the_loser(village: Village, autojump_clock: object) -> None:
    """It comes back with a fork and what rests on it, while all others have long confirmed and built on the other."""
    await spread(village, *PEOPLE)
    alice, carol = village.nodes["alice"], village.nodes["carol"]
    lost, won = rivals(village, alice, "alice", "carol", "bob")
    await village.internet.part(peer_ids("carol"))
    await give(carol, lost)
    await give(alice, won)
    await until(lambda: is_confirmed(alice, hash_of(village, won)), 5, "the winner")
    await receive_all(carol)
    assert len(unconfirmed(carol)) == 2
    await village.crash("carol")
    for _ in range(5):
        await alice.roles.author.append(Draft(Asset.XUSD, -1, Send(address_of("bob"), 1)))
    await village.internet.part(())
    await village.start("carol")
    assert await chosen(village, [lost, won]) == won
    await settled(village)


async def test_a_block_that_only_votes_name_is_fetched(village: Village, autojump_clock: object) -> None:
    """Carol hears no block by gossip; the votes name it, and she asks for it."""
    await spread(village, *PEOPLE)
    carol = village.nodes["carol"]
    carol.roles.replica.take_checked = lambda block: None  # type: ignore[method-assign, assignment, return-value]
    alice = village.nodes["alice"]
    sent = await alice.roles.author.append(Draft(Asset.XUSD, -5, Send(address_of("dora"), 5)))
    await until(lambda: is_confirmed(carol, sent), 10, "the fetched block's confirmation")
    assert carol.roles.voting.counters["WantBlock"] > 0


async def test_a_flood_of_forks_costs_its_account_only(village: Village, autojump_clock: object) -> None:
    await spread(village, *PEOPLE)
    alice, bob = village.nodes["alice"], village.nodes["bob"]
    flood = flood_of(village, alice, 60)
    nodes = list(village.nodes.values())
    for number, block in enumerate(flood):
        await nodes[number % len(nodes)].roles.replica.submit(block)
    for number in range(20):
        started = trio.current_time()
        sent = await bob.roles.author.append(Draft(Asset.XUSD, -1, Send(address_of("dora"), 1)))
        await until(lambda sent=sent: all(is_confirmed(node, sent) for node in nodes), 2, f"bob's send {number}")
        assert trio.current_time() - started < 2
    for node in nodes:
        assert len(node.roles.voting._staged) <= 10
    await chosen(village, flood, 200)
    await settled(village)


def flood_of(village: Village, node: RoleNode, count: int) -> list[Block]:
    """So many blocks for one position."""
    with node.store.snapshot() as view:
        chain, now = chain_of(village, "alice"), virtual_clock()()
        return [chain.send(view, address_of("dora"), 1 + number, timestamp=now) for number in range(count)]


async def test_a_fork_of_a_confirmed_block_is_nothing(village: Village, autojump_clock: object) -> None:
    await spread(village, *PEOPLE)
    alice, bob = village.nodes["alice"], village.nodes["bob"]
    first, second = rivals(village, alice, "alice", "anna", "bert")
    await give(alice, first)
    await settled(village)
    assert (await bob.roles.replica.submit(second)).outcome is Outcome.FORK
    assert bob.roles.voting.staged(hash_of(village, second)) is None
    assert len(bob.roles.voting.views()) == 0
    await settled(village)


async def test_a_chain_that_waited_long_is_confirmed_without_end(village: Village, autojump_clock: object) -> None:
    """Hundreds of blocks, each resting on the one before, become confirmed as soon as their representative is back."""
    await village.start(REPRESENTATIVE)
    alice = await village.start("alice")
    await village.ready()
    await village.crash(REPRESENTATIVE)
    for _ in range(400):
        await alice.roles.author.append(Draft(Asset.XUSD, -1, Send(address_of("dora"), 1)))
    await village.start(REPRESENTATIVE)
    await settled(village, 60)


async def test_weights_that_have_just_left_hold_nothing_up_for_long(village: Village, autojump_clock: object) -> None:
    """All weight moves from the representative to others, who have frozen the old weights when it ends."""
    await village.start(REPRESENTATIVE)
    for name in PEOPLE:
        await village.start(name)
    await village.ready()
    alice = village.nodes["alice"]
    await village.internet.part(peer_ids(REPRESENTATIVE))
    moved = []
    for name in PEOPLE:
        with village.nodes[name].store.snapshot() as view:
            own = {"representative": address_of(name), "timestamp": virtual_clock()()}
            moved.append(await give(village.nodes[name], chain_of(village, name).claim(view, **own)))
    await village.crash(REPRESENTATIVE)
    await until(lambda: all(is_confirmed(alice, one) for one in moved), 60, "what the old weights held up")
    await settled(village)


async def test_a_lease_under_loss_and_delay(village: Village, autojump_clock: object) -> None:
    await spread(village, "alice", "anna", "bert", "carol")
    await village.start_market(bob=ROOMY)
    village.internet.weather = BUSY
    alice = village.nodes["alice"]
    lease_hash = await alice.roles.consumer.request(FORM._replace(timeout=200))
    lease = alice.lease(lease_hash)
    assert lease is not None
    assert is_confirmed(alice, lease.accept_hash)
    await until(lambda: lease_hash in village.disk("bob").destroyed, 200, "the machine's end")
    village.internet.weather = Weather()
    await settled(village, 120)
    assert Voting.staged(alice.roles.voting, lease_hash) is None


async def test_a_clock_that_was_set_back_does_not_make_our_votes_older_than_those_we_gave(
    village: Village, autojump_clock: object
) -> None:
    """Peers that remember the later ones would drop them, for as long as the clock was ahead."""
    node = await village.start(REPRESENTATIVE, peers=())
    await trio.sleep(5)
    (block,) = rivals(village, node, "alice", "bob")
    await give(node, block)
    position = Position(block.account, block.previous)
    ahead = virtual_clock(3600)()
    early = VoteBundle(node.address, ahead, (Vote(position, hash_of(village, block), is_final=False),))
    node.roles.voting.take(early, VOTES.sign(village.genesis.network_key, key_of(REPRESENTATIVE), early))
    (wire, *_) = node.roles.voting.answer([position])
    bundle, is_signed = VOTES.read(village.genesis.network_key, wire)
    assert is_signed
    assert bundle.timestamp > ahead
