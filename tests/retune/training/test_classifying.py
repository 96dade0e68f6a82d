"""Training a classification head: what moves, what is kept, and that it learns."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from retune.errors import DataError, ScoringError
from retune.inference.generation import Answer
from retune.inference.head_predictions import class_figures, predict_by_head
from retune.inference.latency import BatchTimes
from retune.inference.loaded_models import load_scored_model
from retune.model_records import AdapterRef, BaseRef, ModelRef
from retune.recipe.sections import TrainingConfig
from retune.records import SideRef
from retune.scoring.labels import score_labels
from retune.scoring.robustness.probe_robustness import probe_robustness
from retune.scoring.stages import LabelInputs, LabelSettings, RobustnessInputs, RobustnessSettings
from retune.spine.stopping import STOP
from retune.training.classifying import (
    class_loss,
    collate,
    make_class_score,
    train_classifier,
)
from retune.training.stages import ClassifierInputs, ClassifierSettings
from retune.weights.merge import merge_adapter
from retune.weights.stages import MergeInputs, MergeSettings
from tests.labelled_sides import write_labelled_side
from tests.making import make_workdir, settings_of

LABELS = ("bom", "ruim")
PLACES = ("praia", "serra", "cidade", "rio", "ilha", "feira")
TEXTS: list[tuple[str, str | None]] = [
    (f"{said} {place}", label)
    for place in PLACES
    for said, label in (("gostei da", "bom"), ("detestei a", "ruim"))
]


@pytest.fixture(scope="module")
def side(base: BaseRef, tmp_path_factory: pytest.TempPathFactory) -> SideRef:
    """Twelve judgements that a word tells apart."""
    return write_labelled_side(tmp_path_factory.mktemp("side"), base.folder, TEXTS)


@pytest.fixture(scope="module")
def train(
    base: BaseRef,
    side: SideRef,
    quantize: Callable[[str], ModelRef],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., AdapterRef]:
    """Return a trainer of heads over the tiny Llama."""

    def run(method: dict[str, Any], **training: Any) -> AdapterRef:
        kind = "nf4" if method["kind"] == "qlora" else "none"
        settings = {"max_steps": 12, "batch_size": 4, "evaluations": 2, "learning_rate": 1.0e-2}
        section = settings_of(
            ClassifierSettings,
            seed=7,  # type: ignore[arg-type]
            model={"id": "tiny"},
            quantization={"kind": kind},
            method=method,
            training={**settings, **training},
            head={"class_weights": "balanced"},
        )
        inputs = ClassifierInputs(
            train=side, validation=side, base=base, model=quantize(kind), labels=LABELS
        )
        return train_classifier(inputs, section, make_workdir(tmp_path_factory.mktemp("t") / "w"))

    return run


METHODS: dict[str, dict[str, Any]] = {
    "frozen": {"kind": "frozen"},
    "full": {"kind": "full"},
    "lora": {"kind": "lora", "r": 4},
    "qlora": {"kind": "qlora", "r": 4},
    "prefix": {"kind": "prefix", "virtual_tokens": 4},
    "prompt": {"kind": "prompt", "virtual_tokens": 4},
    "p_tuning": {"kind": "p_tuning", "virtual_tokens": 4},
    "bottleneck": {"kind": "bottleneck", "size": 8},
}


@pytest.fixture(scope="module")
def trained(train: Callable[..., AdapterRef]) -> Callable[[str], AdapterRef]:
    """Return a maker of trained heads by method; each is made once."""
    made: dict[str, AdapterRef] = {}

    def make(name: str) -> AdapterRef:
        if name not in made:
            made[name] = train(METHODS[name])
        return made[name]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_head_learns_under_every_method_and_is_loaded_with_its_labels(
    trained: Callable[[str], AdapterRef],
    quantize: Callable[[str], ModelRef],
    base: BaseRef,
    side: SideRef,
    tmp_path: Path,
    name: str,
) -> None:
    """The held-out loss falls, and is that of the loaded model: nothing is lost in between."""
    adapter = trained(name)
    assert adapter.validation_loss is not None and adapter.base_validation_loss is not None
    assert adapter.validation_loss < adapter.base_validation_loss
    scored = adapter.as_scored(quantize("nf4" if name == "qlora" else "none"), base)
    loaded = load_scored_model(scored)
    assert loaded.labels == LABELS
    section = settings_of(LabelSettings, scoring={"resamples": 100})
    inputs = LabelInputs(model=scored, rows=side, labels=LABELS)
    report = score_labels(inputs, section, make_workdir(tmp_path / "work"))
    assert report.metrics["accuracy"].n == len(TEXTS)
    # Balanced weights are 1 here: six rows of each of two classes.
    rows = [json.loads(line) for line in (report.folder / "rows.jsonl").open(encoding="utf-8")]
    losses = [-math.log(r["probability"] if r["accuracy"] else 1 - r["probability"]) for r in rows]
    assert sum(losses) / len(losses) == pytest.approx(adapter.validation_loss, rel=2e-2, abs=2e-3)


def test_frozen_trains_the_head_alone(
    trained: Callable[[str], AdapterRef], base: BaseRef, quantize: Callable[[str], ModelRef]
) -> None:
    """2 classes x 64 features are trained and kept; the base's weights are those of its file."""
    adapter = trained("frozen")
    assert adapter.trainable_parameters == 2 * 64
    saved = load_file(adapter.folder / "head.safetensors")
    assert {name: tuple(each.shape) for name, each in saved.items()} == {"score.weight": (2, 64)}
    model = load_scored_model(adapter.as_scored(quantize("none"), base)).model
    weights = load_file(base.folder / "model.safetensors")
    for name, weight in model.state_dict().items():
        if name != "score.weight":
            assert torch.equal(weight, weights[name].to(weight.dtype)), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frozen", "full", "lora", "qlora"])
