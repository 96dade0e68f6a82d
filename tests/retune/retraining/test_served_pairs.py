"""Pairs that a server kept: who is right where a person said so, and nothing of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from retune.cli.app import app
from retune.errors import DataError
from retune.retraining.pair_verdicts import PairFigures, compare_pairs
from retune.retraining.served_pairs import read_judgements, read_pairs
from retune.serving.messages import Ask, Asked
from retune.serving.request_log import RequestLog
from retune.sql.records import SqlLimits
from tests.retune.serving.test_request_log import MODEL

SECOND = "models:/m/2"
TABLES = "CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1), (2);"


class Log:
    """A folder as a server writes it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.log = RequestLog(folder, 1.0, 10**9, 2)

    def add(
        self,
        *answers: str,
        said: str | None = None,
        script: str = "",
        classify: bool = False,
        question: str | None = None,
    ) -> None:
        """Keep a request, both answers, and what was said: `good`, `bad`, or a correction."""
        self.count += 1
        text = question or f"q{self.count}"
        turns = ({"role": "user", "content": text},)
        asked = Asked(question=text, ddl=script, script=script)
        ask = Ask(id=f"{self.count:032x}", messages=turns, asked=asked, classify=classify)
        self.log.write(ask, MODEL, answers[0], None)
        self.log.pair(ask, dict(zip((MODEL.address, SECOND), answers, strict=True)))
        if said is not None:
            correction = None if said in ("good", "bad") else said
            assert self.log.judge(ask.id, "good" if said == "good" else "bad", correction) == "kept"

    def compare(self) -> PairFigures:
        pairs, _ = read_pairs(self.folder)
        said, _ = read_judgements(self.folder)
        limits = SqlLimits(deadline_s=5.0)
        [found] = compare_pairs(pairs, said, dialect="sqlite", limits=limits, resamples=200)
        return found


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def known(found: PairFigures) -> tuple[int, int, int, int]:
    return found.champion_right, found.challenger_right, found.difference.n, found.unknown


def test_answers_that_nobody_judged_decide_nothing(log: Log) -> None:
    """Three of four are the same; who is right is not known."""
    for answer in ("a", "a", "a", "b"):
        log.add("a", answer)

    found = log.compare()
    assert (found.pairs, found.same.value) == (4, 0.75)
    assert (known(found), found.verdict) == ((0, 0, 0, 0), "undecided")
    assert (found.champion, found.challenger) == (MODEL.address, SECOND)


def test_of_a_text_only_what_is_equal_is_known(log: Log) -> None:
    log.add("right", "right", said="good")  # both
    log.add("right", "another", said="good")  # another may be right too
    log.add("wrong", "right", said="right")  # the challenger alone
    log.add("wrong", "wrong", said="right")  # neither
    log.add("wrong", "another", said="right")  # another may be right too
    log.add("wrong", "wrong", said="bad")  # neither
    log.add("wrong", "another", said="bad")  # what is right, nobody said

    found = log.compare()
    assert known(found) == (1, 2, 4, 3)
    assert (found.good, found.bad) == (2, 5)


def test_a_query_is_right_by_its_result(log: Log) -> None:
    """Held against the correction, or against the answer that was called good."""
    log.add("SELECT a FROM t", "SELECT t.a FROM t;", said="good", script=TABLES)
    log.add("SELECT a FROM t", "SELECT 1", said="good", script=TABLES)
    log.add("SELECT 1", "SELECT max(a) FROM t", said="SELECT 2", script=TABLES)
    log.add("SELECT 1", "SELECT b FROM t", said="SELECT nothing FROM t", script=TABLES)

    found = log.compare()
    # The last correction does not run itself.
    assert known(found) == (2, 2, 3, 1)


def test_a_class_is_right_by_its_name(log: Log) -> None:
    """Another class than the right one is wrong, whatever it is."""
    log.add("bom", "ruim", said="good", classify=True)
    log.add("bom", "neutro", said="ruim", classify=True)
    log.add("bom", "ruim", said="ruim", classify=True)

    assert known(log.compare()) == (1, 1, 3, 0)


def test_who_is_shown_to_be_better_takes_judgements_of_both_kinds(log: Log) -> None:
    """Ten corrections that the challenger answers right: 2 * 0.5 ** 10 is under 0.05.

    Alone they say nothing, since the champion is wrong there by choice.
    """
    for _ in range(10):
        log.add("wrong", "right", said="right")
    alone = log.compare()
    assert (alone.difference.verdict, alone.verdict) == ("better", "undecided")

    log.add("right", "right", said="good")
    found = log.compare()
    assert (found.verdict, found.difference.difference) == ("better", 10 / 11)
    assert found.difference.p_value == pytest.approx(2 * 0.5**10)


def test_requests_that_ask_the_same_are_one_group(log: Log) -> None:
    """Ten times one question is one thing that is known: too little to show anything."""
    for _ in range(10):
        log.add("wrong", "right", said="right", question="again")
    log.add("right", "right", said="good")

    found = log.compare()
    assert found.difference.groups == 2
    assert found.verdict == "undecided"


def test_the_last_word_of_a_person_counts(log: Log) -> None:
    log.add("a", "b", said="b")
    log.log.judge(f"{1:032x}", "good", None)

    found = log.compare()
    assert (found.good, found.bad) == (1, 0)


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["pairs", *arguments])


def test_the_command_says_it_in_a_table_and_by_its_exit_code(log: Log) -> None:
    """Six that the champion alone has right, which shows it, and one of the other kind.

    Lines that were cut off are told.
    """
    log.add("wrong", "wrong", said="right", classify=True)
    for _ in range(6):
        log.add("right", "wrong", said="good", classify=True)
    with open(log.folder / "pairs.jsonl", "a", encoding="utf-8") as file:
        file.write('{"id": "cut o')

    done = call(str(log.folder))
    shown = " ".join(done.output.split())
    assert done.exit_code == 1, done.output
    assert "models:/m/2 against models:/m/1" in shown and "worse" in shown
    assert "the champion right │ 6" in shown and "known of │ 7" in shown
    assert "cannot be read: 1 line" in shown
    told = json.loads(call(str(log.folder), "--json").stdout)
    assert (told[0]["verdict"], told[0]["champion_right"]) == ("worse", 6)


def test_newer_versions_come_last_and_are_what_the_exit_code_is_of(log: Log) -> None:
    """The challenger before was worse; of the one that is served now nothing is known."""
    log.add("wrong", "wrong", said="right", classify=True)
    for _ in range(6):
        log.add("right", "wrong", said="good", classify=True)
    line = {"id": "f" * 32, "prompt": "x", "answers": []}
    line["answers"] = [{"model": f"models:/m/{each}", "answer": "a"} for each in (1, 3)]
    with open(log.folder / "pairs.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")

    done = call(str(log.folder), "--json")
    assert [each["challenger"] for each in json.loads(done.stdout)] == [SECOND, "models:/m/3"]
    assert done.exit_code == 0
    assert "nobody has judged" in " ".join(call(str(log.folder)).output.split())


def test_where_no_pairs_are_the_way_to_them_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--shadow PERCENT --log-requests"):
        read_pairs(tmp_path)
    (tmp_path / "pairs.jsonl").write_text("[]\n{}\n")
    with pytest.raises(DataError, match=r"holds no pair of answers \(2 lines"):
        read_pairs(tmp_path)
