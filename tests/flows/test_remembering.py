"""What a version leaves for later ones: its manifest, and the rows that stay held out."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import finetune
from flows.preparing import prepare_job
from retune.cli.runs.reproducing import reproduce_version
from retune.data.tables import read_rows
from retune.digests import digest_file, digest_tree
from retune.errors import ConfigError, DataError
from retune.inputs import locate_inputs
from retune.recipe.loading import load_recipe
from retune.registry.versions.finding import CHAMPION
from retune.registry.versions.manifests import (
    fetch_adapter,
    manifest_path,
    read_manifest,
    rows_path,
)
from retune.spine.store import Store
from retune.tracking import connect, default_uri
from retune.tracking.addresses import sqlite_path
from retune.watching import StageLine
from tasks.reporting import write_report_on_data
from tasks.runs.job import Job
from tasks.runs.opening import prepare_run
from tasks.starting import choose_start
from tests.flows.conftest import (
    TEST_ROWS,
    TRAIN_ROWS,
    copy_project,
    environment,
    last_json,
    retune,
)
from tests.preloading import run_command
from tests.serving import prefect_address
from tests.tiny_models import REPOSITORY
from tests.waiting import GUARD_SECONDS

pytestmark = pytest.mark.slow

NEW_ROWS = 16
Finished = tuple[Path, dict[str, Any]]


def folder_of(recipe: Path) -> Path:
    return recipe.parent / ".retune" / "manifests"


def promote(recipe: Path, version: int) -> None:
    client = connect(default_uri(recipe.parent / ".retune"))
    client.set_registered_model_alias("small", CHAMPION, str(version))


def prepare(recipe: Path, *overrides: str) -> Job:
    """Take a recipe's rows to chats in this process, with version 1 as champion."""
    promote(recipe, 1)
    loaded = load_recipe(recipe, overrides)
    run = prepare_run(loaded, direct=True)
    return prepare_job(run, locate_inputs(loaded, with_weights=False))


def test_a_manifest_names_what_a_version_was_made_of(finished: Finished) -> None:
    """Rows of each side, sources, stages, the released model and the decision, as the run has."""
    recipe, summary = finished
    found = read_manifest(default_uri(recipe.parent / ".retune"), "small", 1, folder_of(recipe))
    assert found is not None
    keys = {StageLine.model_validate(line).label: line["key"] for line in summary["stages"]}
    assert found.stages == keys and found.digests.keys() == keys.keys()
    assert found.adapter_stage == "train_adapter" and found.started_from is None
    assert found.released == found.digests["merge_adapter"]
    assert found.decision.model_dump(mode="json") == summary["decision"]
    assert found.seeds == {"seed": 7, "split.seed": 7}
    assert found.recipe == load_recipe(recipe).recipe.model_dump(mode="json")
    assert set(found.sources) >= {"data/train.jsonl", "data/test.jsonl", "data.databases", "probes"}
    assert str(recipe.parent) not in found.model_dump_json()
    assert found.libraries["torch"] and found.machine["python"]
    sides = {name: each.rows for name, each in found.sides.items()}
    assert sides["test"] == TEST_ROWS and sides["train"] + sides["validation"] <= TRAIN_ROWS
    rows = read_rows(rows_path(folder_of(recipe), "small", 1))
    held_out = [row["row_id"] for row in rows if row["side"] == "test"]
    lines = (recipe.parent / "data" / "test.jsonl").read_text("utf-8").splitlines()
    assert len(set(held_out)) == len(lines) == TEST_ROWS


def test_a_lost_manifest_and_the_adapter_come_back_from_mlflow(
    finished: Finished, project: Path
) -> None:
    """Manifest, rows and adapter are artifacts of the version's run."""
    uri, folder = default_uri(project.parent / ".retune"), folder_of(project)
    expected = json.loads(manifest_path(folder, "small", 1).read_bytes())
    shutil.rmtree(folder)
    found = read_manifest(uri, "small", 1, folder)
    assert found is not None and found.model_dump(mode="json") == expected
    assert rows_path(folder, "small", 1).is_file()
    adapter = fetch_adapter(uri, "small", 1, folder)
    key = next(x["key"] for x in finished[1]["stages"] if x["name"] == "train_adapter")
    trained = project.parent / ".retune" / "train_adapter" / key
    assert adapter is not None
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert digest_file(adapter / name) == digest_file(trained / name)


