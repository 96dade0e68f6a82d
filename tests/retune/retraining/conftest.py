"""Logs of served requests, and what is read of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from retune.retraining.drift_records import RequestsRef
from retune.retraining.request_log import locate_log
from retune.retraining.requests import read_requests
from retune.retraining.stages import LogInputs, LogSettings
from tests.making import make_workdir

MakeRequests = Callable[..., RequestsRef]


@pytest.fixture
def make_requests(tmp_path: Path) -> MakeRequests:
    """Return a maker of requests as a log has them; lines in bytes are written as they are."""

    def make(lines: Sequence[Any], column: str = "prompt") -> RequestsRef:
        path = tmp_path / "log.jsonl"
        texts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines]
        path.write_bytes(b"\n".join(texts))
        log = locate_log(Path("log.jsonl"), path, 5000)
        assert log is not None
        number = len(list(tmp_path.glob("read*")))
        return read_requests(
            LogInputs(log=log, encoding=None),
            LogSettings(column=column),
            make_workdir(tmp_path / f"read{number}"),
        )

    return make
