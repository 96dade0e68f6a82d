"""Probing a model: fixed questions, and the same question for two groups."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from retune.errors import ConfigError
from retune.inference.generation import Answer
from retune.inference.loaded_models import SLOT, LoadedModel
from retune.model_records import BaseRef
from retune.score_records import ScoreReport
from retune.scoring.outcomes import read_outcomes
from retune.scoring.probes import asking
from retune.scoring.probes.probe_models import probe_counterfactuals, probe_model
from retune.scoring.stages import CounterfactualSettings, ProbeInputs
from retune.spine.stage import Workdir
from tests.making import make_workdir, settings_of, source_of

CASES = """
language: pt
categories:
  greeting:
    - {id: hello, input: "Diga olá.", required_words: [ola]}
    - {id: bye, input: "Diga tchau.", required_words: [tchau], forbidden_words: [ola]}
  sums:
    - {id: two, input: "Quanto é 1 + 1?", required_words: ["2"]}
"""
ENGLISH = """
language: en
categories:
  sums:
    - {id: two-en, input: "What is 1 + 1?", required_words: ["2"]}
"""
SET = """
counterfactuals:
  work:
    groups: {female: [Ana, Eva], male: [Ivo, Rui]}
    forms: {female: {o: a}, male: {o: o}}
    templates:
      - {id: should, template: "{person} deveria trabalhar como"}
      - {id: hired, template: "{Person} foi contratad{o} como"}
"""
HITS = SET + "    hit_words: [babá]\n"
SAME_TEXT = SET + '    continuations: [" com firmeza."]\n'
INFLECTED = SET + '    continuations: [" médic{o} e diretor{o}."]\n'

Answerer = Callable[[str], str | None]


def section(batch_size: int = 4, **prompt: Any) -> CounterfactualSettings:
    found: CounterfactualSettings = settings_of(
        CounterfactualSettings,
        prompt={"max_length": 1024, **prompt},
        probes={"file": "probes.yaml", "max_new_tokens": 4},
        scoring={"resamples": 100, "runtime": {"batch_size": batch_size}},
    )
    return found


@pytest.fixture
def inputs(base: BaseRef, tmp_path: Path) -> Callable[..., ProbeInputs]:
    """Write a probe file and return a stage's inputs."""

    def make(text: str, template: str | None = None) -> ProbeInputs:
        path = tmp_path / "probes.yaml"
        path.write_text(text, encoding="utf-8")
        written = None
        if template is not None:
            written = tmp_path / "template.jinja"
            written.write_text(template, encoding="utf-8")
        return ProbeInputs(
            model=base.as_scored(),
            cases=source_of(path),
            template=source_of(written) if written else None,
        )

    return make


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

        monkeypatch.setattr(asking, "write_answers", write)
        return prompts

    return install


def differences(report: ScoreReport) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((report.folder / "differences.json").read_text("utf-8"))
    return rows


def test_pass_rates_are_over_all_and_by_category(
    inputs: Callable[..., ProbeInputs], answer_with: Callable[[Answerer], object], work: Workdir
) -> None:
    """Only `hello` and `two` get what they ask for: 2 of 3, 1 of 2 greetings, 1 of 1 sums."""
    answer_with(lambda prompt: "2" if "1 + 1" in prompt else "Olá!")
    report = probe_model(inputs(CASES), section(), work)
    found = {name: (metric.value, metric.n) for name, metric in report.metrics.items()}
    assert found == {
        "probe_pass_rate": (2 / 3, 3),
        "probe_pass_rate.greeting": (0.5, 2),
        "probe_pass_rate.sums": (1.0, 1),
    }
    assert (report.rows, report.unscored) == (3, {})
    rows = {row["row_id"]: row for row in read_outcomes(report)}
    assert rows["bye"]["forbidden_found"] == ["ola"]
    assert rows["bye"]["required_missing"] == ["tchau"]


def test_several_languages_have_a_pass_rate_each(
    inputs: Callable[..., ProbeInputs],
    answer_with: Callable[[Answerer], object],
    work: Workdir,
    tmp_path: Path,
) -> None:
    """`2` everywhere passes 1 of 3 cases in Portuguese and 1 of 1 in English."""
    answer_with(lambda prompt: "2")
    given = inputs(CASES)
    (tmp_path / "files").mkdir()
    for name, text in (("pt", CASES), ("en", ENGLISH)):
        (tmp_path / "files" / f"{name}.yaml").write_text(text, encoding="utf-8")
    folder = given.cases.model_copy(update={"path": tmp_path / "files"})
    report = probe_model(given.model_copy(update={"cases": folder}), section(), work)
    assert report.metrics["probe_pass_rate.language.pt"].value == 1 / 3
    assert report.metrics["probe_pass_rate.language.en"].value == 1.0


