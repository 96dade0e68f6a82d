"""Labels under any name: found, or the recipe is asked; never learned as plain text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from retune.data.formats.labels import label_name
from retune.data.sources import LocatedRows, locate_rows
from retune.errors import DataError
from retune.recipe.sections.data import DataConfig

NAMES = ("bom", "ruim")


@pytest.fixture
def locate(tmp_path: Path) -> Any:
    """Locate rows under a recipe's section on data."""

    def located(rows: Sequence[dict[str, Any]], layout: str | None = None, **data: Any) -> Any:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        source = {"path": str(file), "format": layout}
        config = DataConfig.model_validate({"train": [source], **data})
        return locate_rows(config.train[0], config, lambda path: path, "data.train.0")

    return located


def rows(**columns: Any) -> list[dict[str, Any]]:
    """Six rows; a list under a key is gone through again and again."""
    return [
        {key: value[at % len(value)] if isinstance(value, list) else value
         for key, value in {"text": [f"t{n}" for n in range(6)], **columns}.items()}
        for at in range(6)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "key",
    ["sentiment", "Category", "class", "intent", "target", "is_spam", "rótulo", "Intenção",
     "sentimento", "labels", "topic"],
)  # fmt: skip
@pytest.mark.parametrize("text", ["text", "Review", "tweet", "texto", "comentário"])
def test_usual_names_of_a_label_are_known(locate: Any, key: str, text: str) -> None:
    """Whatever the text beside is called."""
    listed = [{text: row["text"], key: row["x"]} for row in rows(x=list(NAMES))]
    found: LocatedRows = locate(listed)
    assert found.format == "text_label"
    assert (found.columns.question, found.columns.answer) == (text, key)


def test_data_labels_find_the_column_that_holds_them(locate: Any) -> None:
    """Under a name that nobody knows, and among others that hold something else."""
    found = locate(rows(veredito=list(NAMES), loja=["a", "b"]), labels=NAMES)
    assert (found.format, found.columns.answer) == ("text_label", "veredito")
    found = locate(rows(category=["a", "b"], sentiment=list(NAMES)), labels=NAMES)
    assert found.columns.answer == "sentiment"


def test_chats_beside_rows_with_labels_stay_chats(locate: Any) -> None:
    """Their category is no class, though `data.labels` names it for another source."""
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    found = locate([{"messages": turns, "category": "bom"}], labels=NAMES)
    assert (found.format, found.columns.answer) == ("messages", None)


@pytest.mark.parametrize(
    ("listed", "data", "reason"),
    [
        (rows(veredito=list(NAMES)), {}, "'veredito' beside the text looks like the label"),
        (rows(flag=[True, False]), {}, "'flag' beside the text looks like the label"),
        (rows(), {"labels": NAMES}, "data.labels names classes, but no column"),
        (rows(a=list(NAMES), b=list(NAMES)), {"labels": NAMES}, "data.labels names classes"),
        (rows(summary="s"), {}, "'summary' beside the text looks like an answer"),
        (rows(target="s" * 200), {}, "'target' beside the text looks like the label"),
        (rows(category="x", response="a"), {}, "'response', 'category' beside the text"),
        (rows(toxic=[0, 1], obscene=0, insult=1), {}, "'insult' each say yes or no.*multi-label"),
        (rows(toxic=["0", "1"], hateful=["1", "0"]), {}, "multi-label"),
        (rows(sentiment="a", category="b"), {}, "'category', 'sentiment' could each be the label"),
    ],
)
def test_doubt_is_refused_by_name(
    locate: Any, listed: list[dict[str, Any]], data: dict[str, Any], reason: str
) -> None:
    """With what to write, before anything is read."""
    with pytest.raises(DataError, match=rf"^data\.train\.0: the row at .*{reason}.*data\."):
        locate(listed, **data)


