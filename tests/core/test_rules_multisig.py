"""The rules of multisig accounts (protocol sections 3 and 4): who may sign, and what opens and rotates a keyset."""

import itertools
from typing import Any

import pytest

from tests.support.group import NAMES, TRIO, VOTER, Group, keyset_of, signed_by
from tests.support.ledger import NOW, RICH, MemoryLedger, address_of, key_of, make_genesis, public_key_of
from tests.support.rules import NO_POINT, UNKNOWN, accepted, new_ledger, refused
from xnode.core.authority import check_authority
from xnode.core.blocks import Block, MultisigOpen, MultisigUpdate, Receive, Send
from xnode.core.keyset import Keyset, KeySignature, keyset_address
from xnode.core.lease import LeaseState
from xnode.core.ledger import Bucket, Context, Effects, Outcome, Refusal, new_account
from xnode.core.rules import check_alone, judge_checked
from xnode.core.values import ZERO_HASH, Address, Asset, Hash, PublicKey, Signature

ALICE, BOB = address_of("alice"), address_of("bob")


def opened(**changes: Any) -> tuple[MemoryLedger, Group]:
    """A ledger where the trio (two of ann, ben and cay) has opened its account and holds 100."""
    ledger = new_ledger(**changes)
    trio = ledger.group(TRIO)
    accepted(ledger, trio.open(ledger))
    sent = accepted(ledger, ledger.chain("alice").send(ledger, trio.address, 100)).block_hash
    accepted(ledger, trio.receive(ledger, sent))
    return ledger, trio


def signed(ledger: MemoryLedger, block: Block, *names: str) -> Block:
    return signed_by(ledger.genesis, block, *names)


# multisig_open


def test_the_account_is_the_hash_of_the_keyset_that_opens_it() -> None:
    ledger = new_ledger()
    trio = ledger.group(TRIO)
    effects = accepted(ledger, trio.open(ledger))
    assert effects.account.address == keyset_address(ledger.genesis.network_key, keyset_of(TRIO))
    assert effects.account.keyset == keyset_of(TRIO)
    assert (effects.account.height, effects.account.representative) == (1, VOTER)
    assert (effects.moves, effects.pending_put, effects.pending_delete, effects.lease) == ((), None, None, None)


def test_a_keyset_that_is_not_the_accounts_does_not_open_it() -> None:
    ledger = new_ledger()
    trio = ledger.group(TRIO)
    for other in ("1:ann,ben,cay", "2:ann,ben", "2:ann,ben,eve"):
        block = trio.open(ledger, keyset=keyset_of(other))
        refused(ledger, signed(ledger, block, "ann", "ben"), Outcome.BAD_SIGNATURE)


def test_it_does_not_open_another_networks_account() -> None:
    there = new_ledger(network_id="there")
    refused(new_ledger(), there.group(TRIO).open(there), Outcome.BAD_SIGNATURE)


@pytest.mark.parametrize("names", list(itertools.combinations(["ann", "ben", "cay"], 2)))
def test_any_two_of_the_three_open_it(names: tuple[str, ...]) -> None:
    ledger = new_ledger()
    accepted(ledger, signed(ledger, ledger.group(TRIO).open(ledger), *names))


@pytest.mark.parametrize("names", [(), ("ann",), ("ann", "eve"), ("ann", "ben", "cay")])
def test_others_than_exactly_the_threshold_do_not_open_it(names: tuple[str, ...]) -> None:
    ledger = new_ledger()
    refused(ledger, signed(ledger, ledger.group(TRIO).open(ledger), *names), Outcome.BAD_SIGNATURE)


def test_it_opens_once() -> None:
    ledger, trio = opened()
    refused(ledger, trio.open(ledger), Outcome.ALREADY_OPEN)
    refused(ledger, trio.open(ledger, previous=ZERO_HASH, timestamp=NOW + 1), Outcome.FORK)


