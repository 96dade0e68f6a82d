"""Putting held-out rows into classes: predictions, reports, and what they have to beat."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from retune.data.chats.tokenizers import load_tokenizer
from retune.data.schemas import CHAT_SCHEMA
from retune.data.tables import write_table
from retune.errors import ConfigError, ScoringError
from retune.inference import generation
from retune.inference.loaded_models import LoadedModel, load_scored_model
from retune.model_records import BaseRef
from retune.records import SideRef
from retune.score_records import ScoreReport
from retune.scoring.classification.baselines import score_plain_classifiers
from retune.scoring.classification.records import ClassificationRow
from retune.scoring.classification.score import score_classification
from retune.scoring.label_predictions import Predictions, find_label_answers, predict_labels
from retune.scoring.labels import score_baselines, score_labels
from retune.scoring.outcomes import read_outcomes
from retune.scoring.stages import BaselineInputs, BaselineSettings, LabelInputs, LabelSettings
from retune.spine.stage import Workdir
from tests.making import make_workdir, settings_of

LABELS = ("negativo", "neutro", "positivo")
TEXTS = [
    ("Adorei o atendimento, voltarei sempre.", "positivo"),
    ("A entrega atrasou e ninguém respondeu.", "negativo"),
    ("O pacote chegou na terça-feira.", "neutro"),
    ("Produto excelente, recomendo muito.", "positivo"),
    ("Veio quebrado e não trocaram.", "negativo"),
]


def section(batch_size: int = 4, **scoring: Any) -> LabelSettings:
    settings = {"max_new_tokens": 6, "resamples": 100, "runtime": {"batch_size": batch_size}}
    found: LabelSettings = settings_of(LabelSettings, scoring=settings | scoring)
    return found


@pytest.fixture(scope="module")
def loaded(base: BaseRef) -> LoadedModel:
    """A random tiny Llama."""
    return load_scored_model(base.as_scored())


@pytest.fixture(scope="module")
def make_side(
    base: BaseRef, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Sequence[tuple[str, str | None]]], SideRef]:
    """Write texts and labels as one side's chats."""
    tokenizer = load_tokenizer(base.folder)

    def as_row(at: int, text: str, label: str | None) -> dict[str, Any]:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        answer = label or "outra coisa"
        return {
            "row_id": f"r{at}",
            "group": f"g{at // 2}",
            "db_id": None,
            "label": label,
            "question": text,
            "prompt": prompt,
            "answer": answer,
            "prompt_ids": tokenizer(prompt, add_special_tokens=False)["input_ids"],
            "answer_ids": tokenizer(answer + tokenizer.eos_token, add_special_tokens=False)[
                "input_ids"
            ],
            "loss_mask": None,
        }

    def make(texts: Sequence[tuple[str, str | None]]) -> SideRef:
        folder = tmp_path_factory.mktemp("side")
        rows = [as_row(at, text, label) for at, (text, label) in enumerate(texts)]
        write_table(folder / "rows.parquet", rows, CHAT_SCHEMA)
        return SideRef(digest="side", folder=folder)

    return make


def predict(loaded: LoadedModel, prompts: Any, answers: Any, **options: Any) -> Predictions:
    settings: dict[str, Any] = {
        "classify_by": "likelihood",
        "max_new_tokens": 4,
        "batch_size": 2,
        **options,
    }
    return predict_labels(loaded, prompts, answers, **settings)


class DiceModel:
    """Tokens 0, 1, 2 have 1/2, 1/4, 1/4 at every position; a context of 8."""

    device = torch.device("cpu")
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=8))

    def __call__(self, *, input_ids: torch.Tensor, logits_to_keep: int, **_: Any) -> Any:
        logits = torch.tensor([0.5, 0.25, 0.25]).log()
        return SimpleNamespace(logits=logits.expand(len(input_ids), logits_to_keep, -1))


def dice() -> LoadedModel:
    model: Any = DiceModel()
    tokenizer: Any = SimpleNamespace(pad_token_id=0)
    return LoadedModel(model, tokenizer, [2])


def test_likelihood_by_hand() -> None:
    """Answers [0, 2] and [1, 2] have 1/2 * 1/4 = 1/8 and 1/16: of labels 2/3 and 1/3."""
    found = predict(dice(), [[1], [0, 0]], {"a": [0, 2], "b": [1, 2]})
    assert found.predictions == ["a", "a"]
    assert found.texts == ["a", "a"]
    assert found.probabilities is not None
    assert found.probabilities.tolist() == [pytest.approx([2 / 3, 1 / 3])] * 2
    assert found.unscored_reasons == [None, None]