def test_a_merged_head_is_a_plain_classifier_that_says_the_same(
    trained: Callable[[str], AdapterRef],
    base: BaseRef,
    side: SideRef,
    tmp_path: Path,
    name: str,
) -> None:
    """Compared by class figures and predicted labels; config.json has the labels."""
    section = settings_of(MergeSettings, merge={"check_rows": 8})
    inputs = MergeInputs(adapter=trained(name), base=base, rows=side, template=None)
    merged = merge_adapter(inputs, section, make_workdir(tmp_path / "work"))
    assert merged.rows_checked == merged.answers_equal == 8
    config = json.loads((merged.folder / "config.json").read_text("utf-8"))
    assert config["id2label"] == {"0": "bom", "1": "ruim"}
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert load_scored_model(merged.as_scored()).labels == LABELS


def test_perturbed_questions_are_asked_of_a_head_too(
    trained: Callable[[str], AdapterRef],
    base: BaseRef,
    side: SideRef,
    quantize: Callable[[str], ModelRef],
    tmp_path: Path,
) -> None:
    """The outcome is whether the class is right, before and after; no text is written."""
    section = settings_of(
        RobustnessSettings,
        probes={"robustness": {"kinds": ["upper"], "rows": 5}},
        scoring={"resamples": 100},
    )
    inputs = RobustnessInputs(
        model=trained("frozen").as_scored(quantize("none"), base),
        rows=side,
        labels=LABELS,
        paraphrases=None,
    )
    report = probe_robustness(inputs, section, make_workdir(tmp_path / "work"))
    assert report.metrics["flip_rate"].n == report.rows == 5
    assert not report.unscored


@pytest.mark.slow
def test_a_resumed_head_equals_an_uninterrupted_one(
    base: BaseRef, side: SideRef, quantize: Callable[[str], ModelRef], tmp_path: Path
) -> None:
    """A checkpoint in mid-training is resumed from: same digest, bit for bit."""
    section = settings_of(
        ClassifierSettings,
        seed=7,  # type: ignore[arg-type]
        model={"id": "tiny"},
        quantization={},
        method={"kind": "lora", "r": 4},
        training={"max_steps": 8, "batch_size": 4, "evaluations": 2, "keep_best": False},
        head={},
    )
    inputs = ClassifierInputs(
        train=side, validation=side, base=base, model=quantize("none"), labels=LABELS
    )
    whole = make_workdir(tmp_path / "whole")
    first = train_classifier(inputs, section, whole)
    work = make_workdir(tmp_path / "resumed")
    checkpoint = whole.scratch / "checkpoints" / "checkpoint-4"
    target = work.scratch / "checkpoints" / "checkpoint-4"
    shutil.copytree(checkpoint, target)
    for name in ("metrics.jsonl", "base_validation_loss.txt"):
        shutil.copy(whole.scratch / name, work.scratch)
    second = train_classifier(inputs, section, work)
    assert not STOP.requested
    assert second.resumed_from_step == 4 and first.resumed_from_step == 0
    assert second.digest == first.digest


def test_the_loss_is_the_weighted_mean_over_the_rows_of_the_step() -> None:
    """Not over the sum of weights.

    Logits (0, 0): each row costs ln 2. Weights 1/2 and 3/2, rows of class 0, 0, 1:
    (0.5 + 0.5 + 1.5) ln 2 = 2.5 ln 2, over 3 rows here, and over 6 where the step has six.
    """
    loss = class_loss([0.5, 1.5])
    out, labels = {"logits": torch.zeros(3, 2)}, torch.tensor([0, 0, 1])
    assert float(loss(out, labels)) == pytest.approx(2.5 * math.log(2) / 3)
    assert float(loss(out, labels, num_items_in_batch=6)) == pytest.approx(2.5 * math.log(2) / 6)
    assert float(class_loss(None)(out, labels)) == pytest.approx(math.log(2))


