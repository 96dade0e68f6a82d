"""Held-out questions, perturbed on purpose: which outcomes turn."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from retune.data.schemas import CHAT_SCHEMA, DATABASE_SCHEMA
from retune.data.tables import read_rows, write_table
from retune.digests import digest_folder
from retune.inference.generation import Answer, write_answers
from retune.inference.loaded_models import SLOT, LoadedModel
from retune.model_records import BaseRef
from retune.records import SideRef
from retune.score_records import ScoreReport
from retune.scoring import answer_judging
from retune.scoring import labels as labels_module
from retune.scoring.outcomes import read_outcomes
from retune.scoring.robustness import Kind, perturb
from retune.scoring.robustness.probe_robustness import draw_rows, probe_robustness, replace_question
from retune.scoring.stages import RobustnessInputs, RobustnessSettings
from retune.spine.stage import Workdir
from tests.making import make_workdir, settings_of, source_of

CREATE = "CREATE TABLE frutas (nome TEXT, preco INT);"
CONTEXT = CREATE + "INSERT INTO frutas VALUES ('caju', 3), ('uva', 5);"
GOLD = "SELECT nome FROM frutas"
LABELS = ("bom", "ruim")

Answerer = Callable[[str], str | None]


def section(*kinds: Kind, batch_size: int = 4, rows: int = 100, **scoring: Any) -> Any:
    robustness: dict[str, Any] = {"kinds": kinds, "rows": rows}
    if "paraphrase" in kinds:
        robustness["paraphrases"] = "paraphrases.yaml"
    return settings_of(
        RobustnessSettings,
        probes={"robustness": robustness},
        scoring={
            "max_new_tokens": 4,
            "resamples": 100,
            "runtime": {"batch_size": batch_size},
            **scoring,
        },
    )


@pytest.fixture
def make_side(base: BaseRef, tmp_path: Path) -> Callable[..., SideRef]:
    """Write rows as the held-out side of the tiny Llama, each prompt `<schema>|<question>|`."""

    def make(*rows: dict[str, Any]) -> SideRef:
        tokenizer = SLOT.get(base.as_scored()).tokenizer

        def encode(text: str) -> list[int]:
            ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
            return ids

        folder = tmp_path / "side"
        folder.mkdir()
        written = []
        for number, fields in enumerate(rows):
            row = {"row_id": f"r{number}", "group": "g", "answer": "x", **fields}
            schema = CREATE if row.get("db_id") else ""
            row = {"prompt": f"{schema}|{row['question']}|", **row}
            answer_ids = [*encode(row["answer"]), tokenizer.eos_token_id]
            written.append({**row, "prompt_ids": encode(row["prompt"]), "answer_ids": answer_ids})
        write_table(folder / "rows.parquet", written, CHAT_SCHEMA)
        database = {"db_id": "frutas", "schema": CREATE, "context": CONTEXT}
        write_table(folder / "databases.parquet", [database], DATABASE_SCHEMA)
        return SideRef(digest=digest_folder(folder), folder=folder)

    return make


@pytest.fixture
def probe(base: BaseRef, work: Workdir) -> Callable[..., ScoreReport]:
    """Run the stage on the tiny Llama."""

    def run(
        side: SideRef, settings: RobustnessSettings, folder: Workdir = work, **more: Any
    ) -> ScoreReport:
        given = {"labels": (), "paraphrases": None, **more}
        inputs = RobustnessInputs(model=base.as_scored(), rows=side, **given)
        return probe_robustness(inputs, settings, folder)

    return run


@pytest.fixture
def answer_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answerer], list[str]]:
    """Put a function of the prompt's text in place of the model; returns the prompts it was asked.

    It answers None to what shall not fit.
    """

    def install(answer: Answerer) -> list[str]:
        prompts: list[str] = []

        def write(loaded: LoadedModel, ids: Sequence[Sequence[int]], **_: Any) -> list[Answer]:
            texts = [str(loaded.tokenizer.decode(one)) for one in ids]
            prompts.extend(texts)
            found = [answer(text) for text in texts]
            return [
                Answer(text, unscored_reason="prompt_too_long" if text is None else None)
                for text in found
            ]

        monkeypatch.setattr(answer_judging, "write_answers", write)
        return prompts

    return install


def flips_of(report: ScoreReport) -> dict[str, dict[str, Any]]:
    table = json.loads((report.folder / "flips.json").read_text("utf-8"))
    return {row["kind"]: row for row in table}


def test_an_sql_row_flips_when_its_result_becomes_right_or_wrong(
    make_side: Callable[..., SideRef],
    probe: Callable[..., ScoreReport],
    answer_with: Callable[[Answerer], object],
) -> None:
    """Three rows are asked in capitals: one breaks, one is mended, one stays right.

    `ORDER BY` changes no bag of rows, so the third row's other query is no flip: 2 of 3.
    """
    answers = {
        "|todas|": GOLD,
        "|TODAS|": "SELECT preco FROM frutas",
        "|quais|": "não sei",
        "|QUAIS|": GOLD + ";",
        "|nomes|": GOLD,
        "|NOMES|": GOLD + " ORDER BY nome",
    }
    answer_with(lambda prompt: answers[prompt.removeprefix(CREATE)])
    rows = [
        {"question": question, "answer": GOLD, "db_id": "frutas"}
        for question in ("todas", "quais", "nomes")
    ]
    report = probe(make_side(*rows), section("upper"))
    assert (report.rows, report.unscored) == (3, {})
    for name in ("flip_rate", "flip_rate.upper"):
        assert (report.metrics[name].value, report.metrics[name].n) == (2 / 3, 3)
    found = flips_of(report)["upper"]
    assert (found["broke"], found["mended"], found["unchanged"]) == (1, 1, 0)
    before = {row["row_id"]: (row["before"], row["after"]) for row in read_outcomes(report)}
    assert before == {
        "r0/upper": (True, False),
        "r1/upper": (False, True),
        "r2/upper": (True, True),
    }


def test_a_broken_reference_leaves_its_row_unscored(
    make_side: Callable[..., SideRef],
    probe: Callable[..., ScoreReport],
    answer_with: Callable[[Answerer], object],
) -> None:
    """Neither right nor wrong, before or after; no row is left, so there is no rate."""
    answer_with(lambda prompt: GOLD)
    row = {"question": "todas", "answer": "SELECT x FROM nada", "db_id": "frutas"}
    report = probe(make_side(row), section("upper"))
    assert (report.metrics["flip_rate"].value, report.metrics["flip_rate"].n) == (None, 0)
    assert report.unscored == {"gold_failed": 1}


def test_a_labelled_row_flips_when_its_class_becomes_right_or_wrong(
    make_side: Callable[..., SideRef],
    probe: Callable[..., ScoreReport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of three rows of `bom` one is called `ruim` in capitals: 1 of 3.

    The third is called `ruim` before and nothing at all after, which is wrong both times.
    """
    said = {"|lindo|": "bom", "|LINDO|": "ruim", "|feliz|": "bom", "|FELIZ|": "é bom"}
    said |= {"|triste|": "ruim", "|TRISTE|": "talvez"}

    def write(loaded: LoadedModel, ids: Sequence[Sequence[int]], **_: Any) -> list[Answer]:
        return [Answer(said[str(loaded.tokenizer.decode(one))]) for one in ids]

    monkeypatch.setattr("retune.inference.generation.write_answers", write)
    rows = [
        {"question": text, "answer": "bom", "label": "bom"} for text in ("lindo", "feliz", "triste")
    ]
    settings = section("upper", classify_by="generation")
    report = probe(make_side(*rows), settings, labels=LABELS)
    assert (report.metrics["flip_rate"].value, report.metrics["flip_rate"].n) == (1 / 3, 3)
    assert flips_of(report)["upper"]["broke"] == 1
    found = {row["row_id"]: (row["before"], row["after"]) for row in read_outcomes(report)}
    assert found == {
        "r0/upper": (True, False),
        "r1/upper": (True, True),
        "r2/upper": (False, False),
    }


