"""What `retune check` stops before training: answers in prompts, cut targets, wrong masks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from retune.errors import ConfigError, DataError
from tests.flows.conftest import retune, write_project

pytestmark = pytest.mark.slow

MARKS_THE_USER = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "{% generation %}{{ message['content'] }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A project of 48 training and 8 test rows."""
    return write_project(tmp_path / "project")


def check(recipe: Path, *settings: str) -> tuple[int, str]:
    """Check a recipe; return the exit code and what was said, on one line."""
    overrides = [part for setting in settings for part in ("--set", setting)]
    done = retune(recipe, *overrides, command="check")
    said = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert "Traceback" not in said, said[-3000:]
    return done.returncode, said


def test_a_sound_recipe_is_ready(recipe: Path) -> None:
    """The project that the others spoil."""
    code, said = check(recipe)
    assert code == 0, said[-2000:]
    assert "Ready: retune run would start." in said


def test_rows_whose_question_holds_the_answer_are_stopped(recipe: Path) -> None:
    """All 48 training rows show their query; the 8 test rows do not: 48 of 56 are 85.7 %."""
    rows = recipe.parent / "data" / "train.jsonl"
    perturbed = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    for row in perturbed:
        row["question"] += f" Responda: {row['query']}"
    rows.write_text("".join(json.dumps(row) + "\n" for row in perturbed), "utf-8")
    code, said = check(recipe)
    assert code == DataError.exit_code
    assert "48 of 56 rows (85.7 %) show the reference answer in their prompt" in said


def test_a_prompt_that_names_the_answer_is_no_recipe(recipe: Path) -> None:
    """`{query}` is the answer, whatever its column is called."""
    code, said = check(recipe, "prompt.user='{question} {query}'")
    assert code == ConfigError.exit_code
    assert "the model would read the answer" in said


def test_a_length_limit_that_cuts_every_target_is_stopped(recipe: Path) -> None:
    """No row fits into 16 tokens, so that nothing would be left to train on."""
    code, said = check(recipe, "prompt.max_length=16")
    assert code == DataError.exit_code
    assert "prompt.max_length" in said


def test_a_template_that_marks_the_question_is_stopped(recipe: Path) -> None:
    """Its generation marks stand around the user's turn: the model would learn to ask."""
    (recipe.parent / "wrong.jinja").write_text(MARKS_THE_USER, "utf-8")
    code, said = check(recipe, "prompt.template=wrong.jinja", "prompt.loss_on=marked")
    assert code == DataError.exit_code
    assert "rows (100.0 %) have tokens of the prompt that carry loss" in said or (
        "no token that carries loss" in said
    )


def test_loss_on_all_tokens_has_to_be_allowed(recipe: Path) -> None:
    """`loss_on: all` learns prompts too; a limit of null says that this is meant."""
    code, said = check(recipe, "prompt.loss_on=all")
    assert code == DataError.exit_code and "limits.prompt_loss" in said
    code, said = check(recipe, "prompt.loss_on=all", "limits.prompt_loss=null")
    assert code == 0, said[-2000:]


def test_a_bad_row_is_named_and_the_others_survive_where_the_recipe_bears_it(recipe: Path) -> None:
    """The third line is broken: without a limit the 47 others are used."""
    rows = recipe.parent / "data" / "train.jsonl"
    lines = rows.read_text("utf-8").splitlines(keepends=True)
    rows.write_text("".join([*lines[:2], '{"id": \n', *lines[3:]]), "utf-8")
    code, said = check(recipe)
    assert code == DataError.exit_code and "data/train.jsonl:3" in said
    code, said = check(recipe, "limits.bad_rows=0.05")
    assert code == 0, said[-2000:]


def test_everything_that_is_wrong_with_the_inputs_is_said_at_once(recipe: Path) -> None:
    """The model, the training rows and the probes are each missing."""
    code, said = check(
        recipe, "model.id=absent-model", "data.train=absent.jsonl", "probes.file=absent.yaml"
    )
    assert code == ConfigError.exit_code
    for absent in ("absent-model", "absent.jsonl", "absent.yaml"):
        assert absent in said
