"""`xnode run`: what it does before the node."""

import resource
import subprocess
import sys

import pytest

from xnode_cmd.run import OPEN_FILES

SCRIPT = """
import resource, sys
from xnode_cmd.run import raise_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
raise_open_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard", "expected"), [(256, 900, (900, 900)), (700, 700, (700, 700))])
def test_it_may_open_as_many_files_as_the_host_allows(soft: int, hard: int, expected: tuple[int, int]) -> None:
    words = [sys.executable, "-c", SCRIPT, str(soft), str(hard)]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)
    assert tuple(map(int, ended.stdout.split())) == expected


def test_it_takes_no_more_than_it_needs() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    words = [sys.executable, "-c", SCRIPT, "256", str(hard)]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(ended.stdout.split()[0]) == (OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard))
