"""Bad input on the command line: one clear message, an exit code that means something."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.flows.conftest import environment, write_project
from tests.preloading import run_command
from tests.waiting import GUARD_SECONDS

RECIPE_WRONG, DATA_WRONG, ARTIFACT_WRONG, SERVICE_DOWN = 2, 3, 4, 7


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("pristine") / "project").parent


@pytest.fixture
def recipe(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "project")
    return tmp_path / "project" / "recipe.yaml"


def refused(recipe: Path, *arguments: str, command: str = "run", **more: str) -> tuple[int, str]:
    """Run a command that must fail; return its exit code and what it said."""
    done = run_command(
        "retune.cli",
        [command, str(recipe), *arguments],
        folder=Path.cwd(),
        environment={**environment(recipe.parent), **more},
        timeout=GUARD_SECONDS,
    )
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said[-3000:]
    return done.returncode, said


def test_an_unknown_key_and_a_wrong_type_are_both_said_with_their_lines(recipe: Path) -> None:
    """All errors of a recipe at once, before anything starts."""
    recipe.write_text(recipe.read_text() + "colour: red\nseed: many\n")
    code, said = refused(recipe)
    assert code == RECIPE_WRONG
    assert "colour: unknown key" in said and "seed: found the text 'many'" in said


def test_a_missing_data_file_is_named(recipe: Path) -> None:
    """The path that was looked for stands in the message."""
    code, said = refused(recipe, "--set", "data.train=data/absent.jsonl")
    assert code == DATA_WRONG
    assert "absent.jsonl does not exist" in said


def test_a_broken_line_is_named_with_file_and_line(recipe: Path) -> None:
    """The third line is not JSON."""
    rows = recipe.parent / "data" / "train.jsonl"
    lines = rows.read_text("utf-8").splitlines(keepends=True)
    rows.write_text("".join([*lines[:2], '{"id": \n', *lines[3:]]), "utf-8")
    code, said = refused(recipe)
    assert code == DATA_WRONG
    assert "train.jsonl:3" in said


def test_labels_without_rows_that_have_some_are_refused(recipe: Path) -> None:
    """The rows are text-to-SQL: the classes would be named in vain."""
    code, said = refused(recipe, "--set", "data.labels=[bom, ruim]")
    assert code == RECIPE_WRONG
    assert "data.labels names classes, but no source of rows is text_label" in said


def test_an_empty_split_is_refused_with_its_counts(recipe: Path) -> None:
    """48 rows of 12 databases leave no group for a validation side of a thousandth."""
    code, said = refused(recipe, "--set", "split.validation_fraction=0.001")
    assert code == DATA_WRONG
    assert "validation side has no rows" in said


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_method_that_does_not_fit_is_refused_before_anything_expensive(
    recipe: Path, command: str
) -> None:
    """Known from the model's configuration alone, by a look at the recipe and by a run."""
    code, said = refused(recipe, "--set", "method.target_modules=[nope]", command=command)
    assert code == RECIPE_WRONG
    assert "nope match no layer of this model. It has: down_proj" in said
    assert "Ready" not in said
    assert not (recipe.parent / ".retune" / "quantize_model").exists()


def test_a_model_folder_without_tokenizer_is_refused(recipe: Path) -> None:
    """The weights are there, tokenizer.json is not."""
    (recipe.parent / "model" / "tokenizer.json").unlink()
    code, said = refused(recipe)
    assert code == RECIPE_WRONG
    assert "no tokenizer" in said


def test_a_store_that_cannot_be_written_is_named_and_not_mlflow(recipe: Path) -> None:
    """A file stands where the store's folder should be."""
    code, said = refused(recipe, "--set", "store.folder=data/train.jsonl", command="check")
    assert code == ARTIFACT_WRONG
    assert "store.folder:" in said and "train.jsonl cannot be written" in said


def test_a_full_disk_stops_before_work_and_says_what_to_do(recipe: Path) -> None:
    """The store lies on a file system of 256 KiB."""
    small = recipe.parent / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        code, said = refused(recipe, "--set", "store.folder=small/store")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
    assert code in (ARTIFACT_WRONG, SERVICE_DOWN)
    assert "disk" in said.lower() or "space" in said.lower()


def test_an_mlflow_server_that_does_not_answer_is_said_within_seconds(recipe: Path) -> None:
    """Nobody listens on port 9 of this machine."""
    started = time.monotonic()
    code, said = refused(recipe, "--set", "tracking.uri=http://127.0.0.1:9")
    assert code == SERVICE_DOWN
    assert "127.0.0.1:9" in said
    # With MLflow's own limits it takes 9 minutes.
    assert time.monotonic() - started < 300


def test_a_prefect_api_that_does_not_answer_is_said(recipe: Path) -> None:
    """A configured address is never silently replaced by a server of our own."""
    code, said = refused(recipe, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert code == SERVICE_DOWN
    assert "127.0.0.1:9" in said and "PREFECT_API_URL" in said


def test_check_refuses_what_run_would_refuse(recipe: Path) -> None:
    """`retune check` ends with the same code as the run that it stands for."""
    code, said = refused(recipe, "--set", "prompt.max_length=20", command="check")
    assert code == DATA_WRONG
    assert "longer than prompt.max_length" in said


def test_check_of_a_good_recipe_shows_target_tokens_and_ends_with_zero(recipe: Path) -> None:
    """The reference answer of the first training row stands in the printed row."""
    code, said = refused(recipe, command="check")
    assert code == 0
    assert "loss falls on the green tokens" in said and "SELECT" in said


def test_help_answers_without_torch_and_prefect() -> None:
    """The command line imports neither before a command needs it."""
    code = (
        "import sys; from retune.cli.app import app; import typer; typer.main.get_command(app);"
        "print([m for m in ('torch', 'prefect', 'mlflow', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_prefect_home_that_cannot_be_used_is_said_in_any_terminal(
    recipe: Path, tmp_path: Path
) -> None:
    """A file in its place: exit code 2, the variable by its name, no bug of retune.

    The terminal knows neither the path's sign nor the dots of the library's messages.
    """
    home = tmp_path / "h漢"
    home.touch()
    code, said = refused(recipe, PREFECT_HOME=str(home), PYTHONIOENCODING="cp1252")
    assert code == RECIPE_WRONG
    assert f"PREFECT_HOME={tmp_path}/h" in said
    assert "bug of retune" not in said
