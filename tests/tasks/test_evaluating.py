"""Models side by side: their names, the weights that they stand on, and what is told of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retune.errors import ConfigError
from retune.model_records import BaseRef
from retune.resolving import EvaluatedModel
from tasks import evaluating
from tests.tasks.conftest import MakeJob, MakeRun, Told, labels_of
from tests.tasks.conftest import make_model as make_quantized
from tests.tiny_models import write_snapshot


def make_model(folder: Path, name: str = "base", **changes: Any) -> EvaluatedModel:
    """Return a model over the weights of a folder."""
    base = BaseRef(digest=name, folder=folder, model_id="m", revision=None, tokenizer_digest="t")
    return EvaluatedModel(
        name=name, kind="base", scored=base.as_scored(), tokenizer=base, **changes
    )


@pytest.fixture
def resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finds any model under the last part of its name."""

    def resolve(text: str, *_: Any) -> EvaluatedModel:
        doubt = "of another model?" if text.startswith("doubtful/") else None
        return make_model(tmp_path, text.rpartition("/")[2], doubt=doubt)

    monkeypatch.setattr(evaluating, "resolve_model", resolve)


@pytest.mark.usefixtures("resolved")
def test_models_of_one_name_are_told_apart(make_run: MakeRun, told: Told) -> None:
    """Two folders may be called alike; a doubt is a note."""
    found = evaluating.find_models(make_run(), ["a/x", "base", "doubtful/x", "c/x"])
    assert [each.name for each in found] == ["x", "base", "x (2)", "x (3)"]
    assert told.notes[-1] == "of another model?"


def test_no_model_is_an_error(make_run: MakeRun) -> None:
    """It says what to name."""
    with pytest.raises(ConfigError, match="such as base"):
        evaluating.find_models(make_run(), [])


def test_a_model_that_reads_alike_gets_the_rows_as_they_are(
    make_job: MakeJob, tmp_path: Path
) -> None:
    """Nothing is tokenized anew."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "tokenizer.json").write_text("{}")
    job = make_job()
    assert evaluating.prepare_for(job, make_model(tmp_path / "base")) == (job, "alike")


@pytest.mark.parametrize(
    ("adapter", "kind", "folder"), [("a", "none", "own"), (None, "nf4", "own"), ("a", "nf4", "nf4")]
)
def test_an_adapter_of_a_quantized_recipe_is_scored_over_quantized_weights(
    make_job: MakeJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    adapter: str | None,
    kind: str,
    folder: str,
) -> None:
    """As the run that trained it does; any other model stands as it is."""
    quantized = make_quantized(tmp_path / "nf4").model_copy(update={"quantization": "nf4"})
    monkeypatch.setattr(evaluating, "quantize_model", lambda *_, **__: quantized)
    model = make_model(tmp_path / "own", adapter_digest=adapter)
    found = evaluating.put_on_weights(make_job(quantization={"kind": kind}), model)
    assert found.scored.weights == tmp_path / folder
    assert (found is model) == (folder == "own")


def test_a_candidate_says_where_its_parts_lie(make_job: MakeJob, tmp_path: Path) -> None:
    """An adapter on what; its stages bear the model's own name."""
    job, base = make_job(), make_model(tmp_path, "mine")
    on_top = base.scored.model_copy(update={"adapter": tmp_path / "adapter"})
    found = evaluating.score_candidate(job, replace(base, scored=on_top), "other_template")
    assert found.place == f"{tmp_path / 'adapter'} on m" and found.likeness == "other_template"
    assert labels_of(job)[:2] == ["score_perplexity (mine)", "score_general_text (mine)"]


@pytest.mark.parametrize("digest", [None, "a"])
def test_an_adapter_is_held_where_the_plan_holds_adapters(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: str | None
) -> None:
    """Not where the base is: layers under an adapter are not offloaded."""
    given: dict[str, Any] = {}
    scores = SimpleNamespace(digest="s")
    monkeypatch.setattr(evaluating, "score_model", lambda *_, **more: given.update(more) or scores)
    monkeypatch.setattr(evaluating, "ScoredCandidate", SimpleNamespace)
    evaluating.score_candidate(make_job(), make_model(tmp_path, adapter_digest=digest), "alike")
    assert given == {"adapted": digest is not None}


def test_a_model_whose_template_knows_no_effort_is_refused_by_name(tmp_path: Path) -> None:
    """Without an effort it is welcome; and an effort is named once."""
    folder = write_snapshot(tmp_path / "llama", "llama")
    model: Any = SimpleNamespace(name="their-model", tokenizer=SimpleNamespace(folder=folder))
    job: Any = SimpleNamespace(inputs=SimpleNamespace(template=None))
    evaluating.refuse_unknown_efforts(job, [model], [])
    with pytest.raises(ConfigError, match="template of their-model knows no reasoning_effort"):
        evaluating.refuse_unknown_efforts(job, [model], ["low", "high"])
    with pytest.raises(ConfigError, match="expected each effort once"):
        evaluating.refuse_unknown_efforts(job, [model], ["low", "low"])
