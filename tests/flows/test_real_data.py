"""`retune check` on real sets: what is known of them must be found; the figures stand in SOURCE.md.

The sets are not part of the repository: the tests skip where their folder is missing.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from retune.errors import DataError
from tests.flows.conftest import environment
from tests.preloading import run_command
from tests.serving import copy_tracking_database
from tests.shared_sets import SHARED, shared_set
from tests.tiny_models import REPOSITORY
from tests.waiting import GUARD_SECONDS

pytestmark = pytest.mark.slow

LONGEST_TOKENS = 16_384
"""So long that no row is cut, and the model reads all of it."""


@dataclass(frozen=True)
class Checked:
    """What `retune check` said of a recipe."""

    code: int
    said: str
    report: dict[str, Any]

    @property
    def quality(self) -> dict[str, Any]:
        found: dict[str, Any] = self.report["quality"]
        return found

    @property
    def faults(self) -> dict[str, tuple[int, int]]:
        return {line["name"]: (line["rows"], line["of"]) for line in self.report["limits"]}


def _write_long_base(folder: Path) -> Path:
    """Write the embedded base with room for the longest row: rows over its context are refused."""
    shutil.copytree(REPOSITORY / "assets" / "base_tiny", folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    longer = {**config, "max_position_embeddings": LONGEST_TOKENS}
    (folder / "config.json").write_text(json.dumps(longer), "utf-8")
    return folder


Check = Callable[..., Checked]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Write a recipe over a real set and check it, as a user does.

    All share a store and a base: what one has read of a set, the next finds.
    """
    folder = tmp_path_factory.mktemp("real")
    (folder / "pyproject.toml").touch()
    copy_tracking_database(folder / ".retune")
    model = _write_long_base(folder / "model")
    reports = folder / ".retune" / "reports"

    def check_rows(*shared: str, prompt: dict[str, Any] | None = None, **data: Any) -> Checked:
        for name in shared:
            shared_set(name)
        more = {name: data.pop(name) for name in ("split", "quality", "limits") if name in data}
        settings = {
            "name": "real",
            "data": data,
            "prompt": {"max_length": LONGEST_TOKENS, **(prompt or {})},
            "model": {"id": str(model)},
            "registry": {"model_name": "real"},
            **more,
        }
        recipe = folder / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(settings), "utf-8")
        shutil.rmtree(reports, ignore_errors=True)
        done = run_command(
            "retune.cli",
            ["check", str(recipe)],
            folder=folder,
            environment=environment(folder),
            timeout=GUARD_SECONDS,
        )
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said[-3000:]
        (report,) = reports.glob("*/data.json")
        return Checked(done.returncode, said, json.loads(report.read_text("utf-8")))

    return check_rows


def test_sms_spam_holds_444_duplicates(check: Check) -> None:
    """403 letter by letter, 444 after folding; near copies across the sides stop the run."""
    found = check("sms_spam", train=str(SHARED / "sms_spam/sms_spam.csv"))
    assert found.quality["sources"][0]["format"] == "text_label"
    assert found.quality["labels"] == {"ham": 4827, "spam": 747}
    duplicates = found.quality["duplicates"]
    assert (duplicates["exact"], duplicates["folded"]) == (403, 444)
    assert "444 after folding (exact 403)" in found.said
    assert found.code == DataError.exit_code and "limits.leaked_rows allows" in found.said


def test_dropping_copies_makes_sms_spam_fit_to_train_on(check: Check) -> None:
    """5,574 rows, of which the 444 folded copies and the near ones are dropped."""
    found = check(
        "sms_spam",
        train=str(SHARED / "sms_spam/sms_spam.csv"),
        quality={"drop_duplicates": "near"},
    )
    dropped = found.quality["dropped"]
    assert dropped["exact duplicate"] + dropped["folded duplicate"] == 444
    assert found.quality["kept"] == 5574 - 444 - dropped["near duplicate"]
    assert found.faults["leaked_rows"][0] == 0
    assert found.code == 0 and "Ready" in found.said


