"""Limits: every fault that is over its limit is said at once, with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retune.data.findings import BAD_FILE, DROPPED_FILE, LEAK_PAIRS_FILE, LEFT_OUT_FILE
from retune.data.limits import (
    find_breaches,
    list_fault_files,
    merge_faults,
    refuse_breaches,
    refuse_single_class,
)
from retune.errors import DataError
from retune.recipe.sections import LimitsConfig
from retune.records import ChatRef, CleanRef, DatasetRef, Share, SplitRef


def test_a_fault_within_its_limit_is_no_breach() -> None:
    """2 of 100 are exactly the limit of 2 %; no row of none is none too many."""
    limits = LimitsConfig(bad_rows=0.02)
    faults = {"bad_rows": Share(rows=2, of=100), "secrets": Share(rows=0, of=0)}
    assert find_breaches(limits, faults) == []


def test_a_breach_says_what_was_found_and_what_to_do() -> None:
    """3 of 1,200 rows are 0.25 %, shown as 0.2 % (to even)."""
    share = Share(rows=3, of=1200, first=("a.jsonl:4", "a.jsonl:7", "b.jsonl:1", "b.jsonl:2"))
    files = {"bad_rows": [Path("log/bad.jsonl")]}
    (breach,) = find_breaches(LimitsConfig(bad_rows=0.001), {"bad_rows": share}, files)
    assert breach == (
        "3 of 1,200 rows (0.2 %) could not be read, such as a.jsonl:4, a.jsonl:7, b.jsonl:1; "
        "limits.bad_rows allows 0.1 %. Mend the lines, or name the right keys in data.columns, or "
        "raise limits.bad_rows. See log/bad.jsonl."
    )


def test_a_small_share_never_reads_as_none() -> None:
    """1 of 1,000,000 is 0.0001 %."""
    faults = {"secrets": Share(rows=1, of=1_000_000)}
    assert "1 of 1,000,000 rows (0.0001 %)" in find_breaches(LimitsConfig(), faults)[0]


def test_no_limit_is_never_passed() -> None:
    """It stands as null in the recipe."""
    assert find_breaches(LimitsConfig(bad_rows=None), {"bad_rows": Share(rows=9, of=9)}) == []


def test_all_breaches_are_said_at_once() -> None:
    """Two limits of zero, in the order of the recipe's page."""
    faults = {"cut_targets": Share(rows=1, of=10), "bad_rows": Share(rows=1, of=10)}
    with pytest.raises(DataError, match=r"(?s)2 limits are passed.*bad_rows.*cut_targets"):
        refuse_breaches(LimitsConfig(), faults)


def test_nothing_is_refused_within_the_limits() -> None:
    """The share of duplicates has no limit of its own."""
    refuse_breaches(LimitsConfig(), {"exact_duplicates": Share(rows=5, of=10)})


@pytest.mark.parametrize("name", LimitsConfig.model_fields)
def test_every_limit_can_be_passed(name: str) -> None:
    """A new limit without words for it would fail only when it is needed."""
    limits = LimitsConfig.model_validate({name: 0.5})
    (breach,) = find_breaches(limits, {name: Share(rows=6, of=10)})
    assert f"limits.{name} allows 50.0 %" in breach


def test_faults_of_all_stages_are_listed_with_their_files(tmp_path: Path) -> None:
    """Bad rows stand beside their source, the others beside what counted them."""
    (tmp_path / "clean" / DROPPED_FILE).parent.mkdir(parents=True)
    (tmp_path / "clean" / DROPPED_FILE).touch()
    share = Share(rows=1, of=2)
    clean = CleanRef(
        digest="c", folder=tmp_path / "clean", rows=2, test_rows=0,
        faults={"bad_rows": share, "secrets": share},
    )  # fmt: skip
    split = SplitRef(
        digest="s", folder=tmp_path / "split", train=1, validation=1, test=1, groups_shared=0,
        faults={"leaked_rows": share},
    )  # fmt: skip
    chat = ChatRef(
        digest="h", folder=tmp_path / "chat", train=1, validation=1, test=1, side_digests={},
        tokenizer_digest="t", train_tokens=1, answer_tokens=1, longest_tokens=1,
        faults={"no_end": share},
    )  # fmt: skip
    rows = DatasetRef(
        digest="r", folder=tmp_path / "rows", format="text", rows=2, bad_rows=1, labels=(),
        databases=0,
    )  # fmt: skip
    assert list(merge_faults(clean, split, chat)) == [
        "bad_rows", "secrets", "leaked_rows", "no_end",
    ]  # fmt: skip
    assert list_fault_files(clean, split, chat, [rows]) == {
        "bad_rows": (tmp_path / "rows" / BAD_FILE,),
        "secrets": (tmp_path / "clean" / DROPPED_FILE,),
        "leaked_rows": (tmp_path / "split" / LEAK_PAIRS_FILE,),
        "no_end": (tmp_path / "chat" / LEFT_OUT_FILE,),
    }


def test_rows_of_one_class_are_refused() -> None:
    """Whatever is trained on them, there is nothing to tell apart."""
    place: Any = {"digest": "d", "folder": Path("x"), "bad_rows": 0, "databases": 0}
    rows = [DatasetRef(**place, format="text_label", rows=12, labels=("spam",))]
    with pytest.raises(DataError, match=r"all 12 rows with a label have the same one, 'spam'"):
        refuse_single_class(("spam",), rows)
    refuse_single_class(("ham", "spam"), rows)
    refuse_single_class((), [])
