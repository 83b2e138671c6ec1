"""The rules of the house that a machine can check: sizes, floors, owners of libraries, docstrings, broad excepts."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from statistics import median

import pytest

from tests.support.tree import (
    ROOT,
    Source,
    cycle_among,
    functions,
    imported_modules,
    imports,
    line_count,
    product_sources,
    python_sources,
    sources,
)

FILE_LINES_MAX = 500
FILE_LINES_MEDIAN = 200
FUNCTION_LINES_MAX = 70
FUNCTION_LINES_MEDIAN = 10

# A room imports from lower floors, and from its own room; rooms of one floor don't know each other.
FLOORS = {
    "": 0,  # xnode itself: its version
    "core": 0,
    "config": 1,
    "loop_watch": 1,
    "checking": 2,
    "store": 2,
    "pow": 2,
    "net": 2,
    "vm": 2,
    "roles": 3,
    "api": 4,
    "service": 5,  # what the API calls, done on the roles
    "node": 6,
    "xnode_cmd": 7,  # the entry point: `xnode run` starts the node; nobody imports it
}

# What core may import, besides itself: nothing that knows a clock, socket, disk, thread, log or randomness.
CORE_LIBRARIES = {
    *("abc", "bisect", "collections", "contextlib", "dataclasses", "enum", "functools", "heapq", "itertools"),
    *("json", "operator", "re", "struct", "tomllib", "typing"),
    *("blake3", "msgpack", "nacl"),
}
CORE_BUILTINS_FORBIDDEN = {"open", "print", "input", "exec", "eval", "breakpoint"}

# The only room that knows a library.
LIBRARY_ROOMS = {
    "plyvel": "store",
    "libp2p": "net",
    "multiaddr": "net",
    "noise": "net",
    "starlette": "api",
    "uvicorn": "api",
    "httptools": "api",
    "qemu": "vm",
    "asyncssh": "vm",
    "pycdlib": "vm",
}

# The task supervisor, the HTTP edge, the peer-message edge and, likewise, what a guest says to an SSH client:
# only here may an except be broad, each with its reason.
BROAD_EXCEPT_FILES = {
    "xnode/api/edge.py",
    "xnode/net/gossip_guard.py",
    "xnode/net/hardening.py",
    "xnode/net/hardening_service.py",
    "xnode/net/hardening_swarm.py",
    "xnode/net/network.py",
    "xnode/vm/shell.py",
}

REASON = re.compile(r"#(?! noqa)|# noqa: [A-Z0-9, ]+ \W*[a-z]")

FOREIGN_BASES_WITHOUT_METHODS = {"NamedTuple", "ABC", "Protocol", "Generic", "Enum", "IntEnum", "StrEnum", "object"}


def fail_on(offenders: list[str], rule: str) -> None:
    """Fails with the rule and every place that breaks it."""
    if offenders:
        pytest.fail("\n  ".join([f"{rule}:", *offenders]), pytrace=False)


def test_files_are_short() -> None:
    long = [f"{s.path}: {len(s.lines)} lines" for s in sources() if len(s.lines) > FILE_LINES_MAX]
    fail_on(long, f"no file has more than {FILE_LINES_MAX} lines; split it by nouns")


@pytest.mark.parametrize("kind", ["product", "tests"])
def test_the_median_file_is_short(kind: str) -> None:
    chosen = product_sources() if kind == "product" else set(python_sources()) - set(product_sources())
    assert median(len(source.lines) for source in chosen) < FILE_LINES_MEDIAN


def test_functions_are_short() -> None:
    long = [
        f"{source.path}:{function.lineno} {function.name}: {line_count(function)} lines"
        for source in python_sources()
        for function in functions(source)
        if line_count(function) > FUNCTION_LINES_MAX
    ]
    fail_on(long, f"no function has more than {FUNCTION_LINES_MAX} lines")


def test_the_median_function_is_short() -> None:
    counts = [line_count(function) for source in product_sources() for function in functions(source)]
    assert median(counts) < FUNCTION_LINES_MEDIAN


def module_names() -> frozenset[str]:
    return frozenset(source.module for source in product_sources())


def room_of(module: str) -> str:
    return Source("", module, ()).room


def floor_of(room: str) -> int:
    return FLOORS.get(room, 0)  # an unknown room is told by the next test


def test_every_room_has_a_floor() -> None:
    unknown = [source.path for source in product_sources() if source.room not in FLOORS]
    fail_on(unknown, "every room has a floor in FLOORS of this file")


def test_imports_go_down_only() -> None:
    offenders = [
        f"{source.path}:{line} imports {module}"
        for source in product_sources()
        for module, line in imported_modules(source, module_names())
        if (room := room_of(module)) != source.room and floor_of(room) >= floor_of(source.room) and room != ""
    ]
    fail_on(
        offenders,
        "a room imports from lower floors only: core <- store, pow, net, vm <- roles <- api <- service <- node <- cmd",
    )


def test_imports_make_no_circle() -> None:
    edges = {
        source.module: {module for module, _ in imported_modules(source, module_names())} - {source.module}
        for source in product_sources()
    }
    cycle = cycle_among(edges)
    assert not cycle, "imports run in a circle: " + " -> ".join(cycle)


def test_core_is_pure() -> None:
    core = [source for source in product_sources() if source.room == "core"]
    offenders = [
        f"{source.path}:{line} imports {name}"
        for source in core
        for name, line in imports(source)
        if name.split(".")[0] not in CORE_LIBRARIES and not name.startswith("xnode.core.")
    ]
    offenders += [
        f"{source.path}:{node.lineno} calls {node.func.id}"
        for source in core
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CORE_BUILTINS_FORBIDDEN
    ]
    fail_on(offenders, "core knows no clock, socket, disk, thread, log or randomness: they come in as arguments")


def test_each_library_is_known_to_one_room() -> None:
    offenders = [
        f"{source.path}:{line} imports {name}, which is for xnode/{LIBRARY_ROOMS[library]} only"
        for source in product_sources()
        for name, line in imports(source)
        if (library := name.split(".")[0]) in LIBRARY_ROOMS and source.room != LIBRARY_ROOMS[library]
    ]
    fail_on(offenders, "each of these libraries is known to one room only")


@pytest.mark.parametrize(
    ("proof", "home"), [("EndProof", "xnode/core/lease.py"), ("OrphanProof", "xnode/core/orphan.py")]
)
def test_only_the_ledger_makes_proofs_of_an_end(proof: str, home: str) -> None:
    makers = [
        f"{source.path}:{node.lineno}"
        for source in product_sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == proof
    ]
    fail_on([m for m in makers if not m.startswith(f"{home}:")], f"only {home} makes an {proof}")
    assert makers, f"{home} no longer makes an {proof}: this test has lost its object"


def test_what_the_dao_may_change_is_asked_of_the_charter() -> None:
    """Rates and timekeepers of the genesis hold only until a state block changes them."""
    homes = ("xnode/core/genesis.py", "xnode/core/charter.py", "cmd/double_spend_story.py")  # a network of minutes
    offenders = [
        f"{source.path}:{node.lineno} reads genesis.{node.attr}"
        for source in product_sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("rates", "timekeepers", "dao")
        and ast.unparse(node.value).split(".")[-1].lstrip("_") == "genesis"
        and source.path not in homes
    ]
    fail_on(offenders, "rates, timekeepers and the DAO's keys are asked of charter_at, not of the genesis")


def is_broad(node: ast.AST) -> bool:
    """Whether a handler or a `suppress(...)` swallows every exception; one that ends in `raise` cleans up only."""
    if isinstance(node, ast.ExceptHandler):
        if isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None:
            return False
        caught = [node.type] if node.type else None
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
        caught = list(node.args)
    else:
        return False
    names = caught and {ast.unparse(part) for one in caught for part in getattr(one, "elts", [one])}
    return names is None or bool(names & {"Exception", "BaseException"})


def test_broad_excepts_stand_at_the_edges_with_their_reason() -> None:
    offenders = []
    for source in product_sources():
        for node in ast.walk(source.tree):
            if not is_broad(node):
                continue
            line = node.lineno  # type: ignore[attr-defined]
            commented = any(REASON.search(source.lines[index]) for index in (line - 1, line - 2))
            if source.path not in BROAD_EXCEPT_FILES or not commented:
                offenders.append(f"{source.path}:{line}" + ("" if commented else " without its reason as a comment"))
    fail_on(
        offenders,
        "a broad except stands only at a task, HTTP, peer- or guest-message edge (BROAD_EXCEPT_FILES), with its reason",
    )


def class_index() -> dict[str, ast.ClassDef]:
    return {
        node.name: node
        for source in product_sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
    }


def inherits(cls: ast.ClassDef, method: str, classes: dict[str, ast.ClassDef]) -> bool:
    """Whether a base says what the method does: one of ours that has it, or a library's class."""
    for base in cls.bases:
        name = ast.unparse(base).split("[")[0].split(".")[-1]
        known = classes.get(name)
        if known is None:
            if name not in FOREIGN_BASES_WITHOUT_METHODS:
                return True
        elif any(getattr(node, "name", "") == method for node in known.body) or inherits(known, method, classes):
            return True
    return False


