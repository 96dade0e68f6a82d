"""What rows and turns say of themselves beside question and answer: read, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retune.data.formats.marks import verdict_of
from retune.data.formats.meanings import MEANINGS, Meaning, Reading
from retune.data.formats.names import NAMES, fold_name
from retune.data.formats.normalising import Layout
from retune.errors import DataError
from retune.recipe.sections.data import ColumnsConfig, FormatName

DOCS = Path(__file__).parents[4] / "docs" / "data.md"
USER = {"role": "user", "content": "q"}
SYSTEM = {"role": "system", "content": "s"}
OWN: dict[FormatName, dict[str, Any]] = {
    "messages": {"messages": [USER, {"role": "assistant", "content": "a"}]},
    "conversations": {
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    },
    "instruction": {"instruction": "q", "output": "a"},
    "prompt_completion": {"prompt": "q", "completion": "a"},
    "text_label": {"text": "q", "label": "a"},
    "text_to_sql": {"question": "q", "context": "CREATE TABLE t (a)", "query": "a"},
    "text": {"text": "a"},
    "harmony": {
        "text": "<|start|>user<|message|>q<|end|>"
        "<|start|>assistant<|channel|>final<|message|>a<|return|>"
    },
}
ASKED = [name for name in OWN if name not in ("text", "harmony")]


def read(
    layout: FormatName, beside: dict[str, Any], *, ignore: tuple[str, ...] = (), **columns: str
) -> dict[str, Any]:
    how = Layout(layout, ColumnsConfig(**columns), ignore=frozenset(ignore))
    return how.normalise({**OWN[layout], **beside}).fields


@pytest.mark.parametrize("layout", ASKED)
@pytest.mark.parametrize("key", ["system", "System", "system-prompt"])
def test_a_rows_own_system_message_comes_first(layout: FormatName, key: str) -> None:
    """In every layout with a question, and however the column is written."""
    assert read(layout, {key: "s"})["history"] == [SYSTEM]


@pytest.mark.parametrize("layout", ASKED)
@pytest.mark.parametrize(
    "told",
    [
        [["h", "i"]],
        [{"role": "user", "content": "h"}, {"role": "assistant", "content": "i"}],
        [{"from": "human", "value": "h"}, {"from": "gpt", "value": "i"}],
        [{"user": "h", "assistant": "i"}],
        '[["h", "i"]]',
    ],
)
def test_history_is_read_as_turns(layout: FormatName, told: Any) -> None:
    """Pairs of question and answer, or turns, or the JSON of them; the system message before."""
    found = read(layout, {"history": told, "system": "s"})["history"]
    assert found == [
        SYSTEM,
        {"role": "user", "content": "h"},
        {"role": "assistant", "content": "i"},
    ]


@pytest.mark.parametrize("layout", [name for name in ASKED if name != "text_label"])
@pytest.mark.parametrize("key", ["thinking", "reasoning_content", "Complex_CoT", "raciocínio"])
def test_thoughts_beside_the_answer_are_read(layout: FormatName, key: str) -> None:
    """Under each of the names that public sets use."""
    assert read(layout, {key: "hm"})["thinking"] == "hm"


def test_a_stated_column_goes_before_the_known_names() -> None:
    """And the known ones then mean nothing more."""
    fields = read("instruction", {"persona": "s", "system": "x"}, system="persona")
    assert fields["history"] == [SYSTEM]


def test_two_system_messages_that_differ_are_refused() -> None:
    """One of both would be lost; the same one twice is one."""
    turns = [SYSTEM, *OWN["messages"]["messages"]]
    assert read("messages", {"messages": turns, "system": "s"})["history"] == [SYSTEM]
    with pytest.raises(DataError, match="the turns have a system message, and another one"):
        read("messages", {"messages": turns, "system": "other"})


@pytest.mark.parametrize(
    ("layout", "beside", "reason"),
    [
        ("messages", {"images": ["x.jpg"]}, "'images' is a filled list"),
        ("instruction", {"image": "x.jpg"}, "'image' is 'x.jpg'"),
        ("text", {"video": "x.mp4"}, "'video' is"),
        ("text_label", {"audio": "x.wav"}, "'audio' is"),
        ("instruction", {"instruction": "<image> q", "images": []}, "a text has a place for"),
        ("messages", {"label": False}, "'label' is false: the row is marked as a bad answer"),
        ("prompt_completion", {"label": 0}, "'label' is 0: the row is marked as a bad"),
        ("instruction", {"feedback": "👎"}, "marked as a bad answer"),
        ("conversations", {"thumbs_down": True}, "'thumbs_down' is true: the row is marked"),
        ("instruction", {"avaliação": 2}, "'avaliação' is 2: it says how good the answer is"),
        ("messages", {"score": 0.3}, "'score' is 0.3: it says how good"),
        ("instruction", {"feedback": "shorter, please"}, "it says whether the answer is a good"),
        ("messages", {"weight": 0}, "'weight' is 0: it says how much the row counts"),
        ("text", {"sample_weight": 0.5}, "'sample_weight' is 0.5"),
        ("prompt_completion", {"rejected": "b"}, "'rejected' is 'b'.*dpo.pairs"),
        ("messages", {"documents": ["d"]}, "'documents' is a filled list"),
        ("messages", {"context": "d"}, "'context' is 'd'"),
        ("instruction", {"choices": ["1", "2"]}, "which answers there are to choose from"),
        ("instruction", {"A": "1", "B": "2", "C": "3", "D": "4"}, "'A' is '1'"),
        ("text_to_sql", {"evidence": "e"}, "'evidence' is 'e'"),
        ("text", {"system": "s"}, "'system' is 's'"),
        ("harmony", {"history": [["a", "b"]]}, "'history' is a filled list"),
        ("text_label", {"reasoning": "hm"}, "'reasoning' is 'hm'"),
        ("text_label", {"question": "more"}, "'question' is 'more'"),
        ("text_label", {"tools": [{"name": "f"}]}, "'tools' is a filled list"),
        ("instruction", {"history": "Human: h"}, "expected earlier turns"),
        ("instruction", {"history": [["h"]]}, "entry 1 of 'history' is a list of 1"),
        ("instruction", {"thinking": "a", "cot": "b"}, "'thinking' and 'cot' could each be"),
        ("instruction", {"input": "a", "context": "b"}, "'input' and 'context' could each be"),
        ("messages", {"tools": [{"x": 1}]}, "expected a list of tools"),
        ("messages", {"tools": "no json"}, "'tools' is no JSON"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(
    layout: FormatName, beside: dict[str, Any], reason: str
) -> None:
    """Never passed over: the model would learn something else than the row says."""
    with pytest.raises(DataError, match=reason):
        read(layout, beside)


@pytest.mark.parametrize(
    ("layout", "beside"),
    [
        ("messages", {"images": [], "image": None, "tools": None, "label": None, "system": ""}),
        ("messages", {"label": True, "weight": 1, "thumbs_down": 0, "feedback": "up"}),
        ("prompt_completion", {"label": "1", "weight": "1.0"}),
        ("prompt_completion", {"images": "[]", "label": "None", "weight": "", "tools": "[]"}),
        ("instruction", {"score": float("nan"), "system": float("nan")}),
        ("instruction", {"category": "qa", "source": "x", "text": "all of it", "id": 3}),
        ("text", {"score": 0.9, "language": "pt", "label": None}),
        ("text_label", {"idx": 3, "score": 0.2}),
    ],
)
def test_what_says_nothing_else_is_read_as_ever(layout: FormatName, beside: dict[str, Any]) -> None:
    """Empty columns, marks of a good answer, weights of 1, and what is only noted beside."""
    assert read(layout, beside)["answer"] == "a"


@pytest.mark.parametrize(
    ("layout", "beside"),
    [
        ("messages", {"images": ["x"], "label": False, "weight": 0.5, "score": 1}),
        ("instruction", {"system": "s", "history": [["h", "i"]], "rating": 2}),
    ],
)
def test_what_the_recipe_ignores_is_passed_over(layout: FormatName, beside: dict[str, Any]) -> None:
    """Whatever it means: refused, or read."""
    fields = read(layout, beside, ignore=tuple(beside))
    assert fields == read(layout, {})


def test_a_key_with_a_stated_role_is_no_mark() -> None:
    """Whoever names the rating as answer learns ratings."""
    assert read("instruction", {"rating": 2}, answer="rating")["answer"] == "2"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, True), (0, False), (-1, False), (1.0, True), ("Não", False), ("Thumbs Up", True),
        ("1.0", True), (2, None), (0.5, None), ("maybe", None), ("", None), (["no"], None),
    ],
)  # fmt: skip
def test_verdicts_are_words_and_numbers(value: Any, said: bool | None) -> None:
    """Anything else says neither yes nor no, and is never taken for one of both."""
    assert verdict_of(value) is said


class TestTurns:
    """Marks of single turns."""

    def turns(self, *marks: dict[str, Any], ignore: tuple[str, ...] = ()) -> dict[str, Any]:
        turns = [
            turn for mark in marks for turn in (USER, {"role": "assistant", "content": "a", **mark})
        ]
        return read("messages", {"messages": turns}, ignore=ignore)

    @pytest.mark.parametrize(
        "mark",
        [{"weight": 0}, {"train": False}, {"loss": 0}, {"loss_mask": 0.0}, {"ignore": True},
         {"feedback": "bad"}, {"weight": "0"}],
    )  # fmt: skip
    def test_a_turn_that_is_not_to_be_learned_says_so(self, mark: dict[str, Any]) -> None:
        """As OpenAI, axolotl and others write it; of an earlier turn and of the answer."""
        fields = self.turns(mark, {})
        assert [turn.get("learned") for turn in fields["history"]] == [None, False]
        assert fields["learned"] is None
        assert self.turns({}, mark)["learned"] is False

    @pytest.mark.parametrize("mark", [{"weight": 1}, {"train": True}, {"weight": None}, {}])
    def test_any_other_turn_is_learned(self, mark: dict[str, Any]) -> None:
        """Nothing said, null (as Parquet fills absent keys), and what says yes."""
        fields = self.turns(mark, mark)
        assert all("learned" not in turn for turn in fields["history"])
        assert fields["learned"] is None

    @pytest.mark.parametrize(
        ("mark", "reason"),
        [
            ({"weight": 0.5}, "'weight' of turn 2 is 0.5"),
            ({"train_detail": [{"begin_offset": 0}]}, "'train_detail' of turn 2"),
            ({"mask": 1}, "'mask' of turn 2 is 1"),
            ({"rating": 3}, "'rating' of turn 2 is 3"),
            ({"images": ["x"]}, "'images' of turn 2"),
            ({"refusal": "No."}, "'refusal' of turn 2"),
            ({"thinking": "a", "reasoning": "b"}, "two different thoughts"),
            ({"channel": "analysis"}, "of the channel 'analysis', expected final"),
            ({"value": "b"}, "turn 2 says two different things, under 'content' and 'value'"),
        ],
    )
    def test_what_cannot_be_followed_is_refused(self, mark: dict[str, Any], reason: str) -> None:
        """With the key, the turn and the value."""
        with pytest.raises(DataError, match=reason):
            self.turns(mark)

    def test_what_the_recipe_ignores_is_passed_over(self) -> None:
        """The same names hold for turns."""
        fields = self.turns({"weight": 0.5, "rating": 1}, ignore=("weight", "rating"))
        assert (fields["answer"], fields["learned"]) == ("a", None)

    def test_thoughts_of_earlier_turns_stay_with_them(self) -> None:
        """Only the last ones are those of the answer."""
        fields = self.turns({"reasoning_content": "one"}, {"thought": "two"})
        assert fields["history"][1]["thinking"] == "one"
        assert fields["thinking"] == "two"

    def test_thoughts_among_the_parts_of_a_content(self) -> None:
        """As Anthropic's messages have them."""
        parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]
        fields = self.turns({"content": parts})
        assert (fields["thinking"], fields["answer"]) == ("hm", "a")

    def test_two_users_are_not_taken_for_one(self) -> None:
        """Names that no prompt shows would be lost; one name for all says nothing."""
        one, two = {**USER, "name": "Ana"}, {**USER, "name": "Rui"}
        said = {"role": "assistant", "content": "a"}
        assert read("messages", {"messages": [one, said, one, said]})["question"] == "q"
        with pytest.raises(DataError, match="'user' have different names"):
            read("messages", {"messages": [one, said, two, said]})


