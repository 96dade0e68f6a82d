"""Layouts of rows: told apart, and brought to one."""

from __future__ import annotations

from typing import Any

import pytest

from retune.data.formats.detecting import Look, detect_format, fill_columns, missing_columns
from retune.data.formats.normalising import Layout, Normal
from retune.data.formats.schemas import create_statements
from retune.errors import DataError
from retune.recipe.sections.data import ColumnsConfig, FormatName

MADE = "CREATE TABLE t (a);\nINSERT INTO t VALUES (1);"
CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
SHARED = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


def look(
    row: dict[str, Any], *, labels: bool = False, databases: bool = False, **columns: str
) -> Look:
    return Look(row, ColumnsConfig(**columns), labels=labels, databases=databases)


def normalise(layout: FormatName, row: dict[str, Any], **columns: str) -> dict[str, Any]:
    return read(layout, row, **columns).fields


def read(layout: FormatName, row: dict[str, Any], **columns: str) -> Normal:
    return Layout(layout, ColumnsConfig(**columns)).normalise(row)


def parts(fields: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(fields[name] for name in ("question", "context", "answer"))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": CHAT}, "messages"),
        ({"conversations": SHARED}, "conversations"),
        ({"conversations": CHAT}, "conversations"),
        ({"text": "<|start|>user<|message|>q<|end|>"}, "harmony"),
        ({"sql_prompt": "q", "sql_context": MADE, "sql": "s"}, "text_to_sql"),
        ({"question": "q", "query": "s", "db_id": "d"}, "text_to_sql"),
        ({"question": "q", "context": "create  table t (a)", "query": "s"}, "text_to_sql"),
        ({"text": "t", "label": "a"}, "text_label"),
        ({"sentence": "t", "label": 1}, "text_label"),
        ({"prompt": "p", "completion": "c"}, "prompt_completion"),
        ({"instruction": "i", "input": "", "output": "o"}, "instruction"),
        ({"instruction": "i", "response": "o"}, "instruction"),
        ({"question": "q", "answer": "a"}, "instruction"),
        ({"text": "t", "id": 1}, "text"),
        ({"a": 1}, None),
        ({"messages": []}, None),
    ],
)
def test_a_layout_is_told_by_its_own_names(row: dict[str, Any], expected: str | None) -> None:
    """No column is stated: the names that public sets use decide."""
    assert detect_format(look(row)) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (look({"t": CHAT}, messages="t"), "messages"),
        (look({"conversations": CHAT}, messages="conversations"), "messages"),
        (look({"t": SHARED}, messages="t"), "conversations"),
        (look({"p": "q", "s": "s", "db_id": "d"}, databases=True, question="p", answer="s"),
         "text_to_sql"),
        (look({"p": "q", "s": "s", "db_id": "d"}, question="p", answer="s"), "instruction"),
        (look({"p": "q", "c": MADE, "s": "s"}, question="p", context="c", answer="s"),
         "text_to_sql"),
        (look({"p": "q", "c": "words", "s": "s"}, question="p", context="c", answer="s"),
         "instruction"),
        (look({"text": "t", "toxic": "1"}, question="text", answer="toxic"), "text_label"),
        (look({"t": "t", "label": "1"}, question="t", answer="label"), "text_label"),
        (look({"t": "t", "x": "1"}, labels=True, question="t", answer="x"), "text_label"),
        (look({"body": "t"}, answer="body"), "text"),
    ],
)  # fmt: skip
def test_stated_columns_guide_the_layout(found: Look, expected: str) -> None:
    """The same row is another layout where the recipe says what its keys hold."""
    assert detect_format(found) == expected


def test_what_is_missing_is_named_with_what_was_looked_for() -> None:
    """By the stated key, else by the layout's own ones."""
    found = look({"question": "q", "query": "s", "db_id": "d"})
    assert missing_columns(found, "text_to_sql") == [
        "context ('sql_context' or 'context' or data.databases)"
    ]
    found = look({"instruction": "i"}, answer="said")
    assert missing_columns(found, "instruction") == ["answer ('said')"]


def test_found_keys_are_stated_and_optional_ones_are_not() -> None:
    """A row without `input` at the start must not lose the `input` of later ones."""
    found = fill_columns(look({"instruction": "i", "input": "", "response": "o"}), "instruction")
    assert found == ColumnsConfig(question="instruction", answer="response")