@pytest.mark.parametrize(
    ("listed", "layout", "data"),
    [
        (rows(veredito=list(NAMES)), None, {"ignore": ["veredito"]}),
        (rows(veredito=list(NAMES), sentiment="x"), "text", {}),
        (rows(id=[1, 2, 3, 4, 5, 6], source=["a", "b"], language="pt", url="u"), None, {}),
        (rows(score=[0.5, 0.7], title=[f"t{n}" for n in range(6)], kind="x"), None, {}),
    ],
)
def test_plain_text_stays_plain_text(
    locate: Any, listed: list[dict[str, Any]], layout: str | None, data: dict[str, Any]
) -> None:
    """Where the recipe says so, or what stands beside says where the text comes from."""
    assert locate(listed, layout, **data).format == "text"


@pytest.mark.parametrize(
    ("listed", "format_", "columns"),
    [
        (rows(label="a", category="b", toxic=1), "text_label", ("text", "label")),
        (rows(label=[0, 1], label_text=["a", "b"]), "text_label", ("text", "label")),
        ([{"instruction": "i", "output": "o", "category": "qa"}], "instruction",
         ("instruction", "output")),
        ([{"prompt": "p", "completion": "c", "label": True}], "prompt_completion",
         ("prompt", "completion")),
        ([{"premise": "p", "hypothesis": "h", "label": 1}], "text_label", ("premise", "label")),
    ],
)  # fmt: skip
def test_right_layouts_stay(
    locate: Any, listed: list[dict[str, Any]], format_: str, columns: tuple[str, str]
) -> None:
    """A category of an instruction is no class; what is called label goes before others."""
    found = locate(listed)
    assert found.format == format_
    assert (found.columns.question, found.columns.answer) == columns


@pytest.mark.parametrize(
    ("row", "data", "reason"),
    [
        ({"instruction": "i", "question": "q", "answer": "a"}, {}, "'instruction' and 'question'"),
        ({"instruction": "i", "output": "o", "response": "r"}, {}, "'output' and 'response' could"),
        (
            {"messages": [{"role": "user", "content": "q"}], "extra": "x"},
            {"columns": {"context": "extra"}},
            "data.columns.context names 'extra', but rows of the format messages",
        ),
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, {}, "Name the file under dpo.pairs"),
    ],
)
def test_a_text_that_would_be_lost_is_refused(
    locate: Any, row: dict[str, Any], data: dict[str, Any], reason: str
) -> None:
    """Two columns for one role, a stated one that is not read, a second answer."""
    with pytest.raises(DataError, match=reason):
        locate([row], **data)


def test_a_column_filled_twice_with_the_same_is_no_doubt(locate: Any) -> None:
    """Nothing is lost."""
    found = locate([{"instruction": "i", "output": "o", "response": "o", "answer": ""}])
    assert found.columns.answer == "output"


@pytest.mark.parametrize(
    ("value", "labels", "expected"),
    [
        (True, None, "true"),
        (False, NAMES, "bom"),
        (True, NAMES, "ruim"),
        ("True", NAMES, "ruim"),
        (1.0, None, "1"),
        (1.0, NAMES, "ruim"),
        ("1.0", None, "1"),
        ("0.0", NAMES, "bom"),
        (["ruim"], NAMES, "ruim"),
        ('["ruim"]', NAMES, "ruim"),
        ([0], NAMES, "bom"),
        ("2.0", ("1.0", "2.0"), "2.0"),
    ],
)
def test_a_label_is_written_in_several_ways(
    value: Any, labels: tuple[str, ...] | None, expected: str
) -> None:
    """False is number 0 and true number 1; a list of one is that one; a name goes before all."""
    assert label_name("label", value, labels) == expected


