"""A year of the loop in minutes: twelve months, each started at its own time, on the embedded base.

Rows are questions with their SQL as plain text, so that only losses are scored; each month changes
what a month can change. One fixture lives the year; the tests read what it left behind.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from retune.registry.ledger.ledger import LEDGERS, Ledger
from retune.registry.records import LedgerEntry
from retune.tracking import default_uri
from tests.flows.conftest import environment, last_json
from tests.preloading import Started, start_command
from tests.serving import copy_tracking_database
from tests.tiny_models import REPOSITORY, write_snapshot
from tests.waiting import GUARD_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.service]

NAME = "year"
TEST_ROWS, MONTHLY_ROWS = 120, 48
"""Rows of one month, and of the test set: enough groups of their own for a level of 0.005."""
POISONED_IN_APRIL, POISONED_IN_NOVEMBER = 180, 360
"""Nearly as many as are right by then."""
MOST_CHARACTERS = 120
"""Of a row: a year of them is trained on and scored."""
DECISIONS = 4
"""What the test set is to last."""


def read_rows(name: str) -> list[dict[str, str]]:
    """Return the rows that ship, each question once."""
    lines = (REPOSITORY / "assets" / "text_to_sql_pt" / name).read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    seen: dict[str, dict[str, str]] = {}
    for row in rows:
        seen.setdefault(
            row["question"].casefold(),
            {"id": row["id"], "prompt": row["question"], "completion": row["query"]},
        )
    return list(seen.values())


def is_short(row: dict[str, str]) -> bool:
    return len(row["prompt"]) + len(row["completion"]) <= MOST_CHARACTERS


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, "utf-8")


@dataclass
class Year:
    """A project, and what each month's start of the loop told.

    Attributes:
        recipe: The recipe's file.
        told: By month, the JSON of `retune retrain`, or the error of one that failed.
        codes: By month, its exit code.
        champions: By month, the version that was champion after it.
        further: What the other commands printed, by name.
    """

    recipe: Path
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    champions: dict[str, int | None] = field(default_factory=dict)
    further: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.recipe.parent

    def call(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a person does."""
        return self.started(command, *arguments).finish(3 * GUARD_SECONDS)

    def started(self, command: str, *arguments: str) -> Started:
        return start_command(
            "retune.cli",
            [command, *arguments],
            folder=self.folder,
            environment=environment(self.folder),
        )

    def live(self, month: int, *settings: str, day: int = 1, force: bool = False) -> None:
        """Start the loop at three in the morning."""
        at = datetime(2026, month, day, 3, tzinfo=UTC)
        name = at.strftime("%d %B")
        arguments = [str(self.recipe), "--at", at.isoformat(), "--json"]
        arguments += [part for each in settings for part in ("--set", each)]
        done = self.call("retrain", *arguments, *(["--force"] if force else []))
        self.codes[name], self.errors[name] = done.returncode, done.stderr
        if done.returncode == 0:
            self.told[name] = last_json(done)
        entries = self.ledger()
        self.champions[name] = entries[-1].to_version if entries else None

    def ledger(self) -> tuple[LedgerEntry, ...]:
        store = self.folder / ".retune"
        return Ledger(default_uri(store), NAME, store / LEDGERS).entries()


def write_year(folder: Path) -> Year:
    """Write the project as it stands on the first of January."""
    (folder / "data").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    shutil.copytree(REPOSITORY / "assets" / "base_tiny", folder / "base")
    write_snapshot(folder / "other_base", "qwen3")
    recipe: dict[str, Any] = {
        "name": NAME,
        "data": {
            "train": "data/train*.jsonl",
            "test": "data/test.jsonl",
            "columns": {"row_id": "id"},
        },
        "split": {"validation_fraction": 0.1},
        "model": {"id": "base"},
        "quantization": {"kind": "none"},
        "training": {"epochs": 1.0, "evaluations": 1, "learning_rate": 3.0e-3},
        "scoring": {"max_new_tokens": 8, "resamples": 1000, "samples": 0},
        "merge": {"check_rows": 2},
        "gate": {"decisions_per_test_set": DECISIONS},
        "registry": {"model_name": NAME, "check_rows": 2},
        "retrain": {"triggers": {"new_rows": {"share": 0.2}}},
    }
    copy_tracking_database(folder / ".retune")
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    return Year(path)


