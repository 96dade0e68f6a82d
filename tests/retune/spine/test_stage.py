"""What a stage key holds, and what running a stage promises."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retune.errors import ArtifactError, ConfigError, OutOfMemory, StageError
from retune.records import Source
from retune.spine import provenance
from retune.spine.stage import StageRequest, key_parts, run_stage, stage_key
from retune.stage import main
from tests.retune.tiny_stages import (
    Inputs,
    Made,
    Runtime,
    effective,
    settings_of,
    tiny,
)
from tests.retune.tiny_stages import request as tiny_request

INPUTS = Inputs(source=Source(digest="d1", path=Path("/a/in.txt")))


def key(inputs: Inputs = INPUTS, stage: Any = tiny, **settings: Any) -> str:
    return stage_key(key_parts(stage, inputs, settings_of(**settings)))


def test_the_parts_of_a_key_can_be_read() -> None:
    """They are flat, named as in the recipe, and hold no path and no runtime field."""
    parts = key_parts(tiny, INPUTS, settings_of(number=5))
    version = provenance.library_versions(["pydantic"])["pydantic"]
    assert parts == {
        "stage": "tiny",
        "version": 1,
        "input.source": "d1",
        "input.more": [],
        "input.other": None,
        "tiny.act": "work",
        "tiny.number": 5,
        "tiny.extra": None,
        "library.pydantic": version,
    }


@pytest.mark.parametrize(
    "inputs",
    [
        Inputs(source=Source(digest="d2", path=Path("/a/in.txt"))),
        Inputs(source=INPUTS.source, more=(INPUTS.source,)),
        Inputs(source=INPUTS.source, other=INPUTS.source),
    ],
    ids=["digest", "one more", "optional"],
)
def test_the_key_moves_with_an_input(inputs: Inputs) -> None:
    """Another content, another number of inputs or an optional one make another key."""
    assert key(inputs) != key()


@pytest.mark.parametrize("setting", [{"number": 2}, {"act": "report"}, {"extra": 0}])
def test_the_key_moves_with_every_setting_that_counts(setting: dict[str, Any]) -> None:
    """Zero is not the same as null."""
    assert key(**setting) != key()


def test_the_key_moves_with_the_version_and_the_name() -> None:
    """A raised VERSION computes again, and two stages never share a key."""
    assert key(stage=replace(tiny, version=2)) != key()
    assert key(stage=replace(tiny, name="other")) != key()


def test_the_key_moves_with_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version of a library that computes may give another result."""
    before = key()
    monkeypatch.setattr("retune.spine.stage.library_versions", lambda names: {"pydantic": "99"})
    assert key() != before


@pytest.mark.parametrize("setting", [{"runtime": Runtime(workers=9)}, {"shown": 9}])
def test_the_key_stays_for_what_cannot_change_the_result(setting: dict[str, Any]) -> None:
    """Runtime settings, and those that the stage does not read, are no part of it."""
    assert key(**setting) == key()


def test_the_key_stays_where_files_lie() -> None:
    """The same bytes in another place are the same input."""
    moved = Inputs(source=Source(digest="d1", path=Path("/elsewhere/other.txt")))
    assert key(moved) == key()


def test_the_key_stays_for_another_order() -> None:
    """A recipe may list its keys as it likes."""
    parts = key_parts(tiny, INPUTS, settings_of())
    assert stage_key(dict(reversed(parts.items()))) == stage_key(parts)


PRINT_KEYS = """
import json, sys
from pathlib import Path
from retune.recipe.loading import load_recipe
from retune.records import Record
from retune.spine.stage import key_parts, stage_key
from retune.stages import STAGES
recipe = load_recipe(Path(sys.argv[1]), []).recipe

def is_there(path):
    section = recipe
    for key in path.split(".")[:-1] or [path]:
        section = getattr(section, key, None)
    return section is not None

keys = {}
for name, stage in STAGES.items():
    fields = stage.settings.model_fields.items()
    if all(is_there(field.alias or name) for name, field in fields):
        keys[name] = stage_key(key_parts(stage, Record(), stage.settings.of(recipe)))
print(json.dumps(keys))
"""
RECIPE = Path(__file__).parents[3] / "conf" / "recipes" / "text_to_sql_demo.yaml"