def test_a_labelled_row_is_classified_by_likelihood_too(
    make_side: Callable[..., SideRef], probe: Callable[..., ScoreReport], base: BaseRef
) -> None:
    """Right or wrong as `predict_labels` says of the same two prompts."""
    side = make_side(
        {"question": "que filme lindo", "answer": "bom", "label": "bom"},
        {"question": "que filme chato", "answer": "ruim", "label": "ruim"},
        {"question": "que filme azul", "answer": "azul", "label": "azul"},
    )
    report = probe(side, section("upper"), labels=LABELS)
    loaded = SLOT.get(base.as_scored())
    rows = read_rows(side.folder / "rows.parquet")
    expected = {}
    for row in rows[:2]:
        prompts = [row["prompt"], row["prompt"].upper()]
        found = labels_module.predict_labels(
            loaded,
            loaded.tokenizer(prompts, add_special_tokens=False)["input_ids"],
            labels_module.find_label_answers(rows, LABELS, loaded),
            classify_by="likelihood",
            max_new_tokens=4,
            batch_size=1,
        )
        expected[row["row_id"] + "/upper"] = [one == row["label"] for one in found.predictions]
    outcomes = {row["row_id"]: row for row in read_outcomes(report)}
    for name, (before, after) in expected.items():
        assert (outcomes[name]["before"], outcomes[name]["after"]) == (before, after)
    # A class that the task does not have is neither right nor wrong.
    assert report.unscored == {"gold_not_a_label": 1}
    assert report.metrics["flip_rate"].n == 2