def test_it_is_the_accounts_first_block() -> None:
    """No key signs for a hash, so such a chain can't come about; were it there, it could not be taken over."""
    ledger = new_ledger()
    trio = ledger.group(TRIO)
    record = new_account(trio.address, ledger.genesis)._replace(head=UNKNOWN, height=1)
    ledger.accounts[trio.address] = record
    refused(ledger, trio.open(ledger), Outcome.ALREADY_OPEN)


def test_what_was_sent_before_it_opened_is_received_after() -> None:
    ledger = new_ledger()
    trio = ledger.group(TRIO)
    sent = accepted(ledger, ledger.chain("alice").send(ledger, trio.address, 5)).block_hash
    refused(ledger, trio.receive(ledger, sent), Outcome.NOT_OPEN)
    accepted(ledger, trio.open(ledger))
    assert accepted(ledger, trio.receive(ledger, sent)).account.xusd == 5


def test_nothing_but_opening_comes_first() -> None:
    ledger = new_ledger()
    trio = ledger.group(TRIO)
    for block in (trio.claim(ledger), trio.send(ledger, BOB, 1), trio.update(ledger, "1:ann")):
        refused(ledger, block, Outcome.NOT_OPEN)


def test_an_opening_balance_of_the_genesis_may_be_a_multisig_accounts() -> None:
    """The genesis allocates to addresses, and its address depends on the network: so here the rules are asked alone."""
    ledger = new_ledger()
    trio = ledger.group(TRIO)
    ledger.accounts[trio.address] = new_account(trio.address, ledger.genesis)._replace(xusd=7, xe=3)
    ledger._add(Asset.XUSD, Bucket.GENESIS, 7)
    ledger._add(Asset.XE, Bucket.GENESIS, 3)
    refused(ledger, trio.open(ledger, balance=8), Outcome.BAD_BALANCE)
    refused(ledger, trio.open(ledger, asset=Asset.XE, balance=7), Outcome.BAD_BALANCE)
    effects = accepted(ledger, trio.open(ledger, asset=Asset.XE, balance=3))
    assert (effects.account.xusd, effects.account.xe) == (7, 3)


def test_a_key_of_the_keyset_that_is_no_point_is_refused() -> None:
    ledger, trio = opened()
    unfit = Keyset((public_key_of("ann"), PublicKey(NO_POINT)), 1)
    elsewhere = keyset_address(ledger.genesis.network_key, unfit)
    opening = trio.open(ledger, unfit, account=elsewhere, previous=ZERO_HASH, balance=0)
    refused(ledger, signed(ledger, opening, "ann"), Outcome.BAD_KEY)
    update = trio.update(ledger, TRIO)._replace(body=MultisigUpdate(unfit))
    refused(ledger, signed(ledger, update, "ann", "ben"), Outcome.BAD_KEY)


# signatures


@pytest.mark.parametrize("names", list(itertools.combinations(["ann", "ben", "cay"], 2)))
def test_any_two_of_the_three_spend(names: tuple[str, ...]) -> None:
    ledger, trio = opened()
    effects = accepted(ledger, signed(ledger, trio.send(ledger, BOB, 30), *names))
    assert effects.account.xusd == 70


@pytest.mark.parametrize("names", [("ann",), ("ann", "eve"), ("dan", "eve"), ("ann", "ben", "cay")])
def test_others_than_exactly_the_threshold_do_not_spend(names: tuple[str, ...]) -> None:
    ledger, trio = opened()
    refused(ledger, signed(ledger, trio.send(ledger, BOB, 30), *names), Outcome.BAD_QUORUM)


def test_a_block_that_nobody_has_signed_is_refused() -> None:
    ledger, trio = opened()
    refused(ledger, trio.send(ledger, BOB, 30)._replace(signatures=()), Outcome.BAD_SIGNATURE)


def test_one_signature_that_is_not_its_keys_spoils_all() -> None:
    ledger, trio = opened()
    good = trio.send(ledger, BOB, 30)
    one, two = good.signatures or ()
    for bad in (two._replace(signature=Signature(bytes(64))), two._replace(signature=one.signature)):
        refused(ledger, good._replace(signatures=(one, bad)), Outcome.BAD_SIGNATURE)
    refused(ledger, good._replace(body=Send(BOB, 31)), Outcome.BAD_SIGNATURE)
    accepted(ledger, good)


