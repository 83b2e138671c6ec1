"""Every outcome is reached by a test of the rules, and is explained in docs/refusals.md."""

import ast
import re
from pathlib import Path

import pytest

from xnode.core.blocks import KEYSET_TYPES, BlockType
from xnode.core.ledger import Outcome
from xnode.core.state_chain import StateOutcome
from xnode.core.tally import VoteOutcome
from xnode.core.vote_effects import NoRoom
from xnode.roles.fates import REASONS
from xnode.roles.topics import PROVABLY_BAD, STATE_PROVABLY_BAD

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "refusals.md").read_text(encoding="utf-8")
# what `accepted` asserts; what decoding refuses; what the replica says, which knows what is confirmed
NOT_OF_THE_RULES = {Outcome.PROGRESS, Outcome.BAD_FORMAT, Outcome.RIVAL}


def outcomes_asserted_in(path: Path) -> set[Outcome]:
    """The members named in calls of `refused(ledger, block, Outcome.X)`, which fails unless X comes out."""
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "refused"
    ]
    named = [argument for call in calls for argument in call.args if isinstance(argument, ast.Attribute)]
    return {Outcome[item.attr] for item in named if isinstance(item.value, ast.Name) and item.value.id == "Outcome"}


def rows() -> dict[str, list[str]]:
    return rows_of(PAGE.partition("\n## ")[0])


def rows_of(text: str) -> dict[str, list[str]]:
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {name.strip(" `"): [cell.strip() for cell in cells] for name, *cells in lines}


def test_the_page_has_every_word_on_votes_and_what_is_voted_on() -> None:
    named = set(
        re.findall(r"^\| `([a-z_]+)` \| a (?:vote|message|block|rejected)", PAGE.partition("## Votes")[2], re.M)
    )
    assert named == {*VoteOutcome, *NoRoom, *REASONS, "votes_without_weight"}


def test_every_refusal_of_the_rules_is_reached_by_a_test() -> None:
    reached = set().union(*map(outcomes_asserted_in, sorted(HERE.glob("test_rules_*.py"))))
    assert reached == set(Outcome) - NOT_OF_THE_RULES


@pytest.mark.parametrize("kind", BlockType)
def test_every_type_has_a_page_of_tests_that_accept_and_that_refuse(kind: BlockType) -> None:
    page = "multisig" if kind in KEYSET_TYPES else kind.name.lower()
    calls = [
        node.func.id
        for node in ast.walk(ast.parse((HERE / f"test_rules_{page}.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert {"accepted", "refused"} <= set(calls)


def test_words_are_stable_snake_case_names() -> None:
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", item.value) and item.value == item.name.lower() for item in Outcome)


def test_the_page_has_every_outcome_in_order() -> None:
    assert list(rows()) == [item.value for item in Outcome]


@pytest.mark.parametrize("outcome", Outcome)
def test_the_page_says_what_it_means_what_to_do_and_what_it_costs(outcome: Outcome) -> None:
    meaning, advice, score = rows()[outcome.value]
    assert meaning
    assert advice
    assert score == ("loses score" if outcome in PROVABLY_BAD else "keeps its score")


def test_the_page_has_every_outcome_of_state_blocks_too() -> None:
    found = rows_of(PAGE.partition("\n## State blocks\n")[2].partition("\n## ")[0])
    assert list(found) == [item.value for item in StateOutcome]
    for word, (meaning, advice, score) in found.items():
        assert meaning
        assert advice
        assert score == ("loses score" if StateOutcome(word) in STATE_PROVABLY_BAD else "keeps its score")


def test_every_refusal_of_state_blocks_is_reached_by_a_test() -> None:
    text = (HERE / "test_state_chain.py").read_text(encoding="utf-8")
    reached = set(re.findall(r"StateOutcome\.([A-Z_]+)", text))
    assert reached == {item.name for item in StateOutcome} - {"PROGRESS", "BAD_FORMAT"}
