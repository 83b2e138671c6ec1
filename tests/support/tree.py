"""The project's own source as parsed trees, for the tidy test."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SOURCE_FOLDERS = ("xnode", "cmd", "tests", "scripts", ".ci")
SOURCE_ENDINGS = {".py", ".sh", ".mjs", ""}
SKIPPED_FOLDERS = {"__pycache__", "node_modules"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source(NamedTuple):
    """One source file: its path from the root, its dotted module name ("" for a script) and its lines."""

    path: str
    module: str
    lines: tuple[str, ...]

    @property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return _parse("\n".join(self.lines), self.path)

    @property
    def room(self) -> str:
        """The second word of the module: "xnode.core.lease" is of "core", "xnode.node" is "node"."""
        words = self.module.split(".")
        return words[0] if words[0] != "xnode" else (*words, "")[1]


@cache
def _parse(text: str, path: str) -> ast.Module:
    return ast.parse(text, path)


@cache
def sources() -> tuple[Source, ...]:
    """Every source file that is ours, scripts and tests included."""
    return tuple(
        Source(path.relative_to(ROOT).as_posix(), _module_of(path), tuple(path.read_text().splitlines()))
        for folder in SOURCE_FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and path.suffix in SOURCE_ENDINGS and not SKIPPED_FOLDERS.intersection(path.parts)
    )


@cache
def python_sources() -> tuple[Source, ...]:
    """The Python files, tests included."""
    return tuple(source for source in sources() if source.path.endswith(".py"))


@cache
def product_sources() -> tuple[Source, ...]:
    """The Python files that run in a node or in its command line."""
    return tuple(source for source in python_sources() if source.path.startswith(("xnode/", "cmd/")))


def _module_of(path: Path) -> str:
    words = list(path.relative_to(ROOT).with_suffix("").parts)
    if words[-1] == "__init__":
        words.pop()
    if words and words[0] == "cmd":
        words[0] = "xnode_cmd"
    return ".".join(words) if path.suffix == ".py" else ""


def functions(source: Source) -> Iterator[Function]:
    """Every function and method of a file, inner ones too."""
    return (node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def line_count(function: Function) -> int:
    """Lines from `def` to the last one, the docstring included."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def imports(source: Source) -> Iterator[tuple[str, int]]:
    """Every imported name with its line; `from a import b` gives "a.b"."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = source.module.split(".")[: -node.level + source.path.endswith("__init__.py") or None]
                base = ".".join([*package, base]).strip(".")
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def imported_modules(source: Source, known: frozenset[str]) -> Iterator[tuple[str, int]]:
    """The modules of ours that a file imports, each with its line."""
    for name, line in imports(source):
        while name and name not in known:
            name = name.rpartition(".")[0]
        if name:
            yield name, line


def cycle_among(edges: dict[str, set[str]]) -> list[str]:
    """Some path that ends where it began, or an empty list."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for following in sorted(edges.get(node, ())):
            if found := visit(following, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(edges) if (found := visit(node, []))), [])