def undocumented(source: Source, classes: dict[str, ast.ClassDef]) -> Iterator[str]:
    if not ast.get_docstring(source.tree):
        yield f"{source.path}:1 the module"
    for node in source.tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield f"{source.path}:{node.lineno} {node.name}"
        for member in node.body if isinstance(node, ast.ClassDef) else []:
            if not isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) or member.name.startswith("_"):
                continue
            assert isinstance(node, ast.ClassDef)
            if any(ast.unparse(decorator).endswith(".setter") for decorator in member.decorator_list):
                continue
            if not ast.get_docstring(member) and not inherits(node, member.name, classes):
                yield f"{source.path}:{member.lineno} {node.name}.{member.name}"


def test_public_things_have_docstrings() -> None:
    classes = class_index()
    missing = [place for source in product_sources() for place in undocumented(source, classes)]
    fail_on(missing, "every public module, class, function and method has a docstring")


def test_every_package_is_installed() -> None:
    """An editable installation finds those too that the list lacks; an ordinary one does not."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = {str(file.parent.relative_to(ROOT)).replace("/", ".") for file in (ROOT / "xnode").rglob("*.py")}
    assert set(named) == found | {"xnode_cmd"}


def test_cmd_does_not_hide_the_standard_library() -> None:
    assert not (ROOT / "cmd" / "__init__.py").exists(), "pdb and pytest need the standard library's module `cmd`"
    program = "import cmd; cmd.Cmd; import xnode_cmd.main"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_tests_are_no_package() -> None:
    fail_on(
        [s.path for s in sources() if s.path.endswith("__init__.py") and s.path.startswith("tests/")],
        "no __init__.py here",
    )