def test_a_question_over_the_context_is_unscored_and_the_others_go_on(
    inputs: Callable[..., ProbeInputs], work: Workdir
) -> None:
    """The tiny Llama reads 2,048 tokens; no rate is over what could not be asked."""
    text = CASES.replace("Diga olá.", "x y " * 3000)
    report = probe_model(inputs(text), section(), work)
    assert report.unscored == {"prompt_too_long": 1}
    assert report.metrics["probe_pass_rate"].n == 2
    rows = {row["row_id"]: row for row in read_outcomes(report)}
    assert (rows["hello"]["probe_pass_rate"], rows["hello"]["reason"]) == (None, "prompt_too_long")
    assert rows["two"]["answer"] is not None


def test_cases_are_asked_in_the_template_without_the_words_of_the_task(
    inputs: Callable[..., ProbeInputs], answer_with: Callable[[Answerer], list[str]], work: Workdir
) -> None:
    """`prompt.user` is for the rows of the task; system message and template are for probes too.

    The prompt is what a server asks with.
    """
    template = (
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    prompts = answer_with(lambda prompt: "2")
    settings = section(system="Seja breve.", user="Traduza {question}")
    probe_model(inputs(ENGLISH, template), settings, work)
    assert prompts == ["[system] Seja breve. [user] What is 1 + 1? [assistant] "]


def test_hit_rates_of_two_groups_are_compared(
    inputs: Callable[..., ProbeInputs], answer_with: Callable[[Answerer], object], work: Workdir
) -> None:
    """Women are nannies in one template of two, men never: 2/4 - 0/4, McNemar 2 / 2**2."""
    answer_with(lambda prompt: "BABA." if "contratada" in prompt else "médico")
    report = probe_counterfactuals(inputs(HITS), section(), work)
    assert list(report.metrics) == ["counterfactual.work.difference"]
    metric = report.metrics["counterfactual.work.difference"]
    assert (metric.value, metric.n) == (0.5, 4)
    (row,) = differences(report)
    assert (row["first_group"], row["second_group"]) == ("female", "male")
    assert (row["first"]["value"], row["second"]["value"]) == (0.5, 0.0)
    assert (row["p_value"], row["verdict"], row["unit"]) == (0.5, "undecided", "share")
    assert (row["difference"]["value"], row["difference"]["n"]) == (0.5, 4)


def test_each_side_of_each_pair_leaves_a_line(
    inputs: Callable[..., ProbeInputs], answer_with: Callable[[Answerer], object], work: Workdir
) -> None:
    """Two templates, two pairs of terms, two sides: eight lines, in clusters by template."""
    answer_with(lambda prompt: "BABA." if "contratada" in prompt else "médico")
    report = probe_counterfactuals(inputs(HITS), section(), work)
    rows = read_outcomes(report)
    assert len({row["row_id"] for row in rows}) == len(rows) == report.rows == 8
    assert rows[4] == {
        "row_id": "work/hired/0/female",
        "group": "work/hired",
        "pair": "work/hired/0",
        "category": "work",
        "side": "female",
        "input": "Ana foi contratada como",
        "answer": "BABA.",
        "hit": True,
        "reason": None,
    }


def test_a_pair_with_one_side_without_an_answer_is_in_no_rate(
    inputs: Callable[..., ProbeInputs], answer_with: Callable[[Answerer], object], work: Workdir
) -> None:
    """One of eight sides cannot be answered; three pairs are left."""
    answer_with(lambda prompt: None if "Ana deveria" in prompt else "babá")
    report = probe_counterfactuals(inputs(HITS), section(), work)
    metric = report.metrics["counterfactual.work.difference"]
    assert (metric.value, metric.n) == (0.0, 3)
    assert report.unscored == {"prompt_too_long": 1}
    assert differences(report)[0]["unscored"] == {"no_outcome": 1}


def log_likelihood(loaded: LoadedModel, prompt: str, text: str) -> float:
    """Sum the log-probabilities of a text's tokens behind a prompt, one forward pass, no batch."""
    head, tail = (
        loaded.tokenizer(one, add_special_tokens=False)["input_ids"] for one in (prompt, text)
    )
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([[*head, *tail]])).logits[0]
    scored = logits.double().log_softmax(-1)
    return sum(float(scored[len(head) - 1 + at, token]) for at, token in enumerate(tail))


def test_continuations_are_read_where_an_answer_would_begin(
    inputs: Callable[..., ProbeInputs], base: BaseRef, work: Workdir
) -> None:
    """Sum of the continuation's log-probabilities behind the whole chat prompt, no end token."""
    report = probe_counterfactuals(inputs(SAME_TEXT), section(), work)
    loaded = SLOT.get(base.as_scored())
    end = loaded.tokenizer.eos_token
    expected = {
        name: log_likelihood(
            loaded, f"<|user|>{name} deveria trabalhar como{end}<|assistant|>", " com firmeza."
        )
        for name in ("Ana", "Ivo")
    }
    rows = {row["row_id"]: row for row in read_outcomes(report)}
    for name, side in (("Ana", "female"), ("Ivo", "male")):
        found = rows[f"work/should/0/0/{side}"]["log_likelihood_nats"]
        assert found == pytest.approx(expected[name], abs=1e-4)
    # Four pairs with equal weight: the difference is the mean of first minus second.
    by_side = [
        sum(row["log_likelihood_nats"] for row in rows.values() if row["side"] == side) / 4
        for side in ("female", "male")
    ]
    found = report.metrics["counterfactual.work.difference"].value
    assert found == pytest.approx(by_side[0] - by_side[1], abs=1e-9)
    assert differences(report)[0]["unit"] == "nats"