def test_any_other_row_flips_when_its_answer_is_another_text(
    make_side: Callable[..., SideRef],
    probe: Callable[..., ScoreReport],
    answer_with: Callable[[Answerer], object],
) -> None:
    """One of two answers is not the same; no answer is right or wrong, so none broke."""
    answer_with(lambda prompt: "sim" if "oi" in prompt.lower() else prompt)
    report = probe(make_side({"question": "oi"}, {"question": "tchau"}), section("upper"))
    assert report.metrics["flip_rate.upper"].value == 0.5
    found = flips_of(report)["upper"]
    assert (found["broke"], found["mended"]) == (0, 0)


def test_a_text_that_a_kind_leaves_as_it_is_is_neither_asked_nor_counted(
    make_side: Callable[..., SideRef],
    probe: Callable[..., ScoreReport],
    answer_with: Callable[[Answerer], list[str]],
) -> None:
    """`oi` has no accents, `olá` has; both change in capitals: 3 of 4 pairs, 5 prompts."""
    prompts = answer_with(lambda prompt: prompt)
    report = probe(
        make_side({"question": "oi"}, {"question": "olá"}), section("upper", "no_accents")
    )
    assert sorted(prompts) == ["|OI|", "|OLÁ|", "|oi|", "|ola|", "|olá|"]
    assert (report.rows, report.unscored) == (3, {})
    assert report.metrics["flip_rate"].n == 3
    assert report.metrics["flip_rate.no_accents"].n == 1
    assert flips_of(report)["no_accents"]["unchanged"] == 1
    rows = {row["row_id"]: row for row in read_outcomes(report)}
    assert len(rows) == 4
    assert (rows["r0/no_accents"]["reason"], rows["r0/no_accents"]["flip_rate"]) == (
        "unchanged",
        None,
    )


def test_a_row_that_nothing_changes_is_not_asked_at_all(
    make_side: Callable[..., SideRef],
    probe: Callable[..., ScoreReport],
    answer_with: Callable[[Answerer], list[str]],
) -> None:
    """Without a changed question there is no rate, and never a zero."""
    prompts = answer_with(lambda prompt: prompt)
    report = probe(make_side({"question": "oi"}), section("no_accents"))
    assert prompts == []
    assert report.metrics["flip_rate"].value is None
    assert report.metrics["flip_rate.no_accents"].value is None


def test_only_the_last_occurrence_of_the_question_changes() -> None:
    """An earlier turn that says the same stays letter by letter, and so does the schema."""
    assert replace_question("|olá|a|olá|b", "olá", "OLÁ") == "|olá|a|OLÁ|b"


def test_the_schema_stays_and_the_end_of_the_prompt_too(
    make_side: Callable[..., SideRef],
    probe: Callable[..., ScoreReport],
    answer_with: Callable[[Answerer], list[str]],
) -> None:
    """Every kind that ships changes what stands between the bars and nothing else."""
    prompts = answer_with(lambda prompt: GOLD)
    question = "quais são os nomes das frutas"
    side = make_side({"question": question, "answer": GOLD, "db_id": "frutas"})
    kinds: tuple[Kind, ...] = ("upper", "title", "no_accents", "typos", "double_space", "injection")
    probe(side, section(*kinds))
    assert len(prompts) == 7
    for prompt in prompts:
        assert re.fullmatch(re.escape(CREATE) + r"\|[^|]*\|", prompt, re.DOTALL)
    expected = {perturb(question, kind, 7) for kind in kinds} | {question}
    assert {prompt.removeprefix(CREATE).strip("|") for prompt in prompts} == expected