def test_no_name_is_looked_for_under_two_roles_of_a_layout() -> None:
    """A text would be question and answer at once."""
    for layout, roles in NAMES.items():
        names = [name for known in roles.values() for name in known]
        assert len(names) == len(set(names)), layout


def test_all_names_are_folded() -> None:
    """An accent or a capital in the table would never be found."""
    listed = [name for known in NAMES.values() for names in known.values() for name in names]
    listed += [name for meaning in MEANINGS for name in meaning.names]
    assert [name for name in listed if fold_name(name) != name] == []


DONE: dict[Reading, str] = {
    "refused": "refused where it is filled",
    "verdict": "good: read; bad or unclear: refused, of a turn: no loss on it",
    "counter_verdict": "not bad: read; bad or unclear: refused, of a turn: no loss on it",
    "weight": "1: read; another: refused",
    "mark": "0: no loss on the turn; 1: read; another: refused",
    "counter_mark": "1: no loss on the turn; 0: read; another: refused",
    "use": "0: refused; others: not used",
    "counter_use": "1: refused; others: not used",
}


def table_lines() -> list[str]:
    """Return the table as lines of Markdown, as docs/data.md shows it."""
    lines = []
    for meaning in MEANINGS:
        names = ", ".join(f"`{name}`" for name in meaning.names)
        where = ["row"] * meaning.in_rows + ["turn"] * meaning.in_turns
        lines.append(
            f"| {names} | {' and '.join(where)} | {layouts_text(meaning)} | {meaning.says} | "
            f"{DONE[meaning.reading]} |"
        )
    return lines


