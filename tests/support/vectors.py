"""The one door to the vector files: whoever reads one through it is remembered, so that none can lie there unread.

Tests read their vectors when they are imported (`VECTORS = read_vectors("x.json")`): then a session that has collected
a module has also opened its files, whatever subset of the tests it runs afterwards.
"""

import json
from pathlib import Path
from typing import Any, Final

VECTORS_DIR: Final = Path(__file__).parents[1] / "vectors"
opened: Final[set[str]] = set()


def read_vectors(name: str) -> Any:
    """The JSON document tests/vectors/<name>; a missing file fails the test that wants it."""
    document = json.loads((VECTORS_DIR / name).read_text(encoding="utf-8"))
    opened.add(name)
    return document