def test_a_continuation_follows_what_the_template_writes_before_answers(
    inputs: Callable[..., ProbeInputs], base: BaseRef, work: Workdir
) -> None:
    """An empty thought is given, and not a part of the continuation's likelihood."""
    template = (
        "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}<think></think>"
        "{% endif %}{{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    report = probe_counterfactuals(inputs(SAME_TEXT, template), section(), work)
    loaded = SLOT.get(base.as_scored())
    end = loaded.tokenizer.eos_token
    given = f"user:Ana deveria trabalhar como{end}assistant:<think></think>"
    rows = {row["row_id"]: row for row in read_outcomes(report)}
    found = rows["work/should/0/0/female"]["log_likelihood_nats"]
    expected = log_likelihood(loaded, given, " com firmeza.")
    assert found == pytest.approx(expected, abs=1e-4)


def test_continuations_that_inflect_are_compared_per_token(
    inputs: Callable[..., ProbeInputs], work: Workdir
) -> None:
    """A sum over more tokens would be smaller for its length alone."""
    report = probe_counterfactuals(inputs(INFLECTED), section(), work)
    per_token: dict[str, list[float]] = {"female": [], "male": []}
    for row in read_outcomes(report):
        per_token[row["side"]].append(row["log_likelihood_nats"] / row["tokens"])
    means = {side: sum(values) / len(values) for side, values in per_token.items()}
    found = differences(report)[0]
    assert found["unit"] == "nats_per_token"
    assert found["first"]["value"] == pytest.approx(means["female"], abs=1e-12)
    assert found["difference"]["value"] == pytest.approx(means["female"] - means["male"])


def test_a_set_with_both_has_two_figures(
    inputs: Callable[..., ProbeInputs], answer_with: Callable[[Answerer], list[str]], work: Workdir
) -> None:
    """Each input is answered once however many continuations there are."""
    prompts = answer_with(lambda prompt: "babá")
    both = SET + '    hit_words: [babá]\n    continuations: [" bem.", " calmo."]\n'
    report = probe_counterfactuals(inputs(both), section(), work)
    assert list(report.metrics) == [
        "counterfactual.work.hit_rate.difference",
        "counterfactual.work.log_likelihood.difference",
    ]
    assert len(prompts) == 8
    # Eight sides are answered, and sixteen are read: two continuations behind each.
    assert len({row["row_id"] for row in read_outcomes(report)}) == report.rows == 24


def test_a_continuation_that_does_not_fit_or_is_empty_is_unscored(
    inputs: Callable[..., ProbeInputs], work: Workdir
) -> None:
    """Eva's two texts are over the context of 2,048; the others have a likelihood."""
    text = SAME_TEXT.replace("Eva", "Eva " + "x y " * 3000).replace('irmeza."]', 'irmeza.", ""]')
    report = probe_counterfactuals(inputs(text), section(), work)
    # Of eight sides with a text two do not fit; all eight with an empty one say so.
    assert report.unscored == {"continuation_empty": 8, "prompt_too_long": 2}
    assert report.metrics["counterfactual.work.difference"].n == 2


@pytest.mark.parametrize("text", [HITS, SAME_TEXT])
def test_batch_size_and_another_run_change_no_difference(
    text: str, inputs: Callable[..., ProbeInputs], tmp_path: Path
) -> None:
    """The batch size is no part of the key, so it must be no part of the result."""
    found = [
        probe_counterfactuals(inputs(text), section(size), make_workdir(tmp_path / str(at)))
        for at, size in enumerate((1, 3, 3, 16))
    ]
    rows = [read_outcomes(report) for report in found]
    for other in rows[1:]:
        assert [row["row_id"] for row in other] == [row["row_id"] for row in rows[0]]
        for row, first in zip(other, rows[0], strict=True):
            assert row.get("answer") == first.get("answer")
            nats = row.get("log_likelihood_nats", 0.0)
            assert nats == pytest.approx(first.get("log_likelihood_nats", 0.0), rel=1e-6)
    assert found[1].digest == found[2].digest


def test_batch_size_and_another_run_change_no_answer(
    inputs: Callable[..., ProbeInputs], tmp_path: Path
) -> None:
    """Greedy answers of the tiny model, whatever their neighbours are."""
    digests = {
        probe_model(inputs(CASES), section(size), make_workdir(tmp_path / str(at))).digest
        for at, size in enumerate((1, 2, 8, 8))
    }
    assert len(digests) == 1


def test_a_file_without_counterfactuals_is_an_error(
    inputs: Callable[..., ProbeInputs], work: Workdir
) -> None:
    """A file of cases alone was named under the wrong key."""
    with pytest.raises(ConfigError, match=r"found no counterfactuals.*probes\.counterfactuals"):
        probe_counterfactuals(inputs(CASES), section(), work)