def test_signatures_out_of_order_are_refused() -> None:
    """On the wire they don't decode (bad_format); the rules don't rely on that."""
    ledger, trio = opened()
    good = trio.send(ledger, BOB, 30)
    refused(ledger, good._replace(signatures=(good.signatures or ())[::-1]), Outcome.BAD_QUORUM)


@pytest.mark.parametrize("name", ["ann", "ben", "cay"])
def test_any_one_receives(name: str) -> None:
    ledger, trio = opened()
    sent = accepted(ledger, ledger.chain("bob").send(ledger, trio.address, 9)).block_hash
    assert accepted(ledger, signed(ledger, trio.receive(ledger, sent), name)).account.xusd == 109


@pytest.mark.parametrize("names", [("eve",), ("ann", "ben")])
def test_others_than_exactly_one_do_not_receive(names: tuple[str, ...]) -> None:
    ledger, trio = opened()
    sent = accepted(ledger, ledger.chain("bob").send(ledger, trio.address, 9)).block_hash
    refused(ledger, signed(ledger, trio.receive(ledger, sent), *names), Outcome.BAD_QUORUM)


def test_every_type_but_receive_asks_for_the_threshold() -> None:
    ledger, trio = opened()
    lease = accepted(ledger, trio.lease(ledger, BOB)).block_hash
    for block in (
        trio.claim(ledger),
        trio.send(ledger, BOB, 1),
        trio.lease(ledger, BOB),
        trio.cancel(ledger, lease),
        trio.update(ledger, "1:dan"),
    ):
        refused(ledger, signed(ledger, block, "ann"), Outcome.BAD_QUORUM)
        assert isinstance(ledger.judge(block), Effects)


def test_a_signature_of_one_key_never_speaks_for_a_keyset() -> None:
    """Anybody's `signature` fails, and even one that verified would not count once the keyset is open."""
    ledger, trio = opened()
    block = trio.send(ledger, BOB, 30)._replace(signatures=None)
    for name in ("ann", "alice"):
        identity = trio.hash_of(block)
        refused(ledger, block._replace(signature=key_of(name).sign(identity)), Outcome.BAD_SIGNATURE)
    verdict = judge_checked(ledger, block, Context(ledger.genesis, NOW))
    assert isinstance(verdict, Refusal)
    assert verdict.outcome is Outcome.BAD_QUORUM


def test_signatures_never_speak_for_an_account_of_one_key() -> None:
    """Not even its own key's."""
    ledger = new_ledger()
    block = ledger.chain("alice").send(ledger, BOB, 1)
    refused(ledger, signed(ledger, block, "alice"), Outcome.NOT_OPEN)
    alone = Keyset((public_key_of("alice"),), 1)
    opening = ledger.chain("alice").next(ledger, MultisigOpen(alone), Asset.XUSD, 0, representative=VOTER)
    refused(ledger, signed(ledger, opening, "alice"), Outcome.BAD_SIGNATURE)
    refused(ledger, opening, Outcome.BAD_SIGNATURE)  # the good `signature` of one key
    accepted(ledger, block)


def test_a_signature_is_checked_before_the_keyset_in_force_is_asked_for() -> None:
    ledger, trio = opened()
    far = trio.send(ledger, BOB, 30, previous=UNKNOWN)
    assert refused(ledger, signed(ledger, far, "eve"), Outcome.GAP_PREVIOUS).needs == UNKNOWN
    assert check_alone(signed(ledger, far, "eve"), Context(ledger.genesis, NOW)) is None
    spoilt = far._replace(signatures=(KeySignature(public_key_of("eve"), Signature(bytes(64))),))
    refused(ledger, spoilt, Outcome.BAD_SIGNATURE)


# multisig_update


def test_an_update_rotates_the_keyset_and_the_address_stays() -> None:
    ledger, trio = opened()
    effects = accepted(ledger, trio.update(ledger, "2:dan,eve"))
    assert (effects.account.address, effects.account.keyset) == (trio.address, keyset_of("2:dan,eve"))
    assert effects.account.xusd == 100
    block = trio.send(ledger, BOB, 30)
    assert {NAMES[item.public_key] for item in block.signatures or ()} == {"dan", "eve"}
    accepted(ledger, block)


