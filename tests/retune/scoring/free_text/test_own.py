"""A team's own metrics: found, refused by what is wrong with them, asked row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retune.digests import digest_folder
from retune.errors import ConfigError, ScoringError
from retune.recipe.sections.scoring import OwnMetricConfig
from retune.records import Source
from retune.scoring.free_text.own import OwnMetric, score_all
from retune.scoring.free_text.own_folders import locate_metric
from retune.scoring.free_text.shipped import Text

MODULE = """
import datasets
import evaluate

TEXT = datasets.Value("string")


class Own(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="",
            citation="",
            inputs_description="",
            features=datasets.Features({{"predictions": TEXT, "references": {references}}}),
        )

{body}
"""
COMPUTE = "    def _compute(self, predictions, references):\n        "
LISTS = "datasets.Sequence(TEXT)"
# Longer answers are worse, and one that asks back cannot be scored.
LENGTHS = (
    COMPUTE + "assert '?' not in predictions[0], 'asks back'\n        "
    "return {'words': len(predictions[0].split()) / len(references[0].split()), 'rows': 1}"
)


def write_metric(
    folder: Path, body: str, name: str = "house", references: str = "TEXT"
) -> tuple[Path, Source]:
    path = folder / name
    path.mkdir()
    text = MODULE.format(references=references, body=body)
    (path / f"{name}.py").write_text(text, "utf-8")
    return path, Source(digest=digest_folder(path), path=path)


def locate(**config: Any) -> Source:
    return locate_metric(OwnMetricConfig.model_validate(config), Path.absolute)


def test_a_metric_is_known_by_what_its_folder_holds(tmp_path: Path) -> None:
    """Moved, it is the same; changed, it is another."""
    path, source = write_metric(tmp_path, LENGTHS)
    assert locate(folder=path) == source
    (path / "words.txt").write_text("palavra", "utf-8")
    assert locate(folder=path).digest != source.digest


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "has no house.py"),
        ({"other.py": "x = 1"}, "other.py"),
        ({"house.py": "def ("}, "is no Python"),
        ({"house.py": "class House:\n    pass"}, r"its classes: House"),
        (None, "is no folder"),
    ],
)
def test_a_folder_without_a_metric_is_refused_by_what_it_lacks(
    tmp_path: Path, files: dict[str, str] | None, said: str
) -> None:
    """Before anything is scored, and without running its code."""
    folder = tmp_path / "house"
    if files is not None:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=said):
        locate(folder=folder)


def test_one_of_the_hub_is_refused_with_the_way_to_a_local_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no network here, and the cache does not have it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"hf download evaluate-metric/wer --repo-type space"):
        locate(hub="evaluate-metric/wer", revision="f" * 40)


def test_the_number_that_the_recipe_names_is_the_figure(tmp_path: Path) -> None:
    """2 words of 4; the metric returns two numbers, of which neither has its own name."""
    _, source = write_metric(tmp_path, LENGTHS)
    text = Text("a praia", ["o mar é azul"])
    assert OwnMetric("own_error.house", source, "words").score(text).value == 0.5
    unnamed = OwnMetric("own_error.house", source).score(text)
    assert unnamed.value is None
    assert "words, rows; name one of these as result" in str(unnamed.reason)


def test_of_several_references_the_best_counts_whichever_way_is_good(tmp_path: Path) -> None:
    """A metric that takes one reference is asked for each: 2 of 1 word and 2 of 4."""
    _, source = write_metric(tmp_path, LENGTHS)
    text = Text("a praia", ["mar", "o mar é azul"])
    assert OwnMetric("own_error.house", source, "words").score(text).value == 0.5
    assert OwnMetric("own_metric.house", source, "words").score(text).value == 2.0


def test_a_metric_of_lists_is_given_all_references_at_once(tmp_path: Path) -> None:
    body = COMPUTE + "return {'house': len(references[0])}"
    _, source = write_metric(tmp_path, body, references=LISTS)
    found = OwnMetric("own_metric.house", source)
    assert found.score(Text("a", ["b", "c"])).value == 2.0
    assert found.score(Text("a", ["b"])).value == 1.0


def test_a_row_on_which_it_raises_is_unscored_and_the_others_are_scored(tmp_path: Path) -> None:
    _, source = write_metric(tmp_path, LENGTHS)
    texts = [Text("a praia", ["o mar"]), Text("qual?", ["o mar"])]
    first, second = score_all(OwnMetric("own_error.house", source, "words"), texts)
    assert (first.value, first.reason) == (1.0, None)
    assert (second.value, second.reason) == (None, "AssertionError: asks back")


@pytest.mark.parametrize("value", ["float('nan')", "'good'", "None", "[1, 2]"])
def test_what_is_no_finite_number_leaves_its_row_unscored(tmp_path: Path, value: str) -> None:
    _, source = write_metric(tmp_path, COMPUTE + f"return {{'house': {value}}}")
    found = OwnMetric("own_metric.house", source).score(Text("a", ["b"]))
    assert found.value is None
    assert "expected a finite number" in str(found.reason)


def test_a_metric_that_fails_on_every_row_ends_the_stage(tmp_path: Path) -> None:
    """The base is scored before any training, so that none is paid for it."""
    _, source = write_metric(tmp_path, COMPUTE + "raise KeyError('lexicon')")
    with pytest.raises(ScoringError, match=r"failed on each of 2 rows; on the first: KeyError"):
        score_all(OwnMetric("own_metric.house", source), [Text("a", ["b"])] * 2)


def test_one_that_needs_the_network_is_refused_where_it_is_loaded(tmp_path: Path) -> None:
    """What `evaluate` lets a metric download comes when it is loaded, before any answer."""
    body = (
        "    def _download_and_prepare(self, dl_manager):\n"
        "        raise ConnectionError('no route to the hub')\n\n"
        + COMPUTE
        + "return {'house': 1.0}"
    )
    _, source = write_metric(tmp_path, body)
    with pytest.raises(ScoringError, match=r"no route to the hub. It has to load without network"):
        OwnMetric("own_metric.house", source)