def test_equally_likely_labels_are_no_prediction() -> None:
    """The order of the labels must not decide: the model was asked, and says nothing."""
    found = predict(dice(), [[0]], {"a": [1, 2], "b": [2, 2]})
    assert (found.predictions, found.unscored_reasons) == ([None], [None])


def test_a_prompt_without_room_for_every_label_is_not_asked() -> None:
    """6 + 3 tokens are over the context of 8, whichever label is the right one."""
    found = predict(dice(), [[0] * 6, [0] * 5, []], {"a": [0, 2], "b": [1, 1, 2]})
    assert found.unscored_reasons == ["prompt_too_long", None, "prompt_empty"]
    assert found.predictions == [None, "a", None]
    assert found.probabilities is not None
    assert [math.isnan(row[0]) for row in found.probabilities] == [True, False, True]


class DiceThatBreak(DiceModel):
    """Give no numbers behind a prompt that begins with 1."""

    def __call__(self, *, input_ids: torch.Tensor, **others: Any) -> Any:
        found = super().__call__(input_ids=input_ids, **others)
        found.logits = found.logits.clone()
        found.logits[(input_ids == 1).any(dim=1)] = math.nan
        return found


def test_a_prompt_whose_likelihood_is_no_number_is_unscored() -> None:
    """It ends its own row, whose reason it is, and the rows beside it are asked as ever."""
    loaded = LoadedModel(DiceThatBreak(), dice().tokenizer, [2])  # type: ignore[arg-type]
    found = predict(loaded, [[0], [1], [0, 0]], {"a": [0, 2], "b": [2, 2]})
    assert found.unscored_reasons == [None, "loss_not_finite", None]
    assert found.predictions == ["a", None, "a"]
    with pytest.raises(ScoringError, match="its weights hold NaN"):
        predict(loaded, [[1], [1], [0]], {"a": [0, 2], "b": [2, 2]})


def test_no_prompt_fits() -> None:
    """Nothing is asked, and nothing fails."""
    found = predict(dice(), [[0] * 8], {"a": [0, 2], "b": [1, 2]})
    assert found.unscored_reasons == ["prompt_too_long"]


def test_likelihoods_are_the_models_own(loaded: LoadedModel) -> None:
    """As one unpadded forward pass per prompt and label, and a softmax, give them."""
    prompts = [list(range(20, 20 + length)) for length in (3, 9)]
    answers = {"a": [40, 41, 1], "b": [50, 1]}

    def log_likelihood(prompt: list[int], answer: list[int]) -> float:
        with torch.inference_mode():
            logits = loaded.model(torch.tensor([[*prompt, *answer]])).logits[0].double()
        chances = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        return float(chances.gather(-1, torch.tensor(answer)[:, None]).sum())

    expected = torch.tensor(
        [[log_likelihood(p, a) for a in answers.values()] for p in prompts], dtype=torch.float64
    ).softmax(-1)
    found = predict(loaded, prompts, answers)
    assert found.probabilities is not None
    assert found.probabilities.tolist() == [pytest.approx(r, rel=1e-5) for r in expected.tolist()]


@pytest.mark.parametrize("classify_by", ["likelihood", "generation"])
def test_batch_size_and_order_change_nothing(loaded: LoadedModel, classify_by: str) -> None:
    """Each prompt is judged by itself."""
    prompts = [list(range(20, 20 + length)) for length in (3, 17, 9, 5)]
    answers = {"a": [40, 41, 1], "b": [50, 1], "c": [60, 61, 62, 1]}
    first = predict(loaded, prompts, answers, classify_by=classify_by, batch_size=1)
    second = predict(loaded, prompts[::-1], answers, classify_by=classify_by, batch_size=8)
    assert second.predictions[::-1] == first.predictions
    assert second.texts[::-1] == first.texts
    if first.probabilities is None or second.probabilities is None:
        assert classify_by == "generation"
    else:
        assert second.probabilities[::-1].tolist() == [
            pytest.approx(row, rel=1e-4) for row in first.probabilities.tolist()
        ]


def write_instead(monkeypatch: pytest.MonkeyPatch, texts: Sequence[str | None]) -> None:
    """Let the model write chosen texts; None for a prompt that does not fit."""
    answers = [
        generation.Answer(text, unscored_reason=None if text is not None else "prompt_too_long")
        for text in texts
    ]
    monkeypatch.setattr(generation, "write_answers", lambda *_, **__: answers)