def layouts_text(meaning: Meaning) -> str:
    if not meaning.in_rows:
        return "turns"
    here, all_of = meaning.layouts - {"pairs"}, frozenset(NAMES)
    if here == all_of:
        return "all"
    if here == all_of - {"text", "text_label"}:
        return "all but text, text_label"
    return ", ".join(sorted(here))


def test_the_documentation_shows_the_whole_table() -> None:
    """Each line of it, and each layout's names."""
    text = DOCS.read_text("utf-8")
    assert [line for line in table_lines() if line not in text] == []


def test_a_row_stays_json(tmp_path: Path) -> None:
    """What is read as JSON text is JSON: tools as the row states them."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"a": "ç"}}}]
    for written in (tools, json.dumps(tools), [json.dumps(tools[0])]):
        assert json.loads(read("messages", {"tools": written})["tools"]) == tools


@pytest.mark.parametrize(
    "key", ["systemPrompt", "SystemPrompt", "sys_prompt", "sistema", "preamble"]
)
def test_a_system_message_is_read_however_its_name_is_written(key: str) -> None:
    """Words may begin with capitals alone, as programs in JavaScript write keys."""
    assert read("instruction", {key: "s"})["history"] == [SYSTEM]


def test_thoughts_keep_their_name_with_capitals_inside() -> None:
    """`CoT` is one word, and no `co_t`."""
    assert fold_name("Complex_CoT") == "complex_cot"
    assert read("instruction", {"reasoningContent": "hm"})["thinking"] == "hm"


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"train": False}, "'train' is false: it says whether the row is to be learned from"),
        ({"useForTraining": "no"}, "'useForTraining' is 'no'"),
        ({"is_valid": 0}, "'is_valid' is 0"),
        ({"skip": True}, "'skip' is true: it says whether the row is to be left out"),
        ({"hallucination": True}, "'hallucination' is true: the row is marked as a bad"),
        ({"tool_calls": [{"name": "f"}]}, "'tool_calls' is a filled list"),
        ({"attachments": ["a.pdf"]}, "'attachments' is a filled list"),
        ({"option_a": "1", "option_b": "2"}, "'option_a' is '1': it says which answers there are"),
        ({"answer_choices": ["1", "2"]}, "'answer_choices' is a filled list"),
        ({"document": "word " * 20}, "'document' is .*data.columns.context"),
    ],
)
def test_a_row_that_is_to_be_left_out_is_refused(beside: dict[str, Any], reason: str) -> None:
    """By what it says of itself, under names that often stand for something else."""
    with pytest.raises(DataError, match=reason):
        read("instruction", beside)


@pytest.mark.parametrize(
    "beside",
    [
        {"train": True, "is_valid": 1, "skip": False},
        {"training": "2024-05", "keep": "yes", "active": "since May"},
        {"document": "manual.pdf", "images": [], "tools": None, "labels": [], "weight": None},
    ],
)
def test_what_says_neither_yes_nor_no_is_a_note(beside: dict[str, Any]) -> None:
    """Such names often stand for something else, and a short text is a document's name."""
    assert read("instruction", beside)["answer"] == "a"