def test_rows_are_known_from_before_an_alias_moves_and_the_rest_once_the_run_is_repeated(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the registration and the manifest; MLflow has not got it either."""
    uri, folder = default_uri(project.parent / ".retune"), folder_of(project)
    expected = read_rows(rows_path(folder, "small", 1))
    shutil.rmtree(folder)
    run_id = connect(uri).get_model_version("small", "1").run_id
    artifacts = project.parent / "artifacts"
    with closing(sqlite3.connect(sqlite_path(uri))) as database, database:
        where = (artifacts.as_uri(), run_id)
        database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", where)
    run = prepare_run(load_recipe(project), direct=True)
    monkeypatch.setattr(finetune, "remember_version", die)
    # What is reported on the way goes to Prefect.
    with temporary_settings({PREFECT_API_URL: prefect_address()}), pytest.raises(KeyboardInterrupt):
        finetune.train_challenger(run)

    (kept,) = (folder / "small").iterdir()
    known = prepare(project).data.earlier
    assert known == kept and read_rows(kept) == expected

    last_json(retune(project, "--json"))
    assert read_manifest(uri, "small", 1, folder) is not None
    sent = {each.name for each in (artifacts / "manifest").iterdir()}
    assert sent == {"1.json", "1.rows.parquet"}
    assert prepare(project).data.earlier == rows_path(folder, "small", 1)


def die(*arguments: Any, **options: Any) -> None:
    raise KeyboardInterrupt


def test_a_manifest_of_another_model_of_this_number_does_not_count(project: Path) -> None:
    """After a registry began anew, version 1 is another model than the local file says."""
    uri, folder = default_uri(project.parent / ".retune"), folder_of(project)
    path = manifest_path(folder, "small", 1)
    path.write_text(path.read_text().replace('"released": "', '"released": "0'))
    found = read_manifest(uri, "small", 1, folder)
    assert found is not None and not found.released.startswith("0" * 2)
    assert found.released == found.digests["merge_adapter"]


@pytest.fixture(scope="module")
def continued(
    finished: Finished, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Version 2 of the project, from more rows and version 1's adapter; both became champion."""
    project = tmp_path_factory.mktemp("continued") / "project"
    copy_project(finished[0].parent, project)
    recipe = project / "recipe.yaml"
    lines = (REPOSITORY / "assets" / "text_to_sql_pt" / "train.jsonl").read_text("utf-8")
    more = "".join(lines.splitlines(keepends=True)[: TRAIN_ROWS + NEW_ROWS])
    (project / "data" / "train.jsonl").write_text(more, "utf-8")
    recipe.write_text(recipe.read_text("utf-8") + "retrain:\n  start_from: champion\n", "utf-8")
    promote(recipe, 1)
    summary = last_json(retune(recipe, "--json"))
    # As the gate would have it: a model of four steps on eight rows cannot show a gain.
    promote(recipe, 2)
    return recipe, summary


def test_training_goes_on_from_the_champion_s_adapter(
    finished: Finished, continued: Finished
) -> None:
    """It starts at version 1's weights, on the new rows and three of ten from the old."""
    recipe, summary = continued
    store = Store(recipe.parent / ".retune")
    found = read_manifest(default_uri(store.root), "small", 2, folder_of(recipe))
    assert summary["registered"]["version"] == 2
    assert found is not None and found.started_from == 1
    keys = {line["name"]: line["key"] for line in summary["stages"]}
    adapter = store.manifest("train_adapter", keys["train_adapter"]).record
    first = next(x["key"] for x in finished[1]["stages"] if x["name"] == "train_adapter")
    names = ("adapter_config.json", "adapter_model.safetensors")
    trained = {name: digest_file(store.folder("train_adapter", first) / name) for name in names}
    assert adapter["started_from"] == digest_tree(trained)
    learned = read_rows(store.folder("replay_rows", keys["replay_rows"]) / "train" / "rows.parquet")
    before = {
        row["content"]
        for row in read_rows(rows_path(folder_of(recipe), "small", 1))
        if row["side"] == "train"
    }
    contents = {
        row["row_id"]: row["content"] for row in read_rows(rows_path(folder_of(recipe), "small", 2))
    }
    seen = sum(contents[row["row_id"]] in before for row in learned)
    new = len(learned) - seen
    assert 0 < new <= NEW_ROWS and seen == round(new * 0.3 / 0.7)


def test_a_repeated_run_starts_where_it_started(continued: Finished) -> None:
    """Its own model is champion now, and all of its stages are found again."""
    planned = last_json(retune(continued[0], "--json", command="plan"))["stages"]
    assert [line["name"] for line in planned if line["state"] != "hit"] == []
    assert [line["key"] for line in planned] == [line["key"] for line in continued[1]["stages"]]


def test_a_version_is_made_again_bit_for_bit(continued: Finished) -> None:
    """In a fresh store every stage of version 2 makes what it made, its start included."""
    recipe = continued[0]
    done = run_command(
        "retune.cli",
        ["reproduce", "small", "2", "--json"],
        folder=recipe.parent,
        environment=environment(recipe.parent),
        timeout=GUARD_SECONDS,
    )
    found = last_json(done)
    assert found["equal"] and found["differs_from"] is None and found["figures"] == []
    labels = {StageLine.model_validate(line).label for line in continued[1]["stages"]}
    made = {each["label"] for each in found["stages"]}
    # What rests on a champion, and what is asked of this machine, is not made again.
    assert {"replay_rows", "train_adapter", "merge_adapter", "score_sql (merged)"} <= made
    left = {"decide", "register_model", "estimate_training"}
    assert labels - made - left == {name for name in labels if name.endswith("(champion)")}


def test_changed_sources_are_named_before_anything_runs(project: Path) -> None:
    """Each file that is no longer what the version was made of is in the message."""
    for name in ("data/train.jsonl", "probes.yaml"):
        with open(project.parent / name, "a", encoding="utf-8") as file:
            file.write("\n")
    store = project.parent / ".retune"
    with pytest.raises(DataError, match=r"train\.jsonl has changed; probes has changed since 20"):
        reproduce_version("small", 1, recipe=None, store=store, into=None, as_json=False)
    with pytest.raises(ConfigError, match="has no such version"):
        reproduce_version("small", 9, recipe=project, store=store, into=None, as_json=False)
    with pytest.raises(ConfigError, match="is not empty"):
        reproduce_version("small", 1, recipe=project, store=store, into=store, as_json=False)


def test_another_rank_is_refused_before_training(project: Path) -> None:
    """Version 1 has rank 8."""
    job = prepare(project, "retrain.start_from=champion", "method.r=4")
    with pytest.raises(ConfigError, match="small version 1, the champion, is of another form"):
        choose_start(job)


def test_a_recipe_that_has_not_changed_splits_as_before(project: Path) -> None:
    """With its own model as champion, the split is the same stage."""
    job = prepare(project)
    states = {line.name: line.state for line in job.run.lines}
    assert states["split_rows"] == "reused"
    assert job.data.earlier == rows_path(folder_of(project), "small", 1)


def test_rows_of_a_replaced_test_file_are_not_learned(project: Path) -> None:
    """The old test file is appended to the training file: its rows are on no side, and told."""
    data = project.parent / "data"
    old = (data / "test.jsonl").read_text("utf-8")
    train = (data / "train.jsonl").read_text("utf-8").splitlines(keepends=True)
    (data / "test.jsonl").write_text("".join(train[-8:]), "utf-8")
    (data / "train.jsonl").write_text("".join(train[:-8]) + old, "utf-8")
    job = prepare(project, "split.grouped=false")
    assert job.data.split.kept_out == TEST_ROWS
    folder, _ = write_report_on_data(job)
    assert "8 rows stay held out" in (folder / "data.md").read_text("utf-8")
