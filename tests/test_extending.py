"""docs/extending.md is true: its examples fit the code, touch as many files as it says, and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.extended_code import PAGE, copy_extended, read_page
from tests.tiny_models import REPOSITORY
from tests.waiting import GUARD_SECONDS

EVALS: list[dict[str, Any]] = [
    {
        "input": [
            {"role": "system", "content": "Seja breve."},
            {"role": "user", "content": "Quanto é 2 + 2?"},
        ],
        "ideal": ["4", "quatro"],
    },
    {"input": [{"role": "user", "content": "A capital?"}], "ideal": "Brasília"},
]
Found = dict[str, Any]


def make_rows() -> list[Found]:
    """Return questions whose answers have words in common with what the shipped base writes."""
    shipped = (REPOSITORY / "assets" / "text_to_sql_pt" / "train.jsonl").read_text("utf-8")
    rows = map(json.loads, shipped.splitlines()[:40])
    return [{"instruction": row["question"], "output": row["query"]} for row in rows]


def write_json_lines(path: Path, rows: list[Found]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code with all examples in it."""
    return copy_extended(tmp_path_factory.mktemp("extended") / "copy")


@pytest.fixture(scope="module")
def found(extended: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What came of using them: IA3, watched and decided by token F1."""
    project = tmp_path_factory.mktemp("project")
    write_json_lines(project / "rows.jsonl", make_rows())
    write_json_lines(project / "evals.jsonl", EVALS)
    (project / "pyproject.toml").touch()  # marks the project's root
    recipe = {
        "name": "extended",
        "data": {"train": "rows.jsonl"},
        "split": {"validation_fraction": 0.2, "test_fraction": 0.2},
        "model": {"id": str(extended / "assets" / "base_tiny")},
        "method": {"kind": "ia3"},
        "training": {
            **{"max_steps": 4, "batch_size": 4, "evaluations": 2, "learning_rate": 0.05},
            **{"watch": "answer_token_f1", "watch_rows": 4},
        },
        "scoring": {"max_new_tokens": 8, "resamples": 200},
        "merge": {"check_rows": 2},
        "gate": {"metric": "answer_token_f1"},
        "registry": {"model_name": "extended"},
    }
    (project / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    script = REPOSITORY / "tests" / "run_extended.py"
    done = subprocess.run(
        [sys.executable, str(script), str(project / "recipe.yaml"), str(project / "evals.jsonl")],
        capture_output=True,
        text=True,
        cwd=project,
        env={**os.environ, "PYTHONPATH": f"{extended / 'src'}{os.pathsep}{extended}"},
        timeout=GUARD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    read: Found = json.loads(done.stdout.splitlines()[-1])
    return read


def count_files() -> list[int]:
    """Count each addition's files, those of the ones that it goes on from included."""
    counts, files, last = list[int](), set[str](), ("", "")
    for block in read_page():
        if block.addition != last:
            files = files if block.addition[0] == last[0] else set()
            counts.append(0)
        files.add(block.file)
        counts[-1], last = len(files), block.addition
    return counts


def test_an_addition_touches_as_many_files_as_its_heading_and_the_table_say() -> None:
    """A block's file counts once, for each addition that it is a part of."""
    text = PAGE.read_text("utf-8")
    in_headings = re.findall(r"^###? .*: (\d+) files$", text, re.MULTILINE)
    in_table = re.findall(r"^\| .* \| (\d+) \|$", text, re.MULTILINE)
    assert count_files() == [*map(int, in_headings)] == [*map(int, in_table)]


def check(extended: Path, *tool: str) -> None:
    """Let a tool look at the extended code; it has nothing to say."""
    done = subprocess.run(
        [sys.executable, "-m", *tool], cwd=extended, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_blocks_are_as_the_code_is_written(extended: Path) -> None:
    """Every anchor stands once; linted and formatted as all code is."""
    touched = sorted({block.file for block in read_page()})
    # Which import comes first changes with the names of modules; ruff puts them in order.
    check(extended, "ruff", "check", "--no-cache", "--extend-ignore", "I001", *touched)
    check(extended, "ruff", "format", "--check", "--diff", *touched)


@pytest.mark.slow
def test_the_blocks_are_typed_as_all_code_is(extended: Path) -> None:
    """Mypy finds nothing in the extended code."""
    if (REPOSITORY / ".mypy_cache").is_dir():
        # Of the same files at the same relative places, so that little is checked again.
        shutil.copytree(REPOSITORY / ".mypy_cache", extended / ".mypy_cache")
    check(extended, "mypy")


@pytest.mark.slow
def test_the_scorer_stands_in_the_report(found: Found) -> None:
    """The mean over rows; a row's F1 is twice the shared words over those of both texts."""

    def f1(row: Found) -> float:
        ours, theirs = (
            Counter(re.findall(r"\w+", row[side].lower())) for side in ("prediction", "reference")
        )
        return 2 * sum((ours & theirs).values()) / (sum(ours.values()) + sum(theirs.values()))

    rows = found["answers"]
    assert len(rows) == len(found["sides"]["test"])
    assert [row["answer_token_f1"] for row in rows] == pytest.approx([*map(f1, rows)])
    mean = sum(map(f1, rows)) / len(rows)
    assert found["report"]["answer_token_f1"] == pytest.approx(mean)
    assert 0 < mean < 1
    assert found["overlap_reads_accents"]


@pytest.mark.slow
def test_the_gate_decides_by_the_scorer(found: Found) -> None:
    """Paired with the base's, row by row: what it gained is the reason for or against."""
    report = found["report"]["answer_token_f1"], found["base_report"]["answer_token_f1"]
    gain = f"Answer token F1 {100 * (report[0] - report[1]):+.1f} points "
    assert [gain in each for each in found["reasons"]].count(True) == 1


@pytest.mark.slow
def test_the_training_is_watched_by_the_scorer(found: Found) -> None:
    """Measured before the first step and at both evaluations; its setting counts where it is."""
    curve = {
        point["step"]: point["value"]
        for point in found["curve"]
        if point["name"] == "validation_answer_token_f1"
    }
    assert sorted(curve) == [0, 2, 4]
    assert found["best_score"] == max(curve[2], curve[4])
    assert found["watched_reads_accents"]
    assert not found["unwatched_reads_accents"]


@pytest.mark.slow
def test_the_method_trains_and_is_merged(found: Found) -> None:
    """In each of 4 blocks 256 keys, 256 values and 640 inputs of the feed-forward are scaled."""
    assert found["adapter"]["peft_type"] == "IA3"
    assert found["trainable"] == 4 * (256 + 256 + 640)
    assert found["merged"] == [False, 2]
    assert found["method"] == "IA3, factors on k_proj, v_proj, down_proj"


@pytest.mark.slow
def test_the_format_is_told_and_read(found: Found) -> None:
    """The first ideal answer is the answer; a system message is what comes before the question."""
    assert found["evals"]["format"] == "evals"
    first, second = found["evals"]["rows"]
    assert (first["question"], first["answer"]) == ("Quanto é 2 + 2?", "4")
    assert [(turn["role"], turn["content"]) for turn in first["history"]] == [
        ("system", "Seja breve.")
    ]
    assert (second["question"], second["answer"]) == ("A capital?", "Brasília")


@pytest.mark.slow
def test_the_stage_leaves_an_artifact_and_its_setting_moves_its_key(found: Found) -> None:
    """Its sealed record counts words as this test does, and no other stage runs again."""
    words = {
        side: Counter(re.findall(r"\w+", " ".join(texts).lower()))
        for side, texts in found["sides"].items()
    }
    unseen = {word: uses for word, uses in words["test"].items() if word not in words["train"]}
    measured = found["vocabulary"]
    assert measured["which"] == unseen
    assert (measured["words"], measured["unseen"]) == (
        sum(words["test"].values()),
        sum(unseen.values()),
    )
    assert set(found["after_nothing"].values()) == {"reused"}
    moved = {name for name, state in found["after_least_uses"].items() if state != "reused"}
    assert moved == {"measure_vocabulary"}