@pytest.mark.parametrize(
    ("value", "labels", "reason"),
    [
        (["a", "b"], None, "'label' holds 2 labels: expected one class per row"),
        ([], NAMES, "'label' holds 0 labels"),
        ('["a", "b"]', None, "holds 2 labels"),
        (True, ("a", "b", "c"), "the label 'true' is none of data.labels"),
        (1.5, NAMES, "found number"),
        (float("nan"), None, "'label' is empty"),
        ({"a": 1}, NAMES, "found object"),
        ("\u00b2", NAMES, "is none of data.labels"),
        ("9" * 40, NAMES, "is none of data.labels"),
        (None, None, "'label' is empty"),
    ],
)
def test_what_is_no_single_class_is_refused(
    value: Any, labels: tuple[str, ...] | None, reason: str
) -> None:
    """By what was found."""
    with pytest.raises(DataError, match=reason):
        label_name("label", value, labels)


@pytest.mark.parametrize(
    "key",
    ["airline_sentiment", "label_final", "sentimentLabel", "Class Index", "is_offensive"],
)
def test_a_name_made_of_a_labels_word_is_asked_about(locate: Any, key: str) -> None:
    """Also where all of the first rows are of one class, as in files sorted by class."""
    with pytest.raises(DataError, match=f"'{key}' beside the text looks like the label"):
        locate(rows(**{key: "a"}))


def test_several_yes_and_no_beside_a_text_are_asked_about(locate: Any) -> None:
    """Labels of ToLD-BR, most of which say no in the first rows."""
    with pytest.raises(DataError, match="'homophobia', 'obscene' beside the text look like"):
        locate(rows(homophobia=0, obscene=[0, 1]))


@pytest.mark.parametrize("late", [{"label": "a"}, {"summary": "s"}, {"tipo": "b"}])
def test_a_label_that_comes_late_is_seen(locate: Any, late: dict[str, str]) -> None:
    """The layout is told from the first 20 rows, but texts beside labels are looked at further."""
    first = [{"text": f"t{n}", **({"tipo": "a"} if "tipo" in late else {})} for n in range(30)]
    with pytest.raises(DataError, match=f"'{next(iter(late))}' beside the text looks like"):
        locate([*first, *({"text": f"u{n}", **late} for n in range(30))])


def test_what_is_noted_of_a_plain_text_is_no_label(locate: Any) -> None:
    """Ordinary corpora are read as they are, also where a note was never made."""
    found = locate(
        rows(
            id=["1", "2", "3"], source="web", topic=None, red_pajama_subset=["a", "b"], score=0.5,
            is_duplicate=False, type="doc", url="u", lang="pt", meta="{}", split="train",
        )
    )  # fmt: skip
    assert found.format == "text"


def test_a_question_beside_a_text_is_asked_about(locate: Any) -> None:
    """The text may be its answer."""
    with pytest.raises(DataError, match="'prompt' beside the text looks like what is asked"):
        locate(rows(prompt="q"))
    assert locate(rows(prompt="q"), layout="text").format == "text"


def test_answers_that_are_true_or_false_are_classes(locate: Any) -> None:
    """BoolQ: a question, a passage, and a truth value."""
    listed = [
        {"question": f"q{n}", "passage": "p", "answer": bool(n % 2), "id": n} for n in range(6)
    ]
    found = locate(listed, labels=["no", "yes"])
    assert (found.format, found.columns.answer, found.labels) == (
        "text_label", "answer", ("no", "yes"),
    )  # fmt: skip
    assert (found.columns.question, found.columns.context) == ("question", "passage")


def test_a_mark_on_a_scale_is_no_class() -> None:
    """And is told so, not as another type than itself."""
    with pytest.raises(DataError, match=r"'label' is no class: .* found number 3.25 \(what is mea"):
        label_name("label", 3.25, None)


def test_how_much_of_something_is_no_class_to_be_learned(locate: Any) -> None:
    """A text beside it is asked about, once, and not refused row by row."""
    with pytest.raises(DataError, match="'toxicity' beside the text looks like the label"):
        locate(rows(toxicity=[0.25, 0.5]))
