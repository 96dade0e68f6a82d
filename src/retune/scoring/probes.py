"""Probes: small cases that say what an answer must and must not contain.

`probe_pass_rate`: share of cases whose answer contains all of `required_words` and none of
`forbidden_words`, by category and over all; in [0, 1], higher is better, Wilson interval. Words are
matched as `retune.scoring.words` says, in the newly generated text only. A case without an answer
(None: it could not be generated) is unscored and in no rate. `expected` is for a person who reads
the report: it is not compared, because SQL that is written otherwise may be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from retune.errors import ConfigError, ScoringError
from retune.scoring.uncertainty import Estimate, estimate_rate
from retune.scoring.words import check_word, find_words


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProbeCase(_Record):
    """One input and what its answer must and must not contain."""

    id: str = Field(min_length=1)
    category: str = Field(min_length=1)
    input: str = Field(min_length=1)
    """The user message, as it stands."""

    expected: str | None = None
    """An answer that a person would accept; for the report only."""

    forbidden_words: tuple[str, ...] = ()
    """Words or phrases of which none may be in the answer."""

    required_words: tuple[str, ...] = ()
    """Words or phrases that must all be in the answer."""

    @field_validator("forbidden_words", "required_words")
    @classmethod
    def _not_empty(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            try:
                check_word(word)
            except ConfigError as error:
                raise ValueError(error.message) from error
        return words

    @model_validator(mode="after")
    def _can_fail(self) -> ProbeCase:
        if not (self.forbidden_words or self.required_words):
            raise ValueError(
                "has neither forbidden_words nor required_words; expected at least one, or every "
                "answer passes"
            )
        return self


class ProbeOutcome(_Record):
    """What one answer scored. None means that there was no answer to score."""

    case_id: str
    category: str
    passed: bool | None
    found_forbidden: tuple[str, ...] = ()
    missing_required: tuple[str, ...] = ()
    unscored_reason: str | None = None


class ProbeScores(_Record):
    """All outcomes, in the cases' order, and pass rates."""

    outcomes: tuple[ProbeOutcome, ...]
    estimates: dict[str, Estimate]
    """`probe_pass_rate` over all cases."""

    by_category: dict[str, Estimate]
    unscored_by_reason: dict[str, int]


def load_probes(*paths: Path) -> tuple[ProbeCase, ...]:
    """Load probe files.

    Args:
        *paths: YAML files, or folders whose `*.yaml` are loaded by name.

    Returns:
        The cases of all files, in order.

    Raises:
        ConfigError: Everything that is wrong with any file, in one message: it cannot be read,
            a key is unknown, a case or category is incomplete, an id occurs twice.
    """
    problems: list[str] = []
    cases: list[tuple[Path, ProbeCase]] = []
    files = [file for path in paths for file in _files_of(path, problems)]
    for file in files:
        content = _read_yaml(file, problems)
        cases += [(file, case) for case in _read_categories(file, content, problems)]
    problems += _repeated_ids(cases)
    if not problems and not cases:
        problems.append(f"{', '.join(map(str, paths))}: found no cases; expected at least one.")
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(case for _, case in cases)


def judge_probes(cases: Sequence[ProbeCase], texts: Sequence[str | None]) -> ProbeScores:
    """Judge the answers to probe cases.

    Args:
        cases: The cases.
        texts: What the model wrote for each, without the prompt; None where it could not.

    Returns:
        Outcomes and pass rates.

    Raises:
        ScoringError: There are no cases, or not one text per case.
    """
    if not cases or len(cases) != len(texts):
        raise ScoringError(
            f"Found {len(cases)} probe cases and {len(texts)} answers; expected at least one case "
            "and one answer for each."
        )
    outcomes = [judge_probe(case, text) for case, text in zip(cases, texts, strict=True)]
    categories = dict.fromkeys(case.category for case in cases)
    unscored = sum(outcome.passed is None for outcome in outcomes)
    return ProbeScores(
        outcomes=tuple(outcomes),
        estimates={"probe_pass_rate": _pass_rate(outcomes)},
        by_category={
            name: _pass_rate(o for o in outcomes if o.category == name) for name in categories
        },
        unscored_by_reason={"no_answer": unscored} if unscored else {},
    )


def judge_probe(case: ProbeCase, text: str | None) -> ProbeOutcome:
    """Judge one answer.

    Args:
        case: The case.
        text: What the model wrote, without the prompt; None where it could not.

    Returns:
        Passed or not, with the words that decided it.
    """
    if text is None:
        return ProbeOutcome(
            case_id=case.id, category=case.category, passed=None, unscored_reason="no_answer"
        )
    found = find_words(case.forbidden_words, text)
    present = find_words(case.required_words, text)
    missing = tuple(word for word in case.required_words if word not in present)
    return ProbeOutcome(
        case_id=case.id,
        category=case.category,
        passed=not found and not missing,
        found_forbidden=found,
        missing_required=missing,
    )


def _pass_rate(outcomes: Iterable[ProbeOutcome]) -> Estimate:
    return estimate_rate([outcome.passed for outcome in outcomes])


def _files_of(path: Path, problems: list[str]) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.yaml"))
    if not files:
        problems.append(f"{path}: found no *.yaml file; expected at least one probe file.")
    return files


def _read_yaml(file: Path, problems: list[str]) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{file}: cannot be read ({error.strerror}).")
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        problems.append(f"{file}: is not YAML in UTF-8: {error}")
    return None


def _read_categories(file: Path, content: Any, problems: list[str]) -> list[ProbeCase]:
    """Read `categories: {name: [case, ...]}`; a problem names file, category, case and field."""
    if content is None and problems:
        return []
    if not isinstance(content, Mapping) or set(content) != {"categories"}:
        found = (
            sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        )
        problems.append(f"{file}: found {found} at the top; expected the one key `categories`.")
        return []
    if not isinstance(content["categories"], Mapping) or not content["categories"]:
        problems.append(f"{file}: categories: expected categories by name, each a list of cases.")
        return []
    cases: list[ProbeCase] = []
    for category, items in content["categories"].items():
        if not isinstance(items, list) or not items:
            problems.append(
                f"{file}: categories.{category}: has no cases; expected a list of at least one. "
                "Remove the category or add a case."
            )
            continue
        for at, item in enumerate(items):
            cases += _read_case(f"{file}: categories.{category}[{at}]", category, item, problems)
    return cases


def _read_case(where: str, category: str, item: Any, problems: list[str]) -> list[ProbeCase]:
    if not isinstance(item, Mapping):
        problems.append(f"{where}: found {type(item).__name__}; expected a case with id and input.")
        return []
    where = f"{where} ({item.get('id', 'without id')})"
    if "category" in item:
        problems.append(f"{where}: category: is what the case stands under; remove the key.")
        return []
    try:
        return [ProbeCase.model_validate({**item, "category": str(category)})]
    except ValidationError as error:
        for problem in error.errors():
            field = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{where}: {field + ': ' if field else ''}{message}")
        return []


def _repeated_ids(cases: Sequence[tuple[Path, ProbeCase]]) -> list[str]:
    first: dict[str, Path] = {}
    problems = []
    for file, case in cases:
        if case.id in first:
            problems.append(
                f"{file}: categories.{case.category} ({case.id}): id: occurs before, in "
                f"{first[case.id]}; expected each id once."
            )
        first.setdefault(case.id, file)
    return problems