def test_a_label_is_read_out_of_what_the_model_writes(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly one of the labels, or no prediction; what was never asked is unscored."""
    write_instead(monkeypatch, ["É Positivo.", "positivo ou negativo", None])
    answers = {label: [1] for label in LABELS}
    found = predict(loaded, [[5]] * 3, answers, classify_by="generation")
    assert found.predictions == ["positivo", None, None]
    assert found.texts == ["É Positivo.", "positivo ou negativo", None]
    assert found.unscored_reasons == [None, None, "prompt_too_long"]
    assert found.probabilities is None


def test_labels_that_a_text_cannot_tell_apart_are_refused(loaded: LoadedModel) -> None:
    """Before the model writes, not after."""
    with pytest.raises(ConfigError, match="equal without accents"):
        predict(loaded, [[5]], {"não": [1], "nao": [1]}, classify_by="generation")


def test_answers_of_labels_are_those_of_their_rows(loaded: LoadedModel) -> None:
    """The commonest where rows of one label differ; rows without a label say nothing."""
    rows: list[dict[str, Any]] = [
        {"row_id": str(at), "label": label, "answer": "x", "answer_ids": ids}
        for at, (label, ids) in enumerate(
            [("a", [9, 1]), ("a", [5, 1]), ("a", [5, 1]), ("b", [7, 1]), (None, [8, 1])]
        )
    ]
    assert find_label_answers(rows, ["b", "a"], loaded) == {"b": [7, 1], "a": [5, 1]}


@pytest.mark.parametrize("before", ["", "<|assistant|>"])
def test_a_label_without_a_row_is_written_like_the_others(loaded: LoadedModel, before: str) -> None:
    """Behind what stands before the others' answers, and with their end token."""

    def tokens(text: str) -> list[int]:
        return list(loaded.tokenizer(text, add_special_tokens=False)["input_ids"])

    rows: list[dict[str, Any]] = [
        {
            "row_id": "r",
            "label": "sim",
            "answer": "sim",
            "answer_ids": tokens(f"{before}sim<|end|>"),
        }
    ]
    found = find_label_answers(rows, ["sim", "talvez"], loaded)
    assert found["talvez"] == tokens(f"{before}talvez<|end|>")
    assert find_label_answers([], ["sim"], loaded) == {"sim": tokens("sim<|end|>")}


def score(base: BaseRef, side: SideRef, work: Workdir, **scoring: Any) -> ScoreReport:
    inputs = LabelInputs(model=base.as_scored(), rows=side, labels=LABELS)
    return score_labels(inputs, section(**scoring), work)


def test_the_report_holds_the_figures_of_its_rows(
    base: BaseRef, make_side: Callable[..., SideRef], work: Workdir
) -> None:
    """As `score_classification` makes them of the file of outcomes; accuracy also by hand."""
    report = score(base, make_side(TEXTS), work)
    outcomes = read_outcomes(report)
    expected = score_classification(
        [ClassificationRow(row_id=one["row_id"], gold=one["gold"]) for one in outcomes],
        [one["predicted"] for one in outcomes],
        groups=[one["group"] for one in outcomes],
        labels=LABELS,
        resamples=100,
    )
    for name, estimate in expected.estimates.items():
        assert report.metrics[name] == estimate
    right = sum(one["accuracy"] for one in outcomes)
    assert report.metrics["accuracy"].value == right / 5
    assert {"ece", "brier"} <= set(report.metrics)
    assert (report.rows, report.unscored) == (5, {})
    assert [(one["row_id"], one["group"]) for one in outcomes[:3]] == [
        ("r0", "g0"),
        ("r1", "g0"),
        ("r2", "g1"),
    ]
    assert all(one["accuracy"] == (one["predicted"] == one["gold"]) for one in outcomes)
    assert all(1 / 3 <= one["probability"] <= 1 for one in outcomes)


def test_figures_of_a_class_count_its_own_rows(
    base: BaseRef,
    make_side: Callable[..., SideRef],
    work: Workdir,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """positivo: two rows, one found, nothing else called so: recall 1/2, precision 1, F1 2/3.

    neutro is never predicted: its precision is unknown, not zero.
    """
    write_instead(monkeypatch, ["positivo", "negativo", "negativo", "negativo", "não sei"])
    report = score(base, make_side(TEXTS), work, classify_by="generation")
    found = report.metrics
    assert (found["label.positivo.recall"].value, found["label.positivo.recall"].n) == (0.5, 2)
    assert found["label.positivo.precision"].value == 1.0
    assert found["label.positivo.f1"].value == pytest.approx(2 / 3)
    assert (found["label.neutro.precision"].value, found["label.neutro.f1"].n) == (None, 1)
    assert found["unparsable_rate"].value == 0.2
    assert "ece" not in found
    last = read_outcomes(report)[-1]
    assert (last["prediction"], last["predicted"], last["accuracy"]) == ("não sei", None, False)


def test_the_confusion_matrix_is_a_table_and_two_pictures(
    base: BaseRef,
    make_side: Callable[..., SideRef],
    work: Workdir,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows are gold labels; the last column is what no label could be read from."""
    write_instead(monkeypatch, ["positivo", "negativo", "negativo", "neutro", "não sei"])
    report = score(base, make_side(TEXTS), work, classify_by="generation")
    table = json.loads((report.folder / "confusion.json").read_text("utf-8"))
    assert table["gold"] == list(LABELS)
    assert table["predicted"] == [*LABELS, "(no label)"]
    assert table["rows"] == [[1, 0, 0, 1], [1, 0, 0, 0], [0, 1, 1, 0]]
    assert (report.folder / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert (report.folder / "confusion.svg").read_text("utf-8").startswith("<svg")


def test_rows_without_a_label_are_left_out_and_counted(
    base: BaseRef, make_side: Callable[..., SideRef], work: Workdir
) -> None:
    """They are another task's: no figure is over them."""
    report = score(base, make_side([*TEXTS, ("Que horas são?", None)]), work)
    assert (report.rows, report.unscored) == (5, {"no_label": 1})
    assert len(read_outcomes(report)) == report.metrics["macro_f1"].n == 5


def test_prompts_over_the_context_are_unscored(
    base: BaseRef, make_side: Callable[..., SideRef], tmp_path: Path
) -> None:
    """Counted with their reason, in no figure; also where it is all of them."""
    long = ("palavra " * 3000, "neutro")
    for name, texts in (("some", [*TEXTS, long]), ("all", [long, long])):
        report = score(base, make_side(texts), make_workdir(tmp_path / name))
        last = read_outcomes(report)[-1]
        assert (last["accuracy"], last["reason"]) == (None, "prompt_too_long")
        assert report.metrics["accuracy"].n == report.rows - report.unscored["prompt_too_long"]
    assert report.metrics["macro_f1"].value is None


def test_a_side_without_labels_is_an_error(
    base: BaseRef, make_side: Callable[..., SideRef], work: Workdir
) -> None:
    """There is nothing to score, and it says where to look."""
    with pytest.raises(ScoringError, match="none of the 1 held-out rows has a label"):
        score(base, make_side([("Que horas são?", None)]), work)


TRAINING = [(f"{word} {number}", label) for number in range(4) for word, label in (
    ("adorei excelente", "positivo"), ("quebrado atrasou", "negativo"), ("terça pacote", "neutro")
)] + [("adorei", "positivo")]  # fmt: skip


def test_baselines_are_those_of_the_classification_room(
    make_side: Callable[..., SideRef], work: Workdir
) -> None:
    """The commonest in training is positivo: right on 2 of 5. Figures are direct calls' own."""
    sides = {"train": make_side([*TRAINING, ("?", None)]), "rows": make_side([*TEXTS, ("?", None)])}
    report = score_baselines(
        BaselineInputs(**sides, labels=LABELS), BaselineSettings(resamples=100), work
    )
    expected = score_plain_classifiers(
        [text for text, _ in TRAINING],
        [label for _, label in TRAINING],
        [ClassificationRow(row_id=f"r{at}", gold=label) for at, (_, label) in enumerate(TEXTS)],
        [text for text, _ in TEXTS],
        labels=LABELS,
        groups=[f"g{at // 2}" for at in range(5)],
        resamples=100,
    )
    for name, scores in expected.items():
        for metric, estimate in scores.estimates.items():
            assert report.metrics[f"{name}.{metric}"] == estimate
    assert report.metrics["majority.accuracy"].value == 0.4
    assert (report.rows, report.unscored) == (5, {"no_label": 1})
    first = read_outcomes(report)[0]
    assert first["majority.predicted"] == "positivo"
    assert first["majority.accuracy"] is True
    assert first["tfidf_logistic_regression.predicted"] == "positivo"


def test_importing_the_stages_loads_no_torch() -> None:
    """Baselines run in a process that does not hold it."""
    code = "import sys, retune.scoring.labels; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