def test_after_an_update_the_old_keyset_signs_nothing() -> None:
    ledger, trio = opened()
    sent = accepted(ledger, ledger.chain("bob").send(ledger, trio.address, 9)).block_hash
    accepted(ledger, trio.update(ledger, "2:ann,dan,eve"))
    refused(ledger, signed(ledger, trio.send(ledger, BOB, 1), "ann", "ben"), Outcome.BAD_QUORUM)
    refused(ledger, signed(ledger, trio.update(ledger, TRIO), "ann", "ben"), Outcome.BAD_QUORUM)
    refused(ledger, signed(ledger, trio.receive(ledger, sent), "ben"), Outcome.BAD_QUORUM)
    accepted(ledger, signed(ledger, trio.receive(ledger, sent), "ann"))


def test_an_update_is_signed_by_the_keyset_before_it() -> None:
    ledger, trio = opened()
    block = trio.update(ledger, "2:dan,eve")
    refused(ledger, signed(ledger, block, "dan", "eve"), Outcome.BAD_QUORUM)
    accepted(ledger, signed(ledger, block, "ben", "cay"))


def test_an_update_may_go_back_and_may_change_nothing() -> None:
    """Nothing but the delegation, for instance."""
    ledger, trio = opened()
    for group in ("1:dan", TRIO, TRIO):
        assert accepted(ledger, trio.update(ledger, group)).account.keyset == keyset_of(group)
    effects = accepted(ledger, trio.update(ledger, TRIO, representative=BOB))
    assert effects.account.representative == BOB


def test_an_updates_balance_stays() -> None:
    ledger, trio = opened()
    refused(ledger, trio.update(ledger, "1:dan", balance=101), Outcome.BAD_BALANCE)
    accepted(ledger, trio.update(ledger, "1:dan", asset=Asset.XE, balance=0))


def test_an_account_of_one_key_has_no_keyset_to_update() -> None:
    ledger = new_ledger()
    update = ledger.chain("alice").next(ledger, MultisigUpdate(keyset_of(TRIO)), Asset.XUSD, 0)
    refused(ledger, update, Outcome.BAD_SIGNATURE)
    refused(ledger, signed(ledger, update, "alice"), Outcome.NOT_OPEN)


# representatives


def test_a_multisig_account_delegates() -> None:
    ledger, trio = opened()
    assert accepted(ledger, trio.send(ledger, BOB, 1, representative=ALICE)).account.representative == ALICE
    assert accepted(ledger, trio.claim(ledger)).account.representative == ALICE


def test_one_that_names_none_delegates_as_the_genesis_says() -> None:
    ledger = new_ledger()
    effects = accepted(ledger, ledger.group(TRIO).open(ledger))
    assert effects.account.representative == ledger.genesis.representative
    other = new_ledger()
    assert accepted(other, other.group(TRIO).open(other, representative=BOB)).account.representative == BOB


def test_it_is_not_its_own_representative() -> None:
    ledger = new_ledger()
    trio = ledger.group(TRIO)
    refused(ledger, trio.open(ledger, representative=trio.address), Outcome.BAD_REPRESENTATIVE)
    ledger, trio = opened()
    for block in (
        trio.send(ledger, BOB, 1, representative=trio.address),
        trio.update(ledger, TRIO, representative=trio.address),
    ):
        refused(ledger, block, Outcome.BAD_REPRESENTATIVE)


def test_one_key_that_receives_does_not_move_the_delegation() -> None:
    ledger, trio = opened()
    sent = accepted(ledger, ledger.chain("bob").send(ledger, trio.address, 9)).block_hash
    refused(ledger, trio.receive(ledger, sent, representative=ALICE), Outcome.BAD_REPRESENTATIVE)
    refused(ledger, trio.receive(ledger, sent, representative=VOTER), Outcome.BAD_REPRESENTATIVE)
    accepted(ledger, trio.receive(ledger, sent))


