"""Everything that a recipe names outside of the store: found, and known by what it holds."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from retune.data.chats.templates import locate_template
from retune.data.preferences import locate_preferences
from retune.data.reading.locating import locate_source
from retune.data.sources import LocatedRows, locate_databases, locate_rows
from retune.errors import ConfigError, RetuneError
from retune.model_records import BaseRef
from retune.modeling.prequantized import check_quantization
from retune.modeling.reference import REFERENCE_TEXT
from retune.modeling.snapshots import locate_base
from retune.modeling.starting import locate_start
from retune.recipe.loading import LoadedRecipe
from retune.recipe.recipe import Recipe
from retune.recipe.sections import FormatName, JudgeConfig, SourceConfig, prompt_fields
from retune.records import RowSource, Source
from retune.scoring.figures import FIGURES, figure_of, figure_that_decides
from retune.scoring.free_text.own_folders import locate_metric
from retune.scoring.judge.verdict_files import locate_verdicts
from retune.scoring.judge.wording import locate_wording
from retune.scoring.rubrics.refusing import refuse_unfit_rubrics
from retune.scoring.shipped_texts import GENERAL_TEXT

_NO_FREE_TEXT: frozenset[FormatName] = frozenset({"text", "text_label", "text_to_sql"})


@dataclass(frozen=True)
class RowInput:
    """One source of rows.

    Attributes:
        located: Its files or hub dataset, its format and columns.
        key: Dotted path in the recipe, as messages name it.
        held_out: Whether its rows are for the final scores alone.
        weight: Its share in the mix; None where nothing is mixed.
    """

    located: LocatedRows
    key: str
    held_out: bool
    weight: float | None

    @property
    def asks_sql(self) -> bool:
        """Whether its rows are answered with a query."""
        return self.located.format == "text_to_sql"


@dataclass(frozen=True)
class Inputs:
    """The files and the model of a recipe.

    Attributes:
        rows: Sources to learn from, then the fixed held-out ones.
        databases: What the rows ask about.
        probes: Probe cases.
        counterfactuals: Counterfactual pairs.
        paraphrases: Questions in other words.
        general_text: What is measured to see what a model forgot.
        reference_text: What the quantized model is compared on.
        base: The unquantized snapshot.
        template: The chat template, when it is not the tokenizer's own.
        pairs: Pairs of answers to learn preferences from.
        start: Folder of the adapter that training goes on from.
        own_metrics: Folders of the team's metrics of answers, by the name of their figure.
        judge_wording: The text that a judge is asked by; None without a judge.
        human_verdicts: Pairs that people have judged.
    """

    rows: tuple[RowInput, ...]
    databases: RowSource | None
    probes: Source | None
    counterfactuals: Source | None
    paraphrases: Source | None
    general_text: Source
    reference_text: Source
    base: BaseRef
    template: Source | None
    pairs: Source | None = None
    start: Source | None = None
    own_metrics: dict[str, Source] = field(default_factory=dict)
    judge_wording: Source | None = None
    human_verdicts: Source | None = None

    @property
    def asks_sql(self) -> bool:
        """Whether any row is answered with a query."""
        return any(row.asks_sql for row in self.rows)

    @property
    def has_labels(self) -> bool:
        """Whether any row is put into a class."""
        return any(row.located.format == "text_label" for row in self.rows)

    @property
    def asks_questions(self) -> bool:
        """Whether any row is more than plain text."""
        return any(row.located.format != "text" for row in self.rows)


def locate_inputs(loaded: LoadedRecipe, *, with_weights: bool = True) -> Inputs:
    """Find every file and model that a recipe names, and take their digests.

    Args:
        loaded: The recipe.
        with_weights: Whether a model of the hub is downloaded as a whole; for a look at the data
            its tokenizer is enough, and that its weights may be read.

    Returns:
        The inputs of the first stages.

    Raises:
        ConfigError: The model or a dataset is not there or lacks a part, or the recipe asks of the
            rows what their format does not have; where several inputs are wrong, all of them.
        DataError: A file is not there, or empty.
    """
    recipe, resolve = loaded.recipe, loaded.resolve
    reference = recipe.quantization.reference_text or REFERENCE_TEXT
    databases, probes = recipe.data.databases, recipe.probes
    robustness = probes.robustness if probes else None

    def source(path: Path | None, name: str) -> Callable[[], Source | None]:
        return lambda: locate_source(resolve(path), name, folders=True) if path else None

    attempts = _Attempts()
    rows = attempts.make(lambda: _located_rows(loaded))
    found = {
        "databases": attempts.make(
            lambda: locate_databases(resolve(databases)) if databases else None
        ),
        "probes": attempts.make(source(probes.file if probes else None, "probes.file")),
        "counterfactuals": attempts.make(
            source(probes.counterfactuals if probes else None, "probes.counterfactuals")
        ),
        "paraphrases": attempts.make(
            source(robustness.paraphrases if robustness else None, "probes.robustness.paraphrases")
        ),
        "general_text": attempts.make(
            source(recipe.scoring.general_text or GENERAL_TEXT, "scoring.general_text")
        ),
        "reference_text": attempts.make(source(reference, "quantization.reference_text")),
        "base": attempts.make(lambda: _located_base(loaded, with_weights)),
        "template": attempts.make(
            lambda: locate_template(recipe.prompt, resolve, loaded.resolve_model)
        ),
        "pairs": attempts.make(
            lambda: (
                locate_preferences(resolve(recipe.dpo.pairs), recipe.data.encoding)
                if recipe.dpo
                else None
            )
        ),
    }
    found["own_metrics"] = {
        each.figure: attempts.make(partial(locate_metric, each, resolve))
        for each in recipe.scoring.own_metrics
    }
    found |= _attempt_judge(attempts, recipe.judge, resolve)
    found["start"] = attempts.make(lambda: _located_start(loaded, found["base"]))
    attempts.raise_failures()
    return Inputs(rows=cast(tuple[RowInput, ...], rows), **cast(dict[str, Any], found))


def _attempt_judge(
    attempts: _Attempts, judge: JudgeConfig | None, resolve: Callable[[Path], Path]
) -> dict[str, object]:
    if judge is None:
        return {}
    prompt, verdicts = judge.prompt, judge.human_verdicts
    return {
        "judge_wording": attempts.make(
            lambda: locate_wording(resolve(prompt) if prompt else None, judge.language)
        ),
        "human_verdicts": attempts.make(
            lambda: locate_verdicts(resolve(verdicts)) if verdicts else None
        ),
    }


def _located_base(loaded: LoadedRecipe, with_weights: bool) -> BaseRef:
    model = loaded.recipe.model
    base = locate_base(loaded.resolve_model(model.id), model.revision, with_weights=with_weights)
    check_quantization(base.folder, loaded.recipe.quantization.kind)
    # A folder is known by its content; what is trained names it as the recipe does.
    return base.model_copy(update={"model_id": model.id})


def _located_start(loaded: LoadedRecipe, base: object) -> Source | None:
    start = loaded.recipe.training.start_from
    # A base that is not there is told already.
    if start is None or not isinstance(base, BaseRef):
        return None
    return locate_start(loaded.resolve(start), base, loaded.resolve)


class _Attempts:
    """Tries to find several things, and tells of all that failed at once."""

    def __init__(self) -> None:
        self._failures: list[RetuneError] = []

    def make(self, attempt: Callable[[], object]) -> object:
        try:
            return attempt()
        except RetuneError as error:
            self._failures.append(error)
            return None

    def raise_failures(self) -> None:
        if len(self._failures) == 1:
            raise self._failures[0]
        if self._failures:
            kinds = {type(error) for error in self._failures}
            kind = kinds.pop() if len(kinds) == 1 else ConfigError
            raise kind("\n".join(error.message for error in self._failures))


def _located_rows(loaded: LoadedRecipe) -> tuple[RowInput, ...]:
    rows = locate_all_rows(loaded)
    _refuse_unfit(loaded.recipe, rows)
    return rows


def locate_all_rows(loaded: LoadedRecipe) -> tuple[RowInput, ...]:
    """Find every source of rows, those to learn from first.

    Args:
        loaded: The recipe.

    Returns:
        One entry per source.

    Raises:
        ConfigError: A hub dataset is not there.
        DataError: A file is not there, or its format is not known.
    """
    data = loaded.recipe.data
    attempts = _Attempts()
    sides = (("train", data.train), ("test", data.test or ()))
    found = [
        attempts.make(partial(_locate, loaded, f"data.{side}.{place}", source))
        for side, sources in sides
        for place, source in enumerate(sources)
    ]
    attempts.raise_failures()
    return tuple(cast(list[RowInput], found))


def _locate(loaded: LoadedRecipe, key: str, source: SourceConfig) -> RowInput:
    return RowInput(
        located=locate_rows(source, loaded.recipe.data, loaded.resolve, key),
        key=key,
        held_out=key.startswith("data.test."),
        weight=source.weight,
    )


def _refuse_unfit(recipe: Recipe, rows: tuple[RowInput, ...]) -> None:
    """Refuse what the recipe asks of rows whose format does not have it, before any training."""
    formats = {row.located.format for row in rows}
    found = f"found: {', '.join(sorted(formats))}"
    _refuse_without_labels(recipe, rows)
    if recipe.data.labels is not None and "text_label" not in formats:
        raise ConfigError(
            f"data.labels names classes, but no source of rows is text_label ({found}). Name the "
            "text and its label in data.columns (question, answer) and state format: text_label, "
            "or remove data.labels."
        )
    metric, asks_sql = recipe.gate.metric, "text_to_sql" in formats
    needed = figure_of(metric).rows if metric else None
    if needed is not None and needed not in formats:
        lacking = {"text_label": "has labels", "text_to_sql": "is text-to-SQL"}[needed]
        raise ConfigError(
            f"gate.metric is {metric}, but no source of rows {lacking} ({found}). "
            f"Choose another metric, or state format: {needed} for the source."
        )
    _refuse_unfit_text_metrics(recipe, formats)
    refuse_unfit_rubrics(recipe.scoring.rubrics)
    _refuse_unfit_watch(recipe.training.watch, formats)
    decides = metric or figure_that_decides(lambda each: each.rows is None or each.rows in formats)
    if metric is None and recipe.gate.min_value is not None and figure_of(decides).lower_is_better:
        raise ConfigError(
            f"gate.min_value is {recipe.gate.min_value:g}, but {decides} decides for these rows "
            f"({found}), and is better when lower. Remove it, and use gate.min_gain."
        )
    if recipe.grpo is not None and not asks_sql:
        raise ConfigError(
            f"grpo.reward is {recipe.grpo.reward}, but no source of rows is text-to-SQL ({found}). "
            "Remove grpo, or state format: text_to_sql for the source."
        )
    if recipe.prompt.user is None or asks_sql:
        return
    if "schema" in prompt_fields(recipe.prompt.user):
        raise ConfigError(
            f"prompt.user has {{schema}}, but no source of rows is text-to-SQL ({found}), so there "
            "is no schema to show. Remove {schema}, or name data.databases."
        )


def _refuse_unfit_text_metrics(recipe: Recipe, formats: Collection[str]) -> None:
    asked, metric = recipe.scoring.text_figures, recipe.gate.metric
    key = "scoring.text_metrics" if recipe.scoring.text_metrics else "scoring.rubrics"
    found = f"found: {', '.join(sorted(formats))}"
    of_answers = metric is not None and figure_of(metric).of_answers
    if metric and of_answers and not figure_of(metric).of_pairs and metric not in asked:
        named = ", ".join(asked) or "none"
        raise ConfigError(
            f"gate.metric is {metric}, but scoring.text_metrics does not ask for it (it names "
            f"{named}), nor does scoring.rubrics. Add it there, or name another gate.metric."
        )
    if asked and recipe.head is not None:
        raise ConfigError(
            f"{key} looks at written answers, but a classification head writes none (head). "
            "Remove one of the two."
        )
    if asked and not set(formats) - _NO_FREE_TEXT:
        raise ConfigError(
            f"{key} looks at answers in free text, but no source of rows has any "
            f"({found}). Remove it, or name rows of questions and answers."
        )


def _refuse_without_labels(recipe: Recipe, rows: tuple[RowInput, ...]) -> None:
    others = [row for row in rows if row.located.format != "text_label"]
    if recipe.head is None or not others:
        return
    found = "; ".join(f"{row.key} is {row.located.format}" for row in others)
    raise ConfigError(
        f"head: a classification head learns from rows with labels alone, but {found}. Remove "
        "those sources, state format: text_label for them, or remove head to let the model write."
    )


def _refuse_unfit_watch(watch: str, formats: Collection[str]) -> None:
    needed = None if watch == "loss" else FIGURES[watch].rows
    if needed is not None and needed not in formats:
        raise ConfigError(
            f"training.watch is {watch}, but no source of rows is {needed} (found: "
            f"{', '.join(sorted(formats))}), so that nothing could be scored during training. "
            f"Write training.watch: loss, or state format: {needed} for the source."
        )


def display_names(source: RowSource, root: Path) -> tuple[str, ...]:
    """Return how reports name the files of a source.

    Args:
        source: The source.
        root: The project's root.

    Returns:
        Paths relative to the root where they lie below it, or the hub id.
    """
    if source.hub is not None:
        return (source.name,)
    return tuple(
        str(path.relative_to(root) if path.is_relative_to(root) else path) for path in source.files
    )
