"""Requests as prompts, and their comparison with training rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from retune.data.chats.tokenizers import load_tokenizer
from retune.data.tables import read_rows
from retune.errors import DataError
from retune.model_records import BaseRef
from retune.records import LOG_FOLDER, ChatRef, SplitRef
from retune.retraining.comparing import REPORT_FILE, compare_requests
from retune.retraining.drift_records import DriftReport, RequestsRef, View
from retune.retraining.known_rows import draw_rows
from retune.retraining.requests import write_prompts
from retune.retraining.stages import CompareInputs, CompareSettings
from tests.making import make_workdir
from tests.retune.retraining.conftest import MakeRequests


def train_rows(chats: ChatRef) -> list[dict[str, Any]]:
    return read_rows(chats.side("train").folder / "rows.parquet")


def compare(
    folder: Path, chats: ChatRef, base: BaseRef, requests: RequestsRef, **changes: Any
) -> DriftReport:
    settings = {"system": None, "seed": 7, "min_rows": 10, "loss": True}
    split = SplitRef(digest="s", folder=folder, train=1, validation=1, test=1, groups_shared=0)
    view: View = changes.pop("view", "prompt")
    return compare_requests(
        CompareInputs(
            requests=requests,
            rows=chats.side("train"),
            split=split,
            base=base,
            template=None,
            view=view,
        ),
        CompareSettings(**settings | changes),
        make_workdir(folder / "compare"),
    )


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_bad_lines_are_counted_and_listed(make_requests: MakeRequests) -> None:
    """They are no error as long as one line can be read."""
    requests = make_requests([{"prompt": "a"}, b"oops", {"other": 1}])
    assert (requests.rows, requests.bad_lines) == (1, 2)
    listed = (requests.folder / LOG_FOLDER / "bad.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["place"].rpartition("/")[2] for line in listed] == [
        *("log.jsonl:2", "log.jsonl:3"),
    ]


def test_a_log_without_a_good_line_is_an_error(make_requests: MakeRequests) -> None:
    """It names the log, the first lines and what is wrong with them."""
    with pytest.raises(DataError, match=r"no line of log\.jsonl can be read\.\n.*jsonl:1: exp"):
        make_requests([b"a", b"b", b"c", b"d"])


def test_a_text_a_chat_and_a_whole_prompt_are_one_prompt(
    make_requests: MakeRequests, base: BaseRef
) -> None:
    """What a user says is written by the template; what the template wrote stays as it is.

    The tiny template is <|role|>content<|endoftext|>, and <|assistant|> last.
    """
    tokenizer = load_tokenizer(base.folder)
    end = tokenizer.eos_token
    whole = f"<|system|>Be brief.{end}<|user|>Hi{end}<|assistant|>"
    chat = [{"role": "system", "content": "Be brief."}, *user("Hi")]
    requests = make_requests([{"prompt": "Hi"}, {"messages": chat}, {"prompt": whole}])
    found = write_prompts(requests, tokenizer, "prompt", "Be brief.")
    assert [each.text for each in found] == [whole] * 3


def test_questions_are_taken_out_of_chats(make_requests: MakeRequests, base: BaseRef) -> None:
    """Where rows are compared by their questions alone."""
    requests = make_requests(
        [{"question": "Hi"}, {"messages": [*user("first"), *user("last")]}], "question"
    )
    found = write_prompts(requests, load_tokenizer(base.folder), "question", "Be brief.")
    assert [each.text for each in found] == ["Hi", "last"]


@pytest.mark.parametrize("view", ["prompt", "question"])
def test_the_training_rows_themselves_are_no_drift(
    tmp_path: Path, chats: ChatRef, base: BaseRef, make_requests: MakeRequests, view: View
) -> None:
    """As they were served: the same prompts have the same lengths and tokens, index 0."""
    rows = train_rows(chats)
    requests = make_requests([{"prompt": row[view]} for row in rows])
    report = compare(tmp_path, chats, base, requests, view=view)
    assert [each.value for each in report.indices] == [0.0, 0.0, 0.0]
    assert all(each.chance > 0.0 for each in report.indices)
    assert (report.requests, report.rows, report.unwritten) == (len(rows), len(rows), 0)


def test_error_is_divided_by_all_that_may_be_asked(
    tmp_path: Path, chats: ChatRef, base: BaseRef, make_requests: MakeRequests
) -> None:
    """Three indices, and the losses where they are wanted."""
    requests = make_requests([{"prompt": f"question {at}"} for at in range(30)])
    found = [
        compare(tmp_path / str(loss), chats, base, requests, loss=loss).level
        for loss in (True, False)
    ]
    assert found == [pytest.approx(0.05 / 4), pytest.approx(0.05 / 3)]


def test_other_prompts_are_drift_and_stand_in_the_report(
    tmp_path: Path, chats: ChatRef, base: BaseRef, make_requests: MakeRequests
) -> None:
    """Bins of each index add up to 1; equal inputs have equal digests."""
    requests = make_requests([{"prompt": "what is it? " * (at % 3 + 1)} for at in range(60)])
    first, second = (
        compare(tmp_path / name, chats, base, requests) for name in ("first", "second")
    )
    assert first.digest == second.digest
    assert json.loads((first.folder / REPORT_FILE).read_text())["requests"] == 60
    assert all(each.value > max(each.chance, 0.2) for each in first.indices)
    for each in first.indices:
        assert sum(one.rows for one in each.bins) == pytest.approx(1.0)
        assert sum(one.requests for one in each.bins) == pytest.approx(1.0)


def test_too_few_prompts_are_not_compared(
    tmp_path: Path, chats: ChatRef, base: BaseRef, make_requests: MakeRequests
) -> None:
    """Nothing is concluded from nine where ten are asked for."""
    lines = [{"prompt": f"q {at}"} for at in range(9)]
    report = compare(tmp_path, chats, base, make_requests(lines))
    assert report.indices == () and report.requests == 9


def test_of_many_rows_some_are_drawn_by_seed(chats: ChatRef) -> None:
    """In their order; the same ones for the same seed."""
    side = chats.side("train")
    all_rows = draw_rows(side, "prompt", 1000, 7)
    assert [each.text for each in all_rows] == [row["prompt"] for row in train_rows(chats)]
    drawn: Sequence[Any] = draw_rows(side, "prompt", 5, 7)
    assert drawn == draw_rows(side, "prompt", 5, 7) != draw_rows(side, "prompt", 5, 8)
    assert [each for each in all_rows if each in drawn] == drawn and len(drawn) == 5
