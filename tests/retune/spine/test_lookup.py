"""Why a stage is reused or runs, in a few words."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from retune.spine.lookup import Lookup, look_up
from retune.spine.opening import open_store
from retune.spine.stage import Stage, StageRequest, key_parts, run_stage
from retune.spine.store import Store
from tests.retune.tiny_stages import Inputs, Made, TinySettings, effective, settings_of, tiny
from tests.retune.tiny_stages import request as tiny_request


def look(request: StageRequest, stage: Stage[..., Made] = tiny) -> Lookup:
    inputs = Inputs.model_validate(request.inputs)
    settings = TinySettings.model_validate(request.settings)
    return look_up(open_store(request.store), stage, request, key_parts(stage, inputs, settings))


def test_a_first_run_says_so(tmp_path: Path) -> None:
    """Nothing was ever computed by this stage here."""
    assert look(tiny_request(tmp_path)) == Lookup("run", "first run")


def test_a_hit_says_since_when(tmp_path: Path) -> None:
    """The date is that of the seal."""
    run_stage(tiny, tiny_request(tmp_path))
    found = look(tiny_request(tmp_path))
    assert found.state == "hit"
    assert found.reason.startswith("same inputs, settings and versions as on 20")


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    """Its scratch folder is still there, and the next run goes on from it."""
    request = tiny_request(tmp_path, act="crash")
    with pytest.raises(ZeroDivisionError):
        run_stage(tiny, request)
    assert look(request) == Lookup("run", "an earlier run did not finish")


def test_a_deleted_artifact_says_so(tmp_path: Path) -> None:
    """It was there once, which is another thing than a changed setting."""
    request = tiny_request(tmp_path)
    shutil.rmtree(run_stage(tiny, request).folder)
    assert look(request) == Lookup("run", "artifact deleted")


def test_a_damaged_artifact_names_its_file(tmp_path: Path) -> None:
    """The file tells whose fault it may be."""
    request = tiny_request(tmp_path)
    (run_stage(tiny, request).folder / "sub" / "number.json").write_text("8")
    assert look(request) == Lookup("run", "artifact damaged: sub/number.json changed")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"number": 2}, "tiny.number: 1 -> 2"),
        ({"extra": 0}, "tiny.extra: null -> 0"),
        ({"number": 2, "extra": 4}, "tiny.extra: null -> 4; tiny.number: 1 -> 2"),
        ({"act": "a" * 60}, f"tiny.act: work -> {'a' * 37}..."),
    ],
)
def test_a_changed_setting_is_named(tmp_path: Path, settings: dict[str, Any], reason: str) -> None:
    """With the old value and the new one, long ones cut."""
    run_stage(tiny, tiny_request(tmp_path))
    assert look(tiny_request(tmp_path, **settings)) == Lookup("run", reason)


def test_a_changed_input_is_named(tmp_path: Path) -> None:
    """Digests say nothing to a person; the input's name does."""
    request = tiny_request(tmp_path)
    run_stage(tiny, request)
    source = {"digest": "d2", "path": "in.txt"}
    other = request.model_copy(update={"inputs": {"source": source}, "key": "0" * 32})
    assert look(other) == Lookup("run", "source changed")


def test_the_nearest_earlier_key_is_compared(tmp_path: Path) -> None:
    """Of two earlier runs the one with fewer differences explains, though it is older."""
    run_stage(tiny, tiny_request(tmp_path, number=5))
    run_stage(tiny, tiny_request(tmp_path, number=9, extra=9))
    assert look(tiny_request(tmp_path, number=6)).reason == "tiny.number: 5 -> 6"


def test_a_new_setting_that_is_null_is_a_difference(tmp_path: Path) -> None:
    """The key has one more part, so that "nothing changed" would be a lie."""
    request = tiny_request(tmp_path)
    run_stage(tiny, request)
    inputs = Inputs.model_validate(request.inputs)
    parts = {**key_parts(tiny, inputs, settings_of()), "tiny.brand_new": None}
    found = look_up(Store(tmp_path), tiny, request.model_copy(update={"key": "0" * 32}), parts)
    assert found.reason == "tiny.brand_new: absent -> null"


def test_a_lost_effect_is_the_reason(tmp_path: Path) -> None:
    """The record is stored, but what it says no longer holds outside."""
    context = {"effect": str(tmp_path / "effect")}
    request = tiny_request(tmp_path / "store", effective, context)
    run_stage(effective, request)
    assert look(request, effective).state == "hit"
    (tmp_path / "effect").unlink()
    assert look(request, effective) == Lookup("run", "the effect is gone")
