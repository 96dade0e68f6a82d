"""The champion: whether it can be compared, and how it is scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retune.errors import ConfigError
from retune.modeling.head_files import HEAD_FILE
from retune.records import ChampionRef
from tasks import champion
from tests.tasks.conftest import MakeJob, labels_of, locate, with_rows


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


@pytest.mark.usefixtures("registered")
def test_a_champion_of_other_classes_is_refused(make_job: MakeJob, tmp_path: Path) -> None:
    """The same classes in another order are the same; a plan without rows cannot tell yet."""
    job = make_job(locate(format_name="text_label"))
    champion.refuse_unlike_champion(job)
    champion.refuse_unlike_champion(with_rows(job, tmp_path, ("good", "bad")))
    with pytest.raises(ConfigError, match="for the labels bad, good, and the rows have a, b"):
        champion.refuse_unlike_champion(with_rows(job, tmp_path, ("b", "a")))


def test_a_champion_that_reads_alike_is_asked_the_same_rows(
    make_job: MakeJob, registered: ChampionRef
) -> None:
    """Nothing is tokenized anew; its head is scored by classes."""
    job = make_job(locate(format_name="text_label"))
    champion.score_champion(job, registered)
    assert labels_of(job) == ["score_labels (champion)"]
