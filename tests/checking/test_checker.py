"""Checks of many blocks: the same answers on the loop and in worker processes, whatever becomes of those."""

import errno
import os
import signal

import psutil
import pytest
import trio

from tests.support.big_ledger import Maker, Shape, big_genesis
from tests.support.blocks import EXAMPLES
from xnode.checking.checker import CHUNK_BLOCKS, INLINE_MAX, Checker
from xnode.checking.checks import Checked, Finding, answer, check_wires, pack_order, unpack_answer, unpack_length
from xnode.core.blocks import Block, block_hash, decode_block, encode_block
from xnode.core.genesis import Genesis
from xnode.core.ledger import Context
from xnode.core.rules import check_alone
from xnode.core.values import ZERO_HASH
from xnode.core.work import is_valid_work

DIFFICULTY = 2**63
GENESIS = big_genesis(DIFFICULTY)
KEY = GENESIS.network_key


def some_wires(count: int = 200) -> tuple[list[bytes], list[Checked]]:
    """Good blocks with one of each bad kind among them, and what is to be said of each."""
    wires = [encode_block(block) for block in Maker(GENESIS, Shape(count, 30)).blocks()][:count]
    wires[3] = b"no block"
    wires[5] = encode_block(_without_work(wires[5]))
    wires[7] = encode_block(decode_block(wires[7])._replace(signature=decode_block(wires[8]).signature))
    findings = {3: Finding.MALFORMED, 5: Finding.BAD_WORK, 7: Finding.BAD_SIGNATURE}
    hashes = [ZERO_HASH if number == 3 else block_hash(KEY, decode_block(wire)) for number, wire in enumerate(wires)]
    return wires, [(findings.get(number, Finding.GOOD), item) for number, item in enumerate(hashes)]


def _without_work(wire: bytes) -> Block:
    block = decode_block(wire)
    nonce = next(number for number in range(1_000) if not is_valid_work(block.work_root, number, DIFFICULTY))
    return block._replace(work=nonce)


def test_orders_and_answers_cross_as_bytes() -> None:
    wires, expected = some_wires(40)
    order = pack_order(KEY, DIFFICULTY, wires)
    assert unpack_length(order[:4]) == len(order) - 4
    assert list(unpack_answer(answer(order[4:]))) == expected


@pytest.mark.parametrize("genesis", [big_genesis(), GENESIS])
def test_blocks_of_every_form_are_judged_as_the_rules_judge_them(genesis: Genesis) -> None:
    blocks = [*EXAMPLES.values(), *Maker(genesis, Shape(4, 2)).blocks()]
    context, key = Context(genesis, now=None), genesis.network_key
    refusals = [check_alone(block, context) for block in blocks]
    words = ["good" if refusal is None else refusal.outcome.value for refusal in refusals]
    found = check_wires(key, genesis.work_difficulty, [encode_block(block) for block in blocks])
    assert [Finding(finding).name.lower() for finding, _ in found] == words
    assert [identity for _, identity in found] == [block_hash(key, block) for block in blocks]


async def test_without_workers_all_is_checked_here() -> None:
    wires, expected = some_wires()
    assert await Checker(KEY, DIFFICULTY).start(wires).findings() == expected


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "xnode.checking.worker" in child.cmdline()]


@pytest.mark.slow
async def test_workers_say_the_same_and_none_outlives_its_pool() -> None:
    wires, expected = some_wires(CHUNK_BLOCKS * 2 + 50)
    checker = Checker(KEY, DIFFICULTY)
    async with checker.working(2):
        few = await checker.start(wires[:INLINE_MAX]).findings()
        assert (few, workers()) == (expected[:INLINE_MAX], [])
        pages = [checker.start(wires) for _ in range(3)]
        assert [await page.findings() for page in pages] == [expected] * 3
        assert len(workers()) == 2
    assert workers() == []


@pytest.mark.slow
async def test_what_a_killed_worker_had_is_checked_here_and_another_one_comes() -> None:
    wires, expected = some_wires(CHUNK_BLOCKS)
    checker = Checker(KEY, DIFFICULTY)
    async with checker.working(1):
        assert await checker.start(wires).findings() == expected
        (worker,) = workers()
        os.kill(worker.pid, signal.SIGKILL)
        with trio.fail_after(60):
            assert await checker.start(wires).findings() == expected
            assert await checker.start(wires).findings() == expected
    assert workers() == []


async def test_where_no_worker_can_be_started_all_is_checked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host of virtual machines may be out of memory or processes."""
    wires, expected = some_wires()

    async def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(trio.lowlevel, "open_process", refuse)
    checker = Checker(KEY, DIFFICULTY)
    async with checker.working(1):
        assert await checker.start(wires).findings() == expected
        assert await checker.start(wires).findings() == expected
