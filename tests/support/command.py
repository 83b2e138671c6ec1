"""Running the command line: inside this process where nothing but its words matter, else as a process of its own."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from xnode_cmd.main import cli


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


def invoke(*words: str | Path, said: str = "") -> Ended:
    """Runs `xnode WORDS...` in this process, with what is `said` to it."""
    result = CliRunner().invoke(cli, [str(word) for word in words], input=said)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


def xnode_words(*words: str | Path) -> list[str]:
    """The command line of `xnode WORDS...` as a process."""
    return [sys.executable, "-m", "xnode_cmd.main", *[str(word) for word in words]]


def spawn(*words: str | Path, data: bytes = b"", seconds: float = 30) -> subprocess.CompletedProcess[bytes]:
    """Runs `xnode WORDS...` as a process to its end."""
    return subprocess.run(xnode_words(*words), input=data, capture_output=True, timeout=seconds, check=False)