def test_rows_are_padded_on_the_right_with_a_mask() -> None:
    """Two rows of 2 and 3 tokens, padding by 9."""
    rows = [{"input_ids": [4, 5], "labels": 1}, {"input_ids": [4, 5, 6], "labels": 0}]
    batch = collate(rows, pad_token_id=9)
    assert batch["input_ids"].tolist() == [[4, 5, 9], [4, 5, 6]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [1, 0]


def test_a_label_without_training_rows_stops_before_the_model_is_loaded(
    base: BaseRef, side: SideRef, quantize: Callable[[str], ModelRef], tmp_path: Path
) -> None:
    """`neutro` is a class of the held-out rows alone."""
    section = settings_of(
        ClassifierSettings,
        seed=7,  # type: ignore[arg-type]
        model={"id": "tiny"},
        quantization={},
        method={"kind": "full"},
        training={},
        head={},
    )
    inputs = ClassifierInputs(
        train=side, validation=side, base=base, model=quantize("none"), labels=(*LABELS, "neutro")
    )
    with pytest.raises(DataError, match="neutro"):
        train_classifier(inputs, section, make_workdir(tmp_path / "work"))


def fake_head(figures: dict[int, list[float]]) -> Any:
    """A model whose figures depend on the last real token alone."""

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            last = attention_mask.sum(-1) - 1
            read = input_ids[torch.arange(len(last)), last]
            return SimpleNamespace(logits=torch.tensor([figures[int(each)] for each in read]))

    return Head()


def test_probabilities_are_a_softmax_in_the_order_of_the_task() -> None:
    """Whatever the order of the head is, and however rows are batched.

    The head's is (ruim, bom), figures (0, ln 3): ruim 1/4, bom 3/4; two equal figures name no
    class.
    """
    model = fake_head({1: [0.0, math.log(3)], 2: [1.0, 1.0]})
    loaded: Any = SimpleNamespace(
        model=model, labels=("ruim", "bom"), tokenizer=SimpleNamespace(pad_token_id=0)
    )
    found = predict_by_head(loaded, [[5, 1], [2], [7, 7, 1]], LABELS, batch_size=2)
    assert found.predictions == ["bom", None, "bom"]
    assert found.probabilities[0] == pytest.approx([3 / 4, 1 / 4])
    assert found.ties == 1


def test_a_batch_is_timed_by_the_places_that_it_has() -> None:
    """Two batches, the longest prompt first: it and the next one, then the last."""
    told: list[list[int]] = []

    def clock(places: Sequence[int], seconds: float) -> None:
        assert seconds > 0
        told.append(list(places))

    model = fake_head({1: [0.0, 1.0], 2: [1.0, 0.0]})
    class_figures(model, [[1], [2, 2, 1], [2, 1]], batch_size=2, pad_id=0, clock=clock)
    assert told == [[1, 2], [0]]


def test_a_row_has_its_share_of_each_batch_that_it_was_in() -> None:
    """Rows 4 and 7 have two places each: of 3 s row 4 has two thirds, of the next 1 s row 7 all."""
    times = BatchTimes([4, 7], parts=2)
    times([0, 1, 2], 3.0)
    times([3], 1.0)
    four, seven = (times.stamp(row, Answer("")) for row in (4, 7))
    assert (four.seconds, four.batch) == (2.0, 0)
    assert (seven.seconds, seven.batch) == (2.0, 0)


def test_a_head_of_other_labels_is_refused() -> None:
    """Its columns could not be told."""
    loaded: Any = SimpleNamespace(labels=("ham", "spam"))
    with pytest.raises(ScoringError, match=r"ham, spam.*bom, ruim"):
        predict_by_head(loaded, [[1]], LABELS, batch_size=1)


def test_figures_that_are_no_numbers_are_an_error() -> None:
    """Broken weights must not look like a prediction."""
    with pytest.raises(ScoringError, match="not finite"):
        class_figures(fake_head({1: [math.nan, 0.0]}), [[1]], batch_size=1, pad_id=0)


class AlwaysFirst(torch.nn.Module):
    """A classifier that finds the first class likelier, whatever it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.weight.expand(len(input_ids), 2))


def test_a_watched_figure_is_over_rows_that_are_spread_over_the_side(
    base: BaseRef, tmp_path: Path
) -> None:
    """Rows sorted by label: of six and six, four that are spread are two and two.

    The first four are all of the first class, and would call this model perfect.
    """
    side = write_labelled_side(tmp_path, base.folder, sorted(TEXTS, key=lambda text: str(text[1])))
    trainer: Any = SimpleNamespace(
        model=AlwaysFirst().train(),
        args=SimpleNamespace(per_device_eval_batch_size=8),
        processing_class=SimpleNamespace(pad_token_id=0),
    )
    training = TrainingConfig(watch="accuracy", watch_rows=4, evaluation_rows=1)
    score = make_class_score(trainer, side, LABELS, training)
    assert score is not None and score() == 0.5
    assert trainer.model.training
