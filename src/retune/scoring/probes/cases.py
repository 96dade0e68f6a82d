"""Probe cases and the files that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from retune.errors import ConfigError
from retune.records import Record
from retune.scoring.case_files import LANGUAGE, ProbeFile, explain, read_probe_files
from retune.scoring.words import check_words, find_words

RequiredWord = str | tuple[str, ...]


class ProbeCase(Record):
    """One input and what its answer must and must not contain."""

    id: str = Field(min_length=1)
    category: str = Field(min_length=1)
    language: str | None = Field(default=None, pattern=f"^{LANGUAGE.pattern}$")
    """The language of the input, as `pt` or `pt-BR`; None when the file does not say."""

    input: str = Field(min_length=1)
    """The user message, as it stands."""

    expected: str | None = None
    """An answer that a person would accept; for the report only."""

    forbidden_words: tuple[str, ...] = ()
    """Words or phrases of which none may be in the answer."""

    required_words: tuple[RequiredWord, ...] = ()
    """Words or phrases that must all be in the answer; of a list inside, at least one."""

    @field_validator("forbidden_words", "required_words")
    @classmethod
    def _not_empty(cls, words: tuple[RequiredWord, ...]) -> tuple[RequiredWord, ...]:
        for entry in words:
            if not isinstance(entry, str) and not entry:
                raise ValueError("Found a list without words; expected at least one alternative.")
            check_words(alternatives(entry))
        return words

    @model_validator(mode="after")
    def _can_fail(self) -> ProbeCase:
        if not (self.forbidden_words or self.required_words):
            raise ValueError(
                "has neither forbidden_words nor required_words; expected at least one, or every "
                "answer passes"
            )
        return self

    @model_validator(mode="after")
    def _can_pass(self) -> ProbeCase:
        for entry in self.required_words:
            found = [find_words(self.forbidden_words, word) for word in alternatives(entry)]
            if all(found):
                raise ValueError(
                    f"requires {entry!r} and forbids {found[0][0]!r}, which is in it; no answer "
                    "can pass. Remove one of the two."
                )
        return self


def alternatives(entry: RequiredWord) -> tuple[str, ...]:
    """Return the words of which one is enough.

    Args:
        entry: A word, or a list of words.

    Returns:
        At least one word.
    """
    return (entry,) if isinstance(entry, str) else entry


def load_probes(*paths: Path) -> tuple[ProbeCase, ...]:
    """Load the cases of probe files.

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
    for file in read_probe_files(paths, problems):
        cases += [(file.path, case) for case in _read_categories(file, problems)]
    problems += _repeated_ids(cases)
    if not problems and not cases:
        problems.append(f"{', '.join(map(str, paths))}: found no cases; expected at least one.")
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(case for _, case in cases)


def _read_categories(file: ProbeFile, problems: list[str]) -> list[ProbeCase]:
    """Read `categories: {name: [case, ...]}`; a problem names file, category, case and field."""
    if "categories" not in file.content:
        return []
    categories = file.content["categories"]
    if not isinstance(categories, Mapping) or not categories:
        problems.append(
            f"{file.path}: categories: expected categories by name, each a list of cases."
        )
        return []
    cases: list[ProbeCase] = []
    for category, items in categories.items():
        where = f"{file.path}: categories.{category}"
        if not isinstance(items, list) or not items:
            problems.append(
                f"{where}: has no cases; expected a list of at least one. Remove the category or "
                "add a case."
            )
            continue
        for at, item in enumerate(items):
            cases += _read_case(f"{where}[{at}]", file.language, category, item, problems)
    return cases


def _read_case(
    where: str, language: str | None, category: str, item: Any, problems: list[str]
) -> list[ProbeCase]:
    if not isinstance(item, Mapping):
        problems.append(f"{where}: found {type(item).__name__}; expected a case with id and input.")
        return []
    where = f"{where} ({item.get('id', 'without id')})"
    if "category" in item:
        problems.append(f"{where}: category: is what the case stands under; remove the key.")
        return []
    try:
        fields = {"language": language, **item, "category": str(category)}
        return [ProbeCase.model_validate(fields)]
    except ValidationError as error:
        problems += explain(where, error)
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
