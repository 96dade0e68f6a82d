"""The stage that cleans rows."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retune.data.quality.near import hash_parts, sign_sets
from retune.errors import DataError
from tests.retune.data.quality.conftest import Cleaned, Made, clean_in

Clean = Callable[..., Cleaned]
LONG = "um dois três quatro cinco seis sete oito nove dez onze doze treze catorze"


def ask(*questions: str, **columns: Any) -> list[dict[str, Any]]:
    return [{"question": question, **columns} for question in questions]


def test_copies_are_counted_by_kind(clean: Clean) -> None:
    """Exact, folded (exact ones among them) and near copies; nothing is dropped by default."""
    # 12 shingles each, 11 of them shared by the last: 11 / 13 = 0.846
    found = clean(ask(LONG, LONG, LONG.upper(), LONG[:-7] + "quinze", "outra pergunta"))
    copies = found.report.duplicates
    assert (copies.exact, copies.folded, copies.near) == (1, 2, 1)
    assert found.ref.rows == 5
    assert found.ref.faults["exact_duplicates"].first == ("train.jsonl:2",)
    assert found.ref.faults["folded_duplicates"].rows == 2
    assert found.ref.faults["near_duplicates"].of == 5
    assert copies.examples[0] == ("train.jsonl:2", "train.jsonl:1")


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("none", [1, 2, 3, 4]), ("exact", [1, 3, 4]), ("folded", [1, 4]), ("near", [1])],
)
def test_copies_are_dropped_as_asked(clean: Clean, kind: str, kept: list[int]) -> None:
    """The first one stays, and the list says what each dropped row repeats."""
    rows = ask(LONG, LONG, LONG.upper(), LONG[:-7] + "quinze")
    found = clean(rows, drop_duplicates=kind)
    assert found.ids() == [f"train:{line}" for line in kept]
    assert [row["line"] for row in found.dropped] == [n for n in range(1, 5) if n not in kept]
    assert {row["repeats"] for row in found.dropped} <= {"train.jsonl:1"}
    assert all(set(row) == {"source", "file", "line", "reason", "repeats"} for row in found.dropped)


def test_one_question_over_two_databases_is_no_copy(clean: Clean) -> None:
    """The database belongs to what is compared, for near copies too."""
    found = clean([*ask(LONG, db_id="a"), *ask(LONG, db_id="b"), *ask(LONG, db_id="a")])
    copies = found.report.duplicates
    assert (copies.exact, copies.near) == (1, 0)


def test_two_questions_about_one_context_are_no_copies(clean: Clean) -> None:
    """Near copies ask nearly the same about nearly the same."""
    context = " ".join(f"palavra{n}" for n in range(200))
    rows = ask("Quem escreveu o texto?", "Onde fica a cidade?", LONG, context=context)
    again = ask(LONG[:-7] + "quinze", context=context + " fim")
    found = clean([*rows, *again])
    assert found.report.duplicates.near == 1
    assert found.report.duplicates.examples == (("train.jsonl:4", "train.jsonl:3"),)


def test_held_out_rows_are_compared_among_themselves(clean: Clean) -> None:
    """A held-out row that repeats a training row stays; one that repeats a held-out row goes."""
    found = clean(
        ask("uma", "duas"),
        Made(ask("uma", "uma", "três"), files=("test.jsonl",), held_out=True),
        drop_duplicates="exact",
    )
    assert found.ids() == ["train:1", "train:2", "test:1", "test:3"]
    assert found.ref.test_rows == 2
    assert found.report.duplicates.exact == 1


def test_conflicting_labels(clean: Clean) -> None:
    """Texts with two labels are counted, and all their rows dropped when asked."""
    rows = [
        {"question": "Bom dia!", "label": "x"},
        {"question": "bom dia", "label": "y"},
        {"question": "boa noite", "label": "x"},
        {"question": "boa noite", "label": "x"},
    ]
    found = clean(rows)
    assert (found.report.conflicting_texts, found.report.conflicting_rows) == (1, 2)
    assert found.report.labels == {"x": 3, "y": 1}
    dropped = clean(rows, drop_conflicting_labels=True, drop_duplicates="folded")
    assert dropped.ids() == ["train:3"]
    assert [row["reason"] for row in dropped.dropped] == [
        "conflicting label",
        "conflicting label",
        "exact duplicate",
    ]


def test_near_copy_of_a_contradicted_row_stays(clean: Clean) -> None:
    """What was dropped for its label is no reason to drop another row as its copy."""
    rows = [
        {"question": LONG, "label": "x"},
        {"question": LONG, "label": "y"},
        {"question": LONG[:-7] + "quinze", "label": "x"},
    ]
    found = clean(rows, drop_conflicting_labels=True, drop_duplicates="near")
    assert found.ids() == ["train:3"]


def test_bad_rows_are_counted_and_listed(clean: Clean) -> None:
    """Rows that could not be read are dropped rows, with file and line."""
    bad = [{"file": 1, "line": 7, "reason": "broken JSON"}]
    found = clean(Made(ask("uma"), files=("a.jsonl", "b.jsonl"), bad=bad))
    assert found.report.read == 2
    assert found.report.dropped == {"bad row": 1}
    assert found.ref.faults["bad_rows"].first == ("b.jsonl:7 (broken JSON)",)
    assert found.dropped == [
        {"source": 0, "file": "b.jsonl", "line": 7, "reason": "bad row: broken JSON"}
    ]


def test_names_of_rows(clean: Clean) -> None:
    """Side and line; with the source's and the file's number where there are several."""
    several = Made(
        [{"question": "a", "file": 0, "line": 1}, {"question": "b", "file": 1, "line": 1}],
        files=("a.jsonl", "b.jsonl"),
    )
    found = clean(several, ask("c"), Made(ask("d"), held_out=True), ask("e", row_id="eu"))
    assert found.ids() == ["train.0.0:1", "train.0.1:1", "train.1:1", "test:1", "eu"]


def test_rows_of_one_line_have_names_of_their_own(clean: Clean) -> None:
    """A list without line breaks begins all its rows on line 1; the next line counts anew."""
    rows = [
        {"question": word, "file": 0, "line": line}
        for word, line in zip("abcd", (1, 1, 1, 2), strict=True)
    ]
    found = clean(rows)
    assert found.ids() == ["train:1", "train:1.2", "train:1.3", "train:2"]


def test_repeated_id_is_refused(clean: Clean) -> None:
    """Two rows of one name are listed with file and line."""
    with pytest.raises(DataError, match=r"b:1: row id 'x' stands twice, first at a:1") as caught:
        clean(Made(ask("a", row_id="x"), files=("a",)), Made(ask("b", row_id="x"), files=("b",)))
    assert "data.columns.row_id" in caught.value.message


def test_groups_and_keys(clean: Clean) -> None:
    """Own group, else database, else folded text; own id, else content."""
    rows = [
        {"question": "a", "group": "g", "db_id": "d", "row_id": "r"},
        {"question": "b", "db_id": "d"},
        {"question": "Olá"},
        {"question": "ola!"},
    ]
    own, database, first, second = clean(rows).index
    assert (own["group"], own["key"]) == ("g", "r")
    assert database["group"] == "d"
    assert first["group"] == second["group"] == f"{first['folded']:016x}"
    assert first["key"] != second["key"]


def test_signatures_stand_in_the_order_of_the_index(clean: Clean) -> None:
    """Row n of the signatures is that of the text of row n of the index."""
    found = clean(
        ask("uma só pergunta curta", "uma só pergunta curta", LONG), drop_duplicates="exact"
    )
    written = np.load(found.ref.folder / "signatures.npy", mmap_mode="r")
    expected = sign_sets([*hash_parts("uma só pergunta curta"), *hash_parts(LONG)])
    np.testing.assert_array_equal(written, expected)


def test_weights_leave_rows_out(clean: Clean) -> None:
    """3 to 1 over 9 and 10 rows keeps 9 and 3; held-out rows all stay."""
    found = clean(
        Made(ask(*(f"a{n}" for n in range(9))), weight=3),
        Made(ask(*(f"b{n}" for n in range(10))), weight=1),
        Made(ask(*(f"c{n}" for n in range(5))), held_out=True),
    )
    assert [source.kept for source in found.report.sources] == [9, 3, 5]
    assert found.report.dropped == {"left out by weight": 7}


def test_added_rows_keep_the_mix(clean: Clean) -> None:
    """A row that is added to the larger source pushes out one old row at most."""
    small, large = [f"a{n}" for n in range(20)], [f"b{n}" for n in range(50)]

    def chosen(questions: list[str]) -> set[str]:
        found = clean(Made(ask(*small), weight=1), Made(ask(*questions), weight=1))
        return {row["key"] for row in found.index if row["source"] == 1}

    before, after = chosen(large), chosen([*large, "b50"])
    assert len(before) == len(after) == 20
    assert len(before - after) <= 1


def test_looks_become_faults(clean: Clean) -> None:
    """Characters, patterns and languages are counted by row, over question, context and answer."""
    rows = [
        {"question": "Quais são os nomes de todos os alunos da escola?", "answer": "a\x00"},
        {"question": "What are the names of all the students?", "context": "maria@exemplo.com.br"},
        {"question": "sim?", "answer": "AK" + "IA" + "Q" * 16},
    ]
    found = clean(rows, languages=["pt"])
    first = {name: share.first for name, share in found.ref.faults.items() if share.rows}
    assert first == {
        "unprintable": ("train.jsonl:1",),
        "other_languages": ("train.jsonl:2",),
        "personal_data": ("train.jsonl:2",),
        "secrets": ("train.jsonl:3",),
    }
    assert found.report.languages == {"en": 1, "pt": 1, "und": 1}
    assert found.report.characters["context"].percentiles["max"] == len("maria@exemplo.com.br")
    assert "other_languages" not in clean(rows).ref.faults


def test_nothing_left_is_an_error(clean: Clean) -> None:
    """When every row is dropped, it says for what."""
    rows = [{"question": "oi", "label": "x"}, {"question": "oi", "label": "y"}]
    with pytest.raises(DataError, match=r"No row of data\.train is left, .*conflicting_labels: 2"):
        clean(rows, drop_conflicting_labels=True)


def test_held_out_rows_that_are_all_dropped_are_an_error(clean: Clean) -> None:
    """Else training rows would be held out in their place, and nobody would know."""
    held_out = [{"question": "oi", "label": "x"}, {"question": "oi", "label": "y"}]
    learned = [{"question": "bom dia", "label": "x"}, {"question": "boa noite", "label": "y"}]
    test = Made(held_out, files=("test.jsonl",), held_out=True)
    with pytest.raises(DataError, match=r"^No row of data\.test is left, of 4 rows"):
        clean(learned, test, drop_conflicting_labels=True)


def test_log_is_no_part_of_the_digest(clean: Clean) -> None:
    """The same rows give the same digest, whatever their files are called."""
    first = clean(Made(ask("a", "b"), files=("a.jsonl",))).ref
    assert first.digest == clean(Made(ask("a", "b"), files=("z.jsonl",))).ref.digest
    assert first.digest != clean(Made(ask("a", "c"), files=("a.jsonl",))).ref.digest


QUESTIONS = st.lists(
    st.lists(st.sampled_from(["Um", "um", "dois", "três!", "tres"]), min_size=1, max_size=5).map(
        " ".join
    ),
    min_size=1,
    max_size=12,
)
KINDS = st.sampled_from(["none", "exact", "folded", "near"])


@given(QUESTIONS, QUESTIONS, KINDS)
@settings(max_examples=25, deadline=None)
def test_added_rows_change_no_old_row(old: list[str], new: list[str], kind: str) -> None:
    """Without weights, rows that are appended leave every old row kept or dropped as it was."""
    with tempfile.TemporaryDirectory() as name:
        before = clean_in(Path(name) / "a", Made(ask(*old)), drop_duplicates=kind)
        after = clean_in(Path(name) / "b", Made(ask(*old, *new)), drop_duplicates=kind)
    kept = [row["row"] for row in after.index if row["row"] < len(old)]
    assert kept == [row["row"] for row in before.index]


@given(QUESTIONS, KINDS)
@settings(max_examples=25, deadline=None)
def test_the_first_is_never_dropped(questions: list[str], kind: str) -> None:
    """Of every text that stood in the rows, folded, a row stays, and it is the first."""
    with tempfile.TemporaryDirectory() as name:
        found = clean_in(Path(name), Made(ask(*questions)), drop_duplicates=kind)
    assert found.index[0]["row"] == 0
    repeats = {row["line"]: int(row["repeats"].split(":")[1]) for row in found.dropped}
    kept = {row["row"] + 1 for row in found.index}
    assert all(first < line for line, first in repeats.items())
    # An exact copy names the row that it repeats, which may itself be a folded or near copy.
    for line in repeats:
        while line in repeats:
            line = repeats[line]
        assert line in kept


def test_sms_spam(clean: Clean, labelled: Any) -> None:
    """403 exact and 444 folded copies, the known figures."""
    copies = clean(labelled("sms_spam/sms_spam.csv", "label")).report.duplicates
    assert (copies.exact, copies.folded) == (403, 444)


def _plain(text: str) -> str:
    """Case and signs folded, accents kept: what the known figures were counted with."""
    return " ".join(re.sub(r"\W+", " ", text.lower()).split())


def test_told_br(clean: Clean, labelled: Any) -> None:
    """217 copies with accents kept, 65 texts with two labels; folding accents finds four more.

    The four (counted from 1, the header not): 12398 `e essa` for `é essa`, 14924 and 16511 `cú` for
    `cu`, 17435 `toquio` for `tóquio`.
    """
    rows = labelled("told_br/told_br.csv", "toxic")
    found = clean(rows, drop_duplicates="folded")
    assert found.report.conflicting_texts == 65
    seen: set[str] = set()
    plain = []
    for line, row in enumerate(rows, 1):
        if _plain(row["question"]) in seen:
            plain.append(line)
        seen.add(_plain(row["question"]))
    assert len(plain) == 217
    dropped = {row["line"] for row in found.dropped}
    assert set(plain) <= dropped
    assert dropped - set(plain) == {12398, 14924, 16511, 17435}
    assert found.report.duplicates.folded == 221
    # Tweets that talk of passwords are no secrets, and most tweets are long enough to be told.
    assert found.report.secrets == {}
    assert found.report.languages["pt"] > 0.8 * 21_000
