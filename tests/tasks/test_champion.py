"""The champion: whether it can be compared, and how it is scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retune.errors import ConfigError
from retune.model_records import BaseRef, ChampionRef
from retune.modeling.head_files import HEAD_FILE
from retune.records import Source
from tasks import champion
from tasks.runs.job import Job
from tests.tasks.conftest import MakeJob, Told, labels_of, locate, with_rows


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChampionRef:
    """A version with a head for two classes, over the tokenizer of the base: MLflow names it."""
    for name in ("base", "head"):
        (tmp_path / name).mkdir()
    (tmp_path / "base" / "tokenizer.json").write_text("{}")
    (tmp_path / "head" / HEAD_FILE).write_text(json.dumps({"labels": ["bad", "good"]}))
    found = ChampionRef(
        digest="champion",
        version=3,
        weights=tmp_path / "base",
        tokenizer=tmp_path / "base",
        adapter=tmp_path / "head",
    )
    asked: list[str] = []

    def find(uri: str, name: str, digest: str, **_: Any) -> ChampionRef:
        asked.append(digest)
        return found

    monkeypatch.setattr(champion, "find_opponent", find)
    return found


@pytest.mark.usefixtures("tracking")
def test_without_a_registered_version_there_is_no_champion(make_job: MakeJob) -> None:
    """An empty registry refuses nothing, and nothing is scored."""
    job = make_job()
    champion.refuse_unlike_champion(job)
    assert champion.score_champion(job, None) is None and not job.run.lines


@pytest.mark.usefixtures("registered")
def test_a_champion_of_classes_needs_rows_with_labels(make_job: MakeJob) -> None:
    """The message names the version and what to do."""
    with pytest.raises(ConfigError, match=r"small version 3.*no source of rows has labels.*alias"):
        champion.refuse_unlike_champion(make_job())


def test_a_champion_with_other_tokens_is_compared_by_what_counts_none(
    make_job: MakeJob, registered: ChampionRef, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    """Said, and refused only where the recipe names a figure per token as what decides or guards.

    It is asked in its own template: that of the recipe was made for another family.
    """
    monkeypatch.setattr(champion, "compare_tokenizers", lambda *_: "other_tokens")
    monkeypatch.setattr(champion, "read_labels", lambda _: None)
    champion.refuse_unlike_champion(make_job())
    assert "version 3, the champion, reads other tokens" in told.notes[-1]
    for gate, named in (
        ({"metric": "perplexity"}, "gate.metric"),
        ({"guards": {"perplexity": 0.1}}, "gate.guards.perplexity"),
    ):
        with pytest.raises(ConfigError, match=f"{named} names a figure per token. Name bits"):
            champion.refuse_unlike_champion(make_job(gate=gate))
    asked: list[tuple[Any, Any]] = []

    def retokenize(job: Job, name: str, reader: BaseRef) -> Job:
        asked.append((job.inputs.template, reader.folder))
        return job

    monkeypatch.setattr(champion, "retokenize_rows", retokenize)
    monkeypatch.setattr(champion, "score_model", lambda *_: None)
    monkeypatch.setattr(champion, "tokenizer_digest", lambda _: "t")
    template = Source(digest="t", path=registered.weights)
    champion.score_champion(make_job(given={"template": template}), registered)
    assert asked == [(None, registered.tokenizer)]


@pytest.mark.usefixtures("registered")
def test_a_champion_of_other_classes_is_refused(make_job: MakeJob, tmp_path: Path) -> None:
    """The same classes in another order are the same; a plan without rows cannot tell yet."""
    job = make_job(locate(format_name="text_label"))
    champion.refuse_unlike_champion(job)
    champion.refuse_unlike_champion(with_rows(job, tmp_path, ("good", "bad")))
    with pytest.raises(ConfigError, match="for the labels bad, good, and the rows have a, b"):
        champion.refuse_unlike_champion(with_rows(job, tmp_path, ("b", "a")))


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("formats", "gate", "named"),
    [
        (["text_label"], {"guards": {"perplexity": 0.1}}, r"gate.guards.perplexity \(perplexity\)"),
        (["text_label"], {"metric": "bits_per_byte"}, r"gate.metric \(bits_per_byte\)"),
        (["text_label", "text_to_sql"], {}, r"gate.metric \(sql_execution_match\)"),
    ],
    ids=["guard", "figure that is named", "figure of other rows"],
)
def test_a_champion_of_classes_is_compared_by_what_it_has(
    make_job: MakeJob, formats: list[str], gate: dict[str, Any], named: str
) -> None:
    """A challenger that writes would be refused for ever, after each training."""
    with pytest.raises(ConfigError, match=f"{named}. It has macro_f1, accuracy, "):
        champion.refuse_unlike_champion(
            make_job(*(locate(format_name=each) for each in formats), gate=gate)
        )
    fits = make_job(locate(format_name="text_label"), gate={"guards": {"unscored_rate": 0.1}})
    champion.refuse_unlike_champion(fits)


def test_a_champion_that_reads_alike_is_asked_the_same_rows(
    make_job: MakeJob, registered: ChampionRef
) -> None:
    """Nothing is tokenized anew; its head is scored by classes."""
    job = make_job(locate(format_name="text_label"))
    champion.score_champion(job, registered)
    assert labels_of(job) == ["score_labels (champion)"]