def test_all_keys_that_refuse_a_row_are_named_at_once() -> None:
    """Who passes over one is not told of the next one then."""
    beside = {"score": 3, "topic": "x", "rating": 4, "rejected": "b"}
    with pytest.raises(DataError, match=r"'score' is 3.*data.ignore: \[score, rating, rejected\]"):
        read("instruction", beside)
    assert read("instruction", beside, ignore=("score", "rating", "rejected"))["answer"] == "a"


@pytest.mark.parametrize("key", ["passage", "contexto", "entrada"])
def test_the_text_that_an_answer_is_taken_from_is_read(key: str) -> None:
    """A question without it could not be answered."""
    assert read("instruction", {key: "t"})["context"] == "t"


def test_words_that_tables_write_for_nothing_are_nothing() -> None:
    """A model must not be told that its system message is `nan`."""
    beside = {"system": "nan", "history": "[]", "thinking": "None", "tools": "null"}
    fields = read("instruction", beside)
    assert (fields["history"], fields["thinking"], fields["tools"]) == ([], None, None)


@pytest.mark.parametrize(
    "answers",
    [{"text": ["a", "b"], "answer_start": [1, 5]}, "{'text': ['a'], 'answer_start': [1]}"],
)
def test_answers_as_squad_keeps_them_are_read(answers: Any) -> None:
    """The first one; a question without any has no answer to learn."""
    how = Layout("instruction", ColumnsConfig())
    row = {"id": "1", "title": "T", "context": "c", "question": "q", "answers": answers}
    fields = how.normalise(row).fields
    assert (fields["question"], fields["context"], fields["answer"]) == ("q", "c", "a")
    with pytest.raises(DataError, match="'answers' is empty"):
        how.normalise({**row, "answers": {"text": [], "answer_start": []}})


def test_no_picture_is_no_picture() -> None:
    """A column of truth values says that there are none."""
    assert read("instruction", {"image": False, "audio": 0})["answer"] == "a"
    with pytest.raises(DataError, match="'image' is true"):
        read("instruction", {"image": True})


@pytest.mark.parametrize(
    ("said", "good"),
    [("OK", True), ("pass", True), ("Ótima", True), ("certa", True), ("fail", False),
     ("péssimo", False), ("errada", False), ("reject", False), ("billing", None), (3, None)],
)  # fmt: skip
def test_words_for_good_and_bad_in_both_languages(said: Any, good: bool | None) -> None:
    """Whatever is none of them is neither, and asked about."""
    assert verdict_of(said) is good