class TestTurns:
    def test_the_last_question_and_answer_are_taken_out(self) -> None:
        """What stands before is history, the system message first."""
        system, said = {"role": "system", "content": "s"}, {"role": "assistant", "content": "a2"}
        turns = [system, *CHAT, {"role": "user", "content": "q2"}, {**said, "thinking": "hm"}]
        fields = normalise("messages", {"messages": turns})
        assert fields["history"] == [system, *CHAT]
        assert parts(fields) == ("q2", "", "a2")
        assert fields["thinking"] == "hm"

    def test_text_parts_are_joined_and_reasoning_is_thinking(self) -> None:
        """Parquet files fill absent keys with null: they count as absent."""
        turns = [
            {"role": "user", "content": [{"type": "text", "text": "q"}, "1"], "thinking": None},
            {"role": "assistant", "content": "a", "reasoning_content": "r", "tool_calls": None},
        ]
        fields = normalise("messages", {"messages": turns})
        assert (fields["question"], fields["thinking"]) == ("q1", "r")

    def test_sharegpts_names_are_translated(self) -> None:
        """A human is the user, gpt the assistant; a system text may stand beside the turns."""
        fields = normalise("conversations", {"conversations": SHARED, "system": "s"})
        assert fields["history"] == [{"role": "system", "content": "s"}]
        assert parts(fields) == ("q", "", "a")

    def test_turns_may_stand_as_json_in_a_text(self) -> None:
        """CSV files have no lists."""
        text = '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'
        assert parts(normalise("messages", {"messages": text})) == ("q", "", "a")

    def test_harmony_is_read_by_its_tags(self) -> None:
        """The analysis channel is thinking, the final one the answer."""
        text = (
            "<|start|>user<|message|>q<|end|>"
            "<|start|>assistant<|channel|>analysis<|message|>hm<|end|>"
            "<|start|>assistant<|channel|>final<|message|>a<|return|>"
        )
        fields = normalise("harmony", {"text": text})
        assert parts(fields) == ("q", "", "a")
        assert fields["thinking"] == "hm"

    @pytest.mark.parametrize(
        ("turns", "reason"),
        [
            ([], "found 0 turns that end with nothing"),
            (CHAT[:1], "end with 'user'"),
            ([CHAT[1], CHAT[1]], "follows one of 'assistant', expected 'user'"),
            ([*CHAT, {"role": "system", "content": "s"}, *CHAT], "turn 3 is a system message"),
            (["q", "a"], "a turn is no object"),
            ("text", "must be a list of turns, found text"),
            ([{"role": "robot", "content": "q"}, CHAT[1]], "role 'robot', expected one of system"),
            ([CHAT[0], {"role": "tool", "content": "1"}, CHAT[1]], "the answer of a tool"),
            ([CHAT[0], {"role": "assistant", "tool_calls": [{}]}], "turn 2 names no tool"),
            ([{"role": "user", "content": [{"type": "image_url"}]}, CHAT[1]], "type 'image_url'"),
            ([CHAT[0], {"role": "assistant", "content": " "}], "content of turn 2' is empty"),
            ([{"from": "elf", "value": "q"}], "a turn is from 'elf'"),
        ],
    )
    def test_what_is_no_conversation_is_refused(self, turns: Any, reason: str) -> None:
        """With the turn that is at fault."""
        with pytest.raises(DataError, match=reason):
            normalise("conversations", {"conversations": turns})