# what else it does


def test_it_claims_by_the_threshold() -> None:
    """The faucet gives to whoever asks; only receiving takes one signature."""
    ledger, trio = opened()
    assert accepted(ledger, trio.claim(ledger)).account.xusd == 200
    refused(ledger, trio.claim(ledger), Outcome.FAUCET_WAIT)


def test_it_leases_cancels_and_force_settles() -> None:
    ledger, trio = opened()
    first = accepted(ledger, trio.lease(ledger, BOB)).block_hash
    assert accepted(ledger, trio.cancel(ledger, first)).account.xusd == 100
    second = accepted(ledger, trio.lease(ledger, BOB, timestamp=NOW + 1)).block_hash
    assert ledger.leases[second].access_pub_key == key_of(f"{TRIO}-access").public_key
    accepted(ledger, ledger.chain("bob").accept(ledger, second))
    effects = accepted(ledger, trio.force_settle(ledger, second), now=None)
    assert (effects.account.xusd, ledger.leases[second].state) == (100, LeaseState.UNFULFILLED)


def test_its_lease_is_settled_by_the_provider() -> None:
    ledger, trio = opened()
    lease = accepted(ledger, trio.lease(ledger, BOB)).block_hash
    accepted(ledger, ledger.chain("bob").accept(ledger, lease))
    accepted(ledger, ledger.chain("bob").settle(ledger, lease), now=None)
    assert ledger.leases[lease].state is LeaseState.SETTLED


def test_it_accepts_no_lease() -> None:
    """Offers, ads and a machine's answers are signed by one key, so no consumer could find or reach it."""
    ledger, trio = opened()
    lease = accepted(ledger, ledger.chain("alice").lease(ledger, BOB)).block_hash
    ledger.leases[lease] = ledger.leases[lease]._replace(provider=trio.address)
    refused(ledger, trio.accept(ledger, lease), Outcome.NOT_A_PROVIDER)


def test_a_lease_from_a_hash_that_is_no_point_is_refused() -> None:
    """15 of 16 hashes are none. A lease from another can only be cancelled: whether an address is a keyset's is known
    only to its own chain, and a rule that asked for that would split nodes that have it from those that don't yet."""
    ledger, trio = opened()
    refused(ledger, ledger.chain("alice").lease(ledger, trio.address), Outcome.BAD_DESTINATION)


def test_it_sends_and_receives_xe() -> None:
    ledger, trio = opened()
    ledger.accounts[BOB] = ledger.accounts[BOB]._replace(xe=5)
    ledger._add(Asset.XE, Bucket.GENESIS, 5)
    sent = accepted(ledger, ledger.chain("bob").send(ledger, trio.address, 5, Asset.XE)).block_hash
    accepted(ledger, trio.receive(ledger, sent))
    assert accepted(ledger, trio.send(ledger, ALICE, 2, Asset.XE)).account.xe == 3


# order


def test_checks_run_in_their_order() -> None:
    """Position before the keyset in force, that before what the type says."""
    ledger, trio = opened()
    wrong = {"balance": RICH, "representative": trio.address, "previous": UNKNOWN}
    block = trio.next(ledger, Send(BOB, 0), Asset.XUSD, 0, **wrong)
    refused(ledger, signed(ledger, block, "eve"), Outcome.GAP_PREVIOUS)
    del wrong["previous"]
    block = trio.next(ledger, Send(BOB, 0), Asset.XUSD, 0, **wrong)
    refused(ledger, signed(ledger, block, "eve"), Outcome.BAD_QUORUM)
    refused(ledger, block, Outcome.BAD_REPRESENTATIVE)
    del wrong["representative"]
    refused(ledger, trio.next(ledger, Send(BOB, 0), Asset.XUSD, 0, **wrong), Outcome.BAD_AMOUNT)


def test_an_account_of_one_key_asks_for_no_keyset() -> None:
    block = new_ledger().chain("alice").next(new_ledger(), Receive(Hash(ZERO_HASH)), Asset.XUSD, 0)
    assert check_authority(block, new_account(Address(ALICE), make_genesis())) is None
