"""The pages say what is there: every setting, every file, every command that they name."""

import re
from pathlib import Path

import pytest

from tests.support.tree import ROOT
from xnode.config import LIMITS, Config, DataDir
from xnode_cmd.main import COMMANDS, cli

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def rows(page: str) -> dict[str, list[str]]:
    """The table rows of a page by what stands in backquotes in their first cell."""
    found = {}
    for line in (ROOT / "docs" / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if match := re.fullmatch(r"`([^`]+)`", cells[0]):
            found[match[1]] = cells
    return found


def as_toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


@pytest.mark.parametrize("name", Config._fields)
def test_every_setting_is_described(name: str) -> None:
    cells = rows("operating.md")[name]
    assert cells[1].strip("`") == as_toml(Config._field_defaults[name])
    if name in LIMITS:
        assert cells[2] == "{} to {}".format(*LIMITS[name])
    assert cells[3]


def test_no_setting_is_described_that_is_not_there() -> None:
    described = {name for name, cells in rows("operating.md").items() if len(cells) == 4}
    assert described == set(Config._fields)


def test_every_file_of_the_data_directory_is_described(tmp_path: Path) -> None:
    described = {name.rstrip("/") for name in rows("data-dir.md")}
    files = {path.name for name, path in vars(DataDir(tmp_path)).items() if name != "root"}
    assert files <= described


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_that_are_named_exist(page: Path) -> None:
    for path in re.findall(r"`((?:xnode|scripts|tests|docs)/[\w./-]+)[` ]", page.read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"(?:^|`)xnode ([a-z-]+)(?: ([a-z-]+))?(?: (--[a-z-]+))?", page.read_text(), re.MULTILINE)
    for command, subcommand, option in named:
        assert command in COMMANDS
        found = cli.get_command(None, command)  # type: ignore[arg-type]
        subcommands = getattr(found, "commands", {})
        if subcommands and subcommand:
            assert subcommand in subcommands, f"{command} {subcommand}"
            found = subcommands[subcommand]
        options = {name for parameter in getattr(found, "params", ()) for name in parameter.opts}
        assert not option or option in options, f"{command} {subcommand} {option}"


def test_the_glossary_is_in_order() -> None:
    lines = (ROOT / "docs" / "glossary.md").read_text().splitlines()
    words = [line.split("|")[1].strip().lower() for line in lines if line.startswith("| ")][1:]
    assert words == sorted(words)