class TestPairs:
    def test_an_instruction_may_lack_its_input(self) -> None:
        """Missing, null and blank are all: no context."""
        for row in ({}, {"input": None}, {"input": " "}):
            fields = normalise("instruction", {"instruction": "i", "output": "o", **row})
            assert parts(fields) == ("i", "", "o")
        fields = normalise("instruction", {"instruction": "i", "input": "c", "response": "o"})
        assert parts(fields) == ("i", "c", "o")

    def test_prompt_and_completion_may_be_lists(self) -> None:
        """TRL's conversational form is one conversation."""
        row = {"prompt": CHAT[:1], "completion": CHAT[1:]}
        assert parts(normalise("prompt_completion", row)) == ("q", "", "a")
        assert parts(normalise("prompt_completion", {"prompt": "p", "completion": "c"}))[0] == "p"

    def test_plain_text_has_no_question(self) -> None:
        """All of it is learned."""
        assert parts(normalise("text", {"text": "t"})) == ("", "", "t")

    @pytest.mark.parametrize(("value", "label"), [("ham", "ham"), (1, "spam"), ("0", "ham")])
    def test_a_label_is_a_name_or_a_number(self, value: Any, label: str) -> None:
        """data.labels is [ham, spam]: number 0 is ham, also as the text that a CSV file has."""
        layout = Layout("text_label", ColumnsConfig(), ("ham", "spam"))
        fields = layout.normalise({"text": "t", "label": value}).fields
        assert (fields["answer"], fields["label"]) == (label, label)

    @pytest.mark.parametrize("value", ["egg", 2, -1, "-1"])
    def test_a_label_that_is_not_listed_is_refused(self, value: Any) -> None:
        """A class that training never sees would be scored as wrong for ever."""
        layout = Layout("text_label", ColumnsConfig(), ("ham", "spam"))
        with pytest.raises(DataError, match=r"is none of data.labels \('ham', 'spam'\)"):
            layout.normalise({"text": "t", "label": value})

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (None, "'output' is empty"),
            (" \n", "'output' is empty"),
            (True, "mixed types: expected text, found boolean"),
            (1.5, "mixed types: expected text, found number"),
            (["o", 1], "mixes kinds: expected texts alone"),
            ([" "], "'output' is empty"),
            ("a\ud800", r"holds a lone surrogate \('\\ud800'\)"),
            ("a\0", "holds a NUL character"),
        ],
    )
    def test_what_is_no_text_is_refused(self, value: Any, reason: str) -> None:
        """The reason names the column and what was found, and can be printed."""
        with pytest.raises(DataError, match=reason) as caught:
            normalise("instruction", {"instruction": "i", "output": value})
        str(caught.value).encode("utf-8")

    def test_a_whole_number_is_text(self) -> None:
        """`{"answer": 42}` is an answer."""
        assert parts(normalise("instruction", {"instruction": 7, "output": 42})) == ("7", "", "42")

    def test_a_missing_column_names_those_that_are_there_and_the_key_to_set(self) -> None:
        """The person mends the recipe without opening the file."""
        with pytest.raises(
            DataError, match=r"no column 'said'; the row has 'a', 'q'. Set data.columns.answer to"
        ):
            normalise("instruction", {"q": "1", "a": "2"}, question="q", answer="said")

    def test_name_and_group_are_read_where_stated(self) -> None:
        """Else they are null, and later stages choose."""
        row = {"text": "t", "id": 7, "doc": "d"}
        fields = normalise("text", row, row_id="id", group="doc")
        assert (fields["row_id"], fields["group"]) == ("7", "d")
        fields = normalise("text", row)
        assert (fields["row_id"], fields["group"]) == (None, None)


class TestQueries:
    def test_rows_bring_their_database_along(self) -> None:
        """Equal contexts are one database, another context is another one."""
        row = {"sql_prompt": "q", "sql_context": MADE, "sql": "s"}
        one, same = read("text_to_sql", row), read("text_to_sql", {**row, "sql": "t"})
        other = read("text_to_sql", {**row, "sql_context": MADE + " "})
        assert one.context == MADE
        assert one.fields["db_id"] == same.fields["db_id"] != other.fields["db_id"]
        assert parts(one.fields) == ("q", "", "s")

    def test_a_database_must_be_known(self) -> None:
        """A slip of the keyboard is told with the nearest name."""
        layout = Layout("text_to_sql", ColumnsConfig(), None, frozenset({"cities"}))
        row = {"question": "q", "query": "s", "db_id": "cities"}
        assert layout.normalise(row).fields["db_id"] == "cities"
        with pytest.raises(DataError, match=r"'citys', which .* \(did you mean 'cities'\?\)"):
            layout.normalise({**row, "db_id": "citys"})

    def test_a_row_that_names_no_database_may_bring_its_own(self) -> None:
        """Beside rows that ask about known ones; a name that is there has to be known."""
        layout = Layout("text_to_sql", ColumnsConfig(), None, frozenset({"cities"}))
        row = {"question": "q", "query": "s", "context": MADE}
        assert layout.normalise(row).context == MADE
        assert layout.normalise({**row, "db_id": "cities"}).context is None
        with pytest.raises(DataError, match="asks about the database 'citys'"):
            layout.normalise({**row, "db_id": "citys"})
        with pytest.raises(DataError, match="db_id"):
            layout.normalise({"question": "q", "query": "s"})
        assert missing_columns(look(row, databases=True), "text_to_sql") == []

    def test_create_statements_are_taken_out_of_a_script(self) -> None:
        """A semicolon inside a text ends no statement; indexes are not shown."""
        script = (
            "-- made here\nCREATE TABLE a (x TEXT DEFAULT ';');\nINSERT INTO a VALUES ('create');\n"
            "CREATE INDEX i ON a (x); create temp view v as select 1"
        )
        assert create_statements(script) == (
            "CREATE TABLE a (x TEXT DEFAULT ';');\ncreate temp view v as select 1;"
        )