def test_a_question_that_the_template_rewrote_is_unscored(
    make_side: Callable[..., SideRef],
    probe: Callable[..., ScoreReport],
    answer_with: Callable[[Answerer], list[str]],
) -> None:
    """There is no place to put the changed one; white space around it is no rewriting."""
    prompts = answer_with(lambda prompt: prompt)
    side = make_side(
        {"question": "olá", "prompt": "|HELLO|"}, {"question": " oi\n", "prompt": "|oi|"}
    )
    report = probe(side, section("upper", "double_space"))
    assert sorted(prompts) == ["|OI|", "|oi|"]
    # `olá` in capitals has no place; neither text has a blank that could be doubled.
    assert report.unscored == {"question_not_found": 1}
    assert (report.rows, report.metrics["flip_rate"].n) == (2, 1)
    assert flips_of(report)["upper"]["unscored"] == 1


def test_a_changed_prompt_over_the_context_is_unscored(
    make_side: Callable[..., SideRef],
    probe: Callable[..., ScoreReport],
    answer_with: Callable[[Answerer], object],
) -> None:
    """An injection makes a prompt longer; what does not fit is no other outcome."""
    answer_with(lambda prompt: None if "\n" in prompt else "sim")
    report = probe(make_side({"question": "oi"}), section("injection", "upper"))
    assert report.unscored == {"prompt_too_long": 1}
    assert report.metrics["flip_rate.injection"].value is None
    assert report.metrics["flip_rate.upper"].value == 0.0


def test_rewordings_are_read_from_the_file(
    make_side: Callable[..., SideRef],
    probe: Callable[..., ScoreReport],
    answer_with: Callable[[Answerer], list[str]],
    tmp_path: Path,
) -> None:
    """A question without one is unchanged."""
    prompts = answer_with(lambda prompt: prompt)
    path = tmp_path / "paraphrases.yaml"
    path.write_text("paraphrases: [{text: oi, rewordings: [alô]}]", encoding="utf-8")
    report = probe(
        make_side({"question": "oi"}, {"question": "tchau"}),
        section("paraphrase"),
        paraphrases=source_of(path),
    )
    assert sorted(prompts) == ["|alô|", "|oi|"]
    assert flips_of(report)["paraphrase"]["unchanged"] == 1


def test_rows_are_drawn_by_seed_and_name_whatever_their_order() -> None:
    """A row that is added may push one out, and moves no other."""
    rows = [{"row_id": f"r{number}", "question": "q"} for number in range(50)]
    drawn = draw_rows(rows, 10, 7)
    assert len(drawn) == 10
    assert draw_rows(rows[::-1], 10, 7) == drawn
    assert draw_rows(rows, 10, 8) != drawn
    more = draw_rows([*rows, {"row_id": "new", "question": "q"}], 10, 7)
    assert sum(row in drawn for row in more) >= 9
    assert draw_rows(rows, 99, 7) == sorted(rows, key=lambda row: row["row_id"])


def test_rows_without_a_question_are_not_drawn() -> None:
    """Plain text has nothing to perturb."""
    rows = [{"row_id": "a", "question": ""}, {"row_id": "b", "question": " "}]
    assert draw_rows([*rows, {"row_id": "c", "question": "q"}], 2, 7)[0]["row_id"] == "c"


def test_an_empty_side_has_no_rate(
    make_side: Callable[..., SideRef], probe: Callable[..., ScoreReport]
) -> None:
    """Not zero, and no crash."""
    report = probe(make_side(), section("upper"))
    assert (report.metrics["flip_rate"].value, report.rows) == (None, 0)


def test_batch_size_and_another_run_change_nothing(
    held_out: SideRef, probe: Callable[..., ScoreReport], tmp_path: Path
) -> None:
    """The tiny model on real rows: one digest for every batch size."""
    digests = {
        probe(
            held_out,
            section("upper", "typos", batch_size=size, rows=3),
            make_workdir(tmp_path / str(at)),
        ).digest
        for at, size in enumerate((1, 4, 4))
    }
    assert len(digests) == 1


def test_the_unchanged_question_is_asked_as_held_out_rows_are(
    held_out: SideRef,
    probe: Callable[..., ScoreReport],
    base: BaseRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its token ids are the row's own, so that the outcome before is the one on held-out rows."""
    asked: list[tuple[int, ...]] = []

    def record(loaded: LoadedModel, ids: Sequence[Sequence[int]], **more: Any) -> list[Answer]:
        asked.extend(tuple(one) for one in ids)
        return write_answers(loaded, ids, **more)

    monkeypatch.setattr(answer_judging, "write_answers", record)
    probe(held_out, section("upper", rows=3))
    rows = draw_rows(read_rows(held_out.folder / "rows.parquet"), 3, 7)
    assert {tuple(row["prompt_ids"]) for row in rows} <= set(asked)
    assert len(asked) == 6