def add_month(year: Year, number: int, rows: list[dict[str, str]]) -> Path:
    path = year.folder / "data" / f"train_{number:02}.jsonl"
    write_rows(path, rows[number * MONTHLY_ROWS : (number + 1) * MONTHLY_ROWS])
    return path


def add_poison(year: Year, rows: list[dict[str, str]], count: int) -> None:
    """Add many rows whose answers are those of other questions, cut and turned round."""
    poisoned = [
        {**row, "completion": rows[-1 - at]["completion"][::-1]}
        for at, row in enumerate(rows[1000 : 1000 + count])
    ]
    write_rows(year.folder / "data" / "train_poison.jsonl", poisoned)


def remove_poison(year: Year) -> None:
    (year.folder / "data" / "train_poison.jsonl").unlink()


def two_at_once(year: Year) -> dict[int, int]:
    """Start two retrainings from other seeds at the same time; return their exit codes by seed."""
    at = datetime(2026, 9, 1, 3, tzinfo=UTC).isoformat()
    begun = {
        seed: year.started("retrain", str(year.recipe), "--at", at, "--set", f"seed={seed}")
        for seed in (1, 2)
    }
    return {seed: each.finish(3 * GUARD_SECONDS).returncode for seed, each in begun.items()}


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Year:
    """The year 2026."""
    year = write_year(tmp_path_factory.mktemp("year") / "project")
    rows = [row for row in read_rows("train.jsonl") if is_short(row)]
    held_out = read_rows("test.jsonl")
    # Short ones for the year, and others for what comes after it.
    held_out.sort(key=is_short, reverse=True)
    write_rows(year.folder / "data" / "test.jsonl", held_out[:TEST_ROWS])

    add_month(year, 0, rows)
    year.live(1)

    year.live(2)

    for number in range(1, 4):
        add_month(year, number, rows)
    year.live(3)

    add_poison(year, rows, POISONED_IN_APRIL)
    year.live(4)
    remove_poison(year)

    for number in range(4, 8):
        add_month(year, number, rows)
    tokenizer = year.folder / "base" / "tokenizer.json"
    whole = tokenizer.read_text("utf-8")
    tokenizer.write_text(whole[: len(whole) // 2], "utf-8")
    year.live(5)
    tokenizer.write_text(whole, "utf-8")

    year.live(6)

    year.live(7, "model.id=other_base", force=True)

    before = year.ledger()[-1].to_version
    year.further["rollback"] = year.call(
        "rollback", NAME, "--recipe", str(year.recipe), "--reason", "complaints", "--json"
    )
    year.further["rolled_back_from"] = before
    year.live(8)

    add_month(year, 8, rows)
    year.further["two"] = two_at_once(year)

    version = str(year.ledger()[-1].to_version)
    year.further["reproduce"] = year.call(
        "reproduce", NAME, version, "--recipe", str(year.recipe), "--json"
    )

    add_poison(year, rows, POISONED_IN_NOVEMBER)
    year.live(11)
    remove_poison(year)

    add_month(year, 9, rows)
    add_month(year, 10, rows)
    add_month(year, 11, rows)
    year.live(12)
    write_rows(year.folder / "data" / "test.jsonl", held_out[TEST_ROWS : 2 * TEST_ROWS])
    year.live(12, day=15)

    year.further["history"] = year.call("history", NAME, "--recipe", str(year.recipe), "--json")
    return year


def test_the_first_challenger_is_held_against_the_base(year: Year) -> None:
    """January: there is no champion, which makes a training worth it."""
    told = year.told["01 January"]
    assert [each["trigger"] for each in told["assessment"]["triggers"] if each["fires"]] == [
        "no_champion"
    ]
    assert told["outcome"] == "promoted"
    assert {each["against"] for each in told["run"]["decision"]["comparisons"]} == {"base"}
    assert year.champions["01 January"] == 1


def test_a_month_without_a_new_row_is_skipped(year: Year) -> None:
    """February: said why, nothing trained, and the champion stays."""
    told = year.told["01 February"]
    assert (told["outcome"], told["run"]) == ("skipped", None)
    assert "no row is new" in told["reason"]
    assert year.champions["01 February"] == 1


def test_more_rows_make_a_better_model(year: Year) -> None:
    """March: four times as many, and the challenger is shown to be better than the champion."""
    told = year.told["01 March"]
    assert told["outcome"] == "promoted"
    assert {each["against"] for each in told["run"]["decision"]["comparisons"]} == {
        "base",
        "champion",
    }
    assert year.champions["01 March"] == 2


def test_poisoned_rows_change_no_champion(year: Year) -> None:
    """April: the challenger learned wrong answers, is rejected, and is said to be worse."""
    told = year.told["01 April"]
    assert told["outcome"] == "rejected"
    assert "not shown to be better than the champion" in told["reason"]
    assert year.champions["01 April"] == 2


def test_a_broken_tokenizer_fails_and_changes_no_champion(year: Year) -> None:
    """May: half of the file is gone."""
    assert year.codes["01 May"] != 0
    assert "tokenizer" in year.errors["01 May"]
    assert "Traceback" not in year.errors["01 May"]
    assert year.champions["01 May"] == 2


def test_the_loop_goes_on_after_a_failure(year: Year) -> None:
    """June: the tokenizer is whole again, and the rows of four months are new."""
    assert year.told["01 June"]["outcome"] == "promoted"


def test_a_new_base_with_other_tokens_is_compared_and_decided_on(year: Year) -> None:
    """July: perplexity counts tokens, and they are others, so bits per byte decide."""
    told = year.told["01 July"]
    decision = told["run"]["decision"]
    against = {each["metric"] for each in decision["comparisons"] if each["against"] == "champion"}
    assert told["outcome"] == "rejected"
    assert decision["metric"] == "bits_per_byte"
    assert "bits_per_byte" in against and "perplexity" not in against
    assert year.champions["01 July"] == year.champions["01 June"]


def test_a_rollback_makes_the_champion_before_it_champion(year: Year) -> None:
    """August: proved, moved, and written down as a person's."""
    assert year.further["rollback"].returncode == 0, year.further["rollback"].stderr
    [line] = [each for each in year.ledger() if each.kind == "rolled_back"]
    assert (line.from_version, line.to_version) == (year.champions["01 June"], 2)
    assert line.reason == "complaints" and line.actor != "gate"


def test_two_that_are_trained_at_once_are_decided_one_after_the_other(year: Year) -> None:
    """September: whoever is second was compared with the first, or is refused (exit code 4).

    What a line was compared with is the model of the champion that it replaced.
    """
    codes = sorted(year.further["two"].values())
    assert codes[0] == 0 and codes[1] in (0, 4)
    models = {each.version: each.challenger for each in year.ledger() if each.actor == "gate"}
    lines = [each for each in year.ledger() if each.at.startswith("2026-09")]
    decided = [each for each in lines if each.actor == "gate"]
    assert decided[0].kind == "promoted" and len(decided) == codes.count(0)
    for line in decided:
        assert line.opponent == models[line.from_version]


def test_a_version_is_made_again_equal(year: Year) -> None:
    """October: every stage of the champion, from its manifest, in a fresh store."""
    done = year.further["reproduce"]
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["equal"]


def test_worn_rows_are_asked_to_be_replaced(year: Year) -> None:
    """December: as many decisions came to nothing on the test rows as those were to last.

    April, July and November were rejected, and what June promoted was rolled back.
    """
    told = year.told["01 December"]
    assert (told["outcome"], told["run"]) == ("skipped", None)
    assert "worn out" in told["reason"] and "Hold out fresh rows" in told["reason"]
    lines = year.ledger()
    skipped = next(at for at, each in enumerate(lines) if "worn out" in each.reason)
    spent = [each for each in lines[:skipped] if each.kind in ("rejected", "rolled_back")]
    assert len(spent) == DECISIONS


def test_fresh_rows_let_the_loop_go_on(year: Year) -> None:
    """Two weeks later: other rows are held out, and a decision is taken on them."""
    told = year.told["15 December"]
    assert told["run"] is not None
    assert told["outcome"] in ("promoted", "rejected")


def test_the_history_is_whole_and_each_line_has_its_month(year: Year) -> None:
    """Numbered without a gap, and each with the time that it was taken to be."""
    entries = year.ledger()
    assert [each.number for each in entries] == list(range(1, len(entries) + 1))
    months = [each.at[:7] for each in entries if each.kind != "rolled_back"]
    assert months == sorted(months) and set(months) >= {
        f"2026-{month:02}" for month in (1, 2, 3, 4, 6, 7, 8, 9, 11, 12)
    }
    shown = json.loads(year.further["history"].stdout)
    assert [each["digest"] for each in shown] == [each.digest for each in entries]