def test_told_br_holds_65_texts_with_two_labels(check: Check) -> None:
    """217 folded copies that keep accents, and four that differ in accents alone: 221."""
    found = check(
        "told_br",
        train=str(SHARED / "told_br/told_br.csv"),
        columns={"question": "text", "answer": "toxic"},
        labels=["clean", "toxic"],
        quality={"drop_leaked": True},
    )
    assert found.quality["labels"] == {"clean": 11745, "toxic": 9255}
    assert found.quality["duplicates"]["folded"] == 217 + 4
    assert found.quality["conflicting_texts"] == 65
    assert next(iter(found.quality["languages"])) == "pt"
    assert found.code == 0


def test_spider_train_says_its_questions_twice(check: Check) -> None:
    """The unused column `question_synonym` is the question in other words, or the same ones."""
    found = check(
        "spider_train",
        train=str(SHARED / "spider_train/questions.jsonl"),
        databases=str(SHARED / "spider_train/databases"),
    )
    (column,) = [
        column
        for column in found.quality["sources"][0]["columns"]
        if column["name"] == "question_synonym"
    ]
    assert column["used_as"] is None and column["filled"] == 2627
    assert column["rewords_question"] + column["repeats_question"] > 0.99 * 2627
    assert "column question_synonym" in re.sub(r"\s+", " ", found.said)
    assert found.code == 0


def test_a_paraphrase_of_a_held_out_question_is_a_leak(check: Check) -> None:
    """Both wordings as rows, not grouped: most held-out queries stand in training too."""
    path = str(SHARED / "spider_train/questions.jsonl")
    sources = [
        {"path": path, "columns": {"row_id": "id"}},
        {"path": path, "columns": {"question": "question_synonym", "answer": "query"}},
    ]
    found = check(
        "spider_train",
        train=sources,
        databases=str(SHARED / "spider_train/databases"),
        split={"grouped": False},
    )
    leaked, of = found.faults["leaked_rows"]
    assert leaked > 0.9 * of
    test_train = found.report["leaks"]["findings"][0]
    assert test_train["by_kind"]["query"] > test_train["by_kind"]["near"]
    assert found.code == DataError.exit_code


def test_paraphrases_do_not_leak_where_databases_stay_together(check: Check) -> None:
    """The same rows, grouped by database, which is what happens unless a recipe says otherwise."""
    path = str(SHARED / "spider_train/questions.jsonl")
    synonyms = {"path": path, "columns": {"question": "question_synonym", "answer": "query"}}
    found = check(
        "spider_train",
        train=[path, synonyms],
        databases=str(SHARED / "spider_train/databases"),
    )
    assert found.faults["leaked_rows"][0] == 0 and found.report["groups_shared"] == 0
    assert found.code == 0


def test_rows_that_bring_their_own_database_need_no_file_of_databases(check: Check) -> None:
    """Gretel's layout: the schema in the prompt is the CREATE part of each row's own SQL."""
    found = check(
        "gretel_format",
        train=str(SHARED / "gretel_format/train.jsonl"),
        test=str(SHARED / "gretel_format/test.jsonl"),
    )
    assert [source["read"] for source in found.quality["sources"]] == [1485, 313]
    assert found.faults["leaked_rows"] == (0, 313)
    assert "<SCHEMA>" in found.said and "INSERT INTO" not in found.said
    assert found.code == 0


def test_questions_on_one_document_stay_on_one_side(check: Check) -> None:
    """FaQuAD: 837 questions on paragraphs that several of them share."""
    found = check(
        "faquad_pt",
        train=str(SHARED / "faquad_pt/train.jsonl"),
        columns={"group": "title"},
    )
    assert found.quality["sources"][0]["format"] == "instruction"
    assert found.quality["read"] == found.quality["kept"] == 837
    assert found.report["groups_shared"] == 0
    assert found.code == 0


def test_a_plain_template_writes_its_headings(check: Check) -> None:
    """91 instructions as one JSON list, without an input: no heading for it."""
    found = check(
        "identity_template",
        train=str(SHARED / "identity_template/identity.json"),
        prompt={"template": "instruction_pt"},
    )
    assert found.quality["read"] == 91
    assert "### Instrução:\nhi\n\n### Resposta:\n" in found.said
    assert found.code == 0
