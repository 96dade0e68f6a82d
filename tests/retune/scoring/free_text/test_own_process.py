"""A team's metric that hangs, dies or prints costs a row, and never the run its time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from retune.errors import ScoringError
from retune.scoring.free_text import own_process
from retune.scoring.free_text.own import RowScore
from retune.scoring.free_text.own_process import MetricProcess
from retune.scoring.free_text.shipped import Text
from tests.retune.scoring.free_text.test_own import COMPUTE, write_metric

BODY = (
    COMPUTE
    + "said = predictions[0]\n        "
    + "print('a line among the answers')\n        "
    + "if said == 'hang':\n            __import__('time').sleep(3600)\n        "
    + "if said == 'die':\n            __import__('os')._exit(3)\n        "
    + "assert said != 'raise', 'no'\n        "
    + "return {'house': len(said)}"
)


@pytest.mark.slow
def test_a_metric_is_killed_where_it_hangs_and_scores_the_next_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process; what it prints is no answer, and one that dies besides is told of."""
    monkeypatch.setattr(own_process, "MOST_ENDED", 2)
    _, source = write_metric(tmp_path, BODY)
    with MetricProcess("own_metric.house", source) as metric:
        assert metric.score(Text("four", ["x"])).value == 4.0
        assert metric.score(Text("raise", ["x"])).reason == "AssertionError: no"
        monkeypatch.setattr(own_process, "ROW_SECONDS", 0.2)
        metric._row_seconds = 0.2
        assert metric.score(Text("hang", ["x"])).reason == "took over 0.2 s"
        monkeypatch.setattr(own_process, "ROW_SECONDS", 60.0)
        metric._row_seconds = 60.0
        assert metric.score(Text("fives", ["x"])).value == 5.0
        told = re.escape("ended its process: it died (exit status 3), on the last of 2 rows")
        with pytest.raises(ScoringError, match=told):
            metric.score(Text("die", ["x"]))
    assert not metric._process.is_running


@pytest.mark.slow
def test_a_metric_can_ask_the_pipelines_that_its_process_starts_without(tmp_path: Path) -> None:
    """They are most of what `evaluate` imports; refused to it alone, not to what comes after."""
    name = "transformers.pipelines"
    body = f"asked = '{name}' in __import__('sys').modules\n        "
    body += f"__import__('importlib').import_module('{name}').check_task('fill-mask')\n        "
    _, source = write_metric(tmp_path, COMPUTE + body + "return {'house': float(asked)}")
    with MetricProcess("own_metric.house", source) as metric:
        assert metric.score(Text("four", ["x"])) == RowScore(0.0)


@pytest.mark.slow
def test_a_metric_that_cannot_be_loaded_is_told_as_it_says(tmp_path: Path) -> None:
    _, source = write_metric(tmp_path, COMPUTE + "return {'house': 1.0}")
    (source.path / "house.py").write_text("import no_such_package\n", "utf-8")
    with pytest.raises(ScoringError, match=r"cannot be loaded: .*no_such_package"):
        MetricProcess("own_metric.house", source)