def test_keys_are_the_same_in_another_process() -> None:
    """Python salts its own hashes per process; keys must not notice, whatever the salt."""
    done = [
        subprocess.run(
            [sys.executable, "-c", PRINT_KEYS, str(RECIPE)],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert done[0] == done[1]
    keys = json.loads(done[0])
    assert {"load_rows", "train_adapter", "score_sql", "decide", "register_model"} <= set(keys)
    assert len(set(keys.values())) == len(keys)


def test_a_stage_runs_once(tmp_path: Path) -> None:
    """The second request gets the stored record."""
    request = tiny_request(tmp_path / "store", number=7)
    first = run_stage(tiny, request)
    sealed = (first.folder / "manifest.json").stat().st_mtime_ns
    second = run_stage(tiny, request)
    assert first == second == Made(digest=f"{7:064d}", folder=first.folder, number=7)
    assert (first.folder / "manifest.json").stat().st_mtime_ns == sealed


def test_an_edited_request_is_refused(tmp_path: Path) -> None:
    """Stored under the old key, its result would be taken for that of the old settings."""
    request = tiny_request(tmp_path / "store", number=7)
    edited = request.model_copy(update={"settings": request.settings | {"tiny.number": 8}})
    with pytest.raises(StageError, match="is not that of its content"):
        run_stage(tiny, edited)
    assert not (tmp_path / "store" / "tiny" / request.key).exists()


def test_an_effect_that_holds_is_not_made_again(tmp_path: Path) -> None:
    """Who waited for the lock finds the effect there, and must not register a second version."""
    context = {"effect": str(tmp_path / "effect")}
    request = tiny_request(tmp_path / "store", effective, context)
    run_stage(effective, request)
    (tmp_path / "effect").write_text("untouched")
    run_stage(effective, request)
    assert (tmp_path / "effect").read_text() == "untouched"


def test_an_effect_that_is_gone_is_made_again(tmp_path: Path) -> None:
    """A stored record alone does not say that a registered version still exists."""
    context = {"effect": str(tmp_path / "effect")}
    request = tiny_request(tmp_path / "store", effective, context)
    run_stage(effective, request)
    (tmp_path / "effect").unlink()
    run_stage(effective, request)
    assert (tmp_path / "effect").read_text() == "there"


class Raising:
    """A reporter whose log raises, as a stage's own work might."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def started(self) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None:
        raise self.error

    def metric(self, name: str, value: float, step: int) -> None: ...

    def log(self, message: str) -> None: ...


def test_a_full_disk_in_a_stage_is_advice(tmp_path: Path) -> None:
    """The stage's own file system error becomes one message about the store's disk."""
    full = OSError(errno.ENOSPC, "No space left on device", "/store/x.parquet")
    with pytest.raises(ArtifactError, match=r"no disk space left.*set store.folder"):
        run_stage(tiny, tiny_request(tmp_path, act="report"), Raising(full))


def test_a_full_disk_told_by_a_library_in_rust_is_advice(tmp_path: Path) -> None:
    """What safetensors raises only names the system's number."""
    full = ValueError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(ArtifactError, match="no disk space left"):
        run_stage(tiny, tiny_request(tmp_path, act="report"), Raising(full))


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "told"), [(MemoryError(), "MemoryError"), (OutOfMemoryError("of 3 GiB"), "of 3 GiB")]
)
def test_memory_that_runs_out_in_a_stage_is_advice(
    tmp_path: Path, error: Exception, told: str
) -> None:
    """It is no bug of the stage; what asked for it and what needs less are said."""
    with pytest.raises(OutOfMemory, match=rf"tiny: memory ran out \({told}\).*retune estimate"):
        run_stage(tiny, tiny_request(tmp_path, act="report"), Raising(error))


def test_a_connection_that_fails_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    """Network errors are OSErrors too, and say nothing about files."""
    with pytest.raises(StageError, match=r"tiny: ConnectionRefusedError: .*refused") as caught:
        run_stage(
            tiny,
            tiny_request(tmp_path, act="report"),
            Raising(ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
        )
    assert "cannot be written" not in str(caught.value)


def test_a_stage_can_be_run_by_hand(tmp_path: Path) -> None:
    """The request that a failed run leaves behind is enough to run the stage again."""
    request = tiny_request(tmp_path / "store", act="crash")
    with pytest.raises(ZeroDivisionError):
        run_stage(tiny, request)
    saved = tmp_path / "store" / "requests" / "tiny" / f"{request.key}.json"
    assert StageRequest.model_validate_json(saved.read_bytes()) == request


def test_a_stage_of_another_table_can_be_run_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its place is named behind the request."""
    (tmp_path / "request.json").write_text(tiny_request(tmp_path, number=7).model_dump_json())
    place = f"{tiny.function.__module__}:STAGES"
    assert main(["tiny", str(tmp_path / "request.json"), place]) == 0
    assert json.loads(capsys.readouterr().out)["number"] == 7


def test_a_stage_that_returns_something_else_is_refused(tmp_path: Path) -> None:
    """A wrong record type must not reach the store."""
    wrong = replace(tiny, function=lambda inputs, settings, work: "text")
    with pytest.raises(StageError, match="returned str"):
        run_stage(wrong, tiny_request(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "found nothing; expected python -m retune.stage NAME REQUEST"),
        (["no_stage", "a b.json"], "found no_stage 'a b.json'"),
        (["load_rows", "/nowhere.json"], "/nowhere.json: cannot be read"),
        (["load_rows", __file__], "is no request of a stage"),
        (["load_rows", "a.json", "retune.nowhere:STAGES"], "found retune.nowhere:STAGES"),
    ],
)
def test_a_stage_by_hand_says_what_it_was_given(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one message, not a traceback."""
    assert main(arguments) == ConfigError.exit_code
    assert told in capsys.readouterr().err
