"""`retune ui`: both dashboards answer, and nothing is left when it is stopped."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from tests.flows.conftest import environment
from tests.waiting import GUARD_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.service]


def test_both_dashboards_answer_until_they_are_stopped(tmp_path: Path) -> None:
    """The two printed addresses give pages; after SIGTERM no process of either is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "retune.cli", "ui", "--store", str(tmp_path / "store")],
        stdout=subprocess.PIPE,
        text=True,
        env={**environment(tmp_path, own_server=True), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    addresses = []
    for line in process.stdout:
        addresses += re.findall(r"http://127\.0\.0\.1:\d+", line)
        if "Ctrl-C" in line:
            break
    assert len(addresses) == 2
    for address in addresses:
        page = httpx.get(address, timeout=GUARD_SECONDS, follow_redirects=True)
        assert page.is_success and "<html" in page.text.lower()
    servers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(GUARD_SECONDS) == 0
    _, alive = psutil.wait_procs(servers, timeout=GUARD_SECONDS)
    assert alive == []
