"""Processes that end with another one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.waiting import GUARD_SECONDS

_SCRIPT = """
import sys
from retune.spine.children import end_with_this_one
end_with_this_one(int(sys.argv[1]))
print("begun", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["killed", "at its end"])
def test_a_process_ends_with_another_one_however_that_ends(how: str) -> None:
    """Killed without a word or come to its end: the other one is asked to end, and not before."""
    with (
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]) as process,
        subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, str(process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as parent,
    ):
        assert parent.stdout is not None and parent.stdin is not None
        assert parent.stdout.readline() == b"begun\n"
        assert process.poll() is None
        if how == "killed":
            parent.kill()
        else:
            parent.stdin.close()
        assert process.wait(GUARD_SECONDS) < 0
