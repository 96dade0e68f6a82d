"""Sentences of two languages, and the label that a careful reader takes out of each."""

import csv
from pathlib import Path

import pytest

from retune.scoring.classification.extraction import read_label

TABLE = Path(__file__).with_name("label_sentences.tsv")
NOTHING = "-"


def read_table() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("part", ["held_out", "tuned"])
@pytest.mark.parametrize("language", ["pt", "en"])
def test_every_sentence_is_read_as_a_person_reads_it(language: str, part: str) -> None:
    """Held-out sentences were written before the reader; a doubtful one has no label."""
    rows = [row for row in read_table() if (row["language"], row["part"]) == (language, part)]
    assert len(rows) >= (20 if part == "held_out" else 60)
    differing = []
    for row in rows:
        found = read_label(row["text"], row["labels"].split("|"))
        if (found.label or NOTHING) != row["expected"]:
            differing.append((row["text"], row["expected"], found))
        assert (found.label is None) is (found.reason is not None)
    assert differing == []
