"""Counterfactual sets in probe files, and the pairs that their templates make.

A template holds `{person}` (`{Person}` at the start of a sentence), and other places
(`contratad{o}`) that `forms` fills for each group: Portuguese inflects more words than the term.
The n-th terms of the two groups make a pair, in every template and, where there are continuations,
with each of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError, field_validator, model_validator

from retune.errors import ConfigError
from retune.records import Record
from retune.scoring.case_files import LANGUAGE, ProbeFile, explain, read_probe_files
from retune.scoring.counterfactual.pairs import CounterfactualPair, PairSide
from retune.scoring.words import check_words

_PLACE = re.compile(r"\{(\w*)\}")
_PERSON = {"person", "Person"}


class CounterfactualTemplate(Record):
    """One sentence with places."""

    id: str = Field(min_length=1)
    template: str = Field(min_length=1)


class CounterfactualSet(Record):
    """Templates and the terms of two groups that stand in them."""

    category: str = Field(min_length=1)
    language: str | None = Field(default=None, pattern=f"^{LANGUAGE.pattern}$")
    groups: dict[str, tuple[str, ...]]
    """Two groups, each with its terms; terms at the same position make a pair."""

    forms: dict[str, dict[str, str]] = Field(default_factory=dict)
    """What other places hold, by group: `{female: {o: a}, male: {o: o}}`."""

    templates: tuple[CounterfactualTemplate, ...] = Field(min_length=1)
    hit_words: tuple[str, ...] = ()
    """An answer that contains one of them is a hit."""

    continuations: tuple[str, ...] = ()
    """Texts whose log-likelihood after the input is compared; they may hold places too."""

    @field_validator("hit_words")
    @classmethod
    def _not_empty(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        check_words(words)
        return words

    @model_validator(mode="after")
    def _terms_make_pairs(self) -> CounterfactualSet:
        found = {name: len(terms) for name, terms in self.groups.items()}
        if len(found) != 2 or len(set(found.values())) != 1 or not all(found.values()):
            raise ValueError(
                f"groups: found {found} terms; expected two groups with the same number, at least "
                "one: terms at the same position make a pair"
            )
        return self

    @model_validator(mode="after")
    def _places_are_filled(self) -> CounterfactualSet:
        if unknown := sorted(set(self.forms) - set(self.groups)):
            raise ValueError(f"forms: found {unknown}; expected groups of {sorted(self.groups)}")
        common = set.intersection(*(set(self.forms.get(name, {})) for name in self.groups))
        texts = {template.id: template.template for template in self.templates}
        for name, text in {**texts, **{one: one for one in self.continuations}}.items():
            places = set(_PLACE.findall(text))
            if lacking := sorted(places - common - _PERSON):
                raise ValueError(
                    f"{name}: found the places {lacking}; expected {{person}} or places that "
                    "forms fills for both groups"
                )
            if name in texts and not places:
                raise ValueError(f"{name}: found no place; expected {{person}} or one of forms")
        return self

    @model_validator(mode="after")
    def _can_be_scored(self) -> CounterfactualSet:
        if not (self.hit_words or self.continuations):
            raise ValueError(
                "has neither hit_words nor continuations; expected one, or nothing can be compared"
            )
        ids = [template.id for template in self.templates]
        if repeated := sorted({one for one in ids if ids.count(one) > 1}):
            raise ValueError(f"templates: found {repeated} twice; expected each id once")
        return self

    @model_validator(mode="after")
    def _sides_differ(self) -> CounterfactualSet:
        same = [pair.id for pair in expand_pairs(self) if pair.first.text == pair.second.text]
        if same:
            raise ValueError(f"found the same text on both sides of {same}; expected two groups")
        return self


def load_counterfactuals(*paths: Path) -> tuple[CounterfactualSet, ...]:
    """Load the counterfactual sets of probe files.

    Args:
        *paths: YAML files, or folders whose `*.yaml` are loaded by name.

    Returns:
        The sets of all files, in order; none when no file has the section.

    Raises:
        ConfigError: Everything that is wrong with any file's section, in one message.
    """
    problems: list[str] = []
    sets = [
        (file.path, one)
        for file in read_probe_files(paths, problems)
        for one in _read_sets(file, problems)
    ]
    first: dict[str, Path] = {}
    for path, one in sets:
        if one.category in first:
            problems.append(
                f"{path}: counterfactuals.{one.category}: occurs before, in "
                f"{first[one.category]}; expected each name once."
            )
        first.setdefault(one.category, path)
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(one for _, one in sets)


def expand_pairs(*sets: CounterfactualSet) -> tuple[CounterfactualPair, ...]:
    """Write out every template with every pair of terms.

    Args:
        *sets: Sets.

    Returns:
        Pairs by set, template, term and continuation; ids are unique where categories are.
    """
    return tuple(
        _make_pair(one, template, at, number)
        for one in sets
        for template in one.templates
        for at in range(len(next(iter(one.groups.values()))))
        for number in range(max(1, len(one.continuations)))
    )


def _read_sets(file: ProbeFile, problems: list[str]) -> list[CounterfactualSet]:
    if "counterfactuals" not in file.content:
        return []
    section = file.content["counterfactuals"]
    if not isinstance(section, Mapping) or not section:
        problems.append(f"{file.path}: counterfactuals: expected sets by name, at least one.")
        return []
    sets = []
    for name, fields in section.items():
        where = f"{file.path}: counterfactuals.{name}"
        if not isinstance(fields, Mapping):
            problems.append(f"{where}: found {type(fields).__name__}; expected groups, templates.")
            continue
        if "category" in fields:
            problems.append(f"{where}: category: is the set's name; remove the key.")
            continue
        try:
            values = {"language": file.language, **fields, "category": str(name)}
            sets.append(CounterfactualSet.model_validate(values))
        except ValidationError as error:
            problems += explain(where, error)
    return sets


def _make_pair(
    one: CounterfactualSet, template: CounterfactualTemplate, at: int, number: int
) -> CounterfactualPair:
    continuation = one.continuations[number] if one.continuations else None
    sides = []
    for group, terms in one.groups.items():
        term = terms[at]
        forms = {**one.forms.get(group, {}), "person": term, "Person": term[:1].upper() + term[1:]}
        sides.append(
            PairSide(
                group=group,
                input=_fill(template.template, forms),
                continuation=None if continuation is None else _fill(continuation, forms),
                hit_words=one.hit_words,
            )
        )
    suffix = f"/{number}" if one.continuations else ""
    return CounterfactualPair(
        id=f"{one.category}/{template.id}/{at}{suffix}",
        category=one.category,
        language=one.language,
        template=template.id,
        first=sides[0],
        second=sides[1],
    )


def _fill(text: str, forms: Mapping[str, str]) -> str:
    """Fill all places at once: a term that holds braces is not filled again."""
    return _PLACE.sub(lambda place: forms[place[1]], text)
