"""docs/rules.md names tests that exist, for both sides of every rule."""

import re
from pathlib import Path

import pytest

from xnode.core.blocks import BlockType

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and " | " in line]
RULES = [row for row in ROWS if row[0] != "rule"]
NAMED = re.compile(r"`([a-z]+)/([a-z_]+): ([a-z0-9_]+)`")


@pytest.mark.parametrize("row", RULES, ids=lambda row: row[0][:60])
def test_a_rule_names_tests_that_accept_and_that_refuse(row: list[str]) -> None:
    _, *sides = row
    assert len(sides) == 2
    for side in sides:
        tests = NAMED.findall(side)
        assert tests
        assert NAMED.sub("", side).strip(", ") == ""
        for room, page, name in tests:
            text = (ROOT / "tests" / room / f"test_{page}.py").read_text(encoding="utf-8")
            assert re.search(rf"^ *(async )?def test_{name}\(", text, re.MULTILINE), f"{room}/{page}: {name}"


def test_every_type_of_block_and_every_section_is_on_the_page() -> None:
    headings = " ".join(re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE))
    assert [kind.name.lower() for kind in BlockType if kind.name.lower() not in headings] == []
    assert len(RULES) > 60
