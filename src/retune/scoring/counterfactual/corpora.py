"""Counterfactual pairs from two public corpora, which do not ship.

WinoBias (uclanlp/corefBias): JSON lines with `pro` and `anti`, one sentence that differs in the
gendered pronoun, the two mentions in square brackets. HONEST (MilaNLProc/honest): a table of
templates with identity terms and `[M]` where a completion goes.
"""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from retune.errors import DataError
from retune.scoring.counterfactual.pairs import CounterfactualPair, PairedTexts, PairSide
from retune.text_files import read_text_file

_BRACKETS = re.compile(r"\[([^\[\]]+)\]")
_HONEST_COLUMNS = ("template_masked", "raw", "identity", "number", "category", "type")


def read_winobias(path: Path, *, language: str = "en", prompt: str = "{sentence}") -> PairedTexts:
    """Read sentences with a stereotypical and an anti-stereotypical pronoun.

    Args:
        path: JSON lines with `pro` and `anti`.
        language: Of the sentences.
        prompt: What the model is asked, with `{sentence}` and, for hits, `{pronoun}`. The hit word
            is the mention that the pronoun refers to, without its article.

    Returns:
        Pairs in the order of the file, `pro` first; each its own template.

    Raises:
        DataError: A line is no such pair; it is named.
    """
    pairs, identical = [], 0
    for number, line in enumerate(_read_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        row = _parse_row(where, line)
        sides = [_winobias_side(where, kind, row[kind], prompt) for kind in ("pro", "anti")]
        identical += row["pro"] == row["anti"]
        if row["pro"] != row["anti"]:
            name = f"{path.stem}/{number}"
            pairs.append(_pair(name, "winobias", language, name, sides))
    return PairedTexts(pairs=tuple(pairs), left_out=_counted(identical=identical))


def read_honest(path: Path, *, language: str, hit_words: Iterable[str] = ()) -> PairedTexts:
    """Read templates with female and male identities, paired by template and position.

    Rows pair where type, number and template (`raw`, white space apart) are the same. Portuguese
    inflects templates (`foi contratada`, `foi contratado`): a template that only one group has
    pairs with the other group's one at the same position, when it has as many words.

    Args:
        path: Tab-separated file with the corpus's six columns.
        language: Of the templates.
        hit_words: An answer that contains one of them is a hit.

    Returns:
        Pairs, by type as category; the input ends before `[M]`.

    Raises:
        DataError: The file is no such table.
    """
    words = tuple(hit_words)
    table: dict[tuple[str, str], dict[str, dict[str, list[dict[str, str]]]]] = {}
    for row in _read_honest_rows(path):
        block = table.setdefault((row["type"], row["number"]), {})
        by_raw = block.setdefault(row["category"], defaultdict(list))
        by_raw[" ".join(row["raw"].split())].append(row)
    pairs: list[CounterfactualPair] = []
    rows = identical = 0
    for (kind, number), block in table.items():
        rows += sum(len(some) for group in block.values() for some in group.values())
        for at, (raw, one, other) in enumerate(_partners(block)):
            if _honest_input(one) == _honest_input(other):
                identical += 1
                continue
            sides = [
                PairSide(group=row["category"], input=_honest_input(row), hit_words=words)
                for row in (one, other)
            ]
            name = f"{kind}/{number}/{at}"
            pairs.append(_pair(name, kind, language, f"{number}/{raw}", sides))
    no_partner = rows - 2 * (len(pairs) + identical)
    return PairedTexts(
        pairs=tuple(pairs), left_out=_counted(identical=identical, no_partner=no_partner)
    )


def _partners(
    block: dict[str, dict[str, list[dict[str, str]]]],
) -> Iterator[tuple[str, dict[str, str], dict[str, str]]]:
    """Yield template, row of the first group (by name) and row of the second."""
    if len(block) != 2:
        return
    first, second = (block[name] for name in sorted(block))
    matched = [(raw, raw) for raw in first if raw in second]
    alone = [
        [raw for raw in one if raw not in other]
        for one, other in ((first, second), (second, first))
    ]
    matched += [
        (one, other)
        for one, other in zip(*alone, strict=False)
        if len(one.split()) == len(other.split())
    ]
    for one, other in matched:
        for rows in zip(first[one], second[other], strict=False):
            yield one, *rows


def _read_honest_rows(path: Path) -> list[dict[str, str]]:
    reader = csv.DictReader(_read_lines(path), delimiter="\t", quoting=csv.QUOTE_NONE)
    found = tuple(reader.fieldnames or ())
    if missing := [name for name in _HONEST_COLUMNS if name not in found]:
        raise DataError(
            f"{path}: found the columns {list(found)}, without {missing}; expected HONEST's table."
        )
    rows = []
    for row in reader:
        if (
            any(row[name] is None for name in _HONEST_COLUMNS)
            or "[M]" not in row["template_masked"]
        ):
            raise DataError(
                f"{path}:{reader.line_num}: found {row!r}; expected all columns and `[M]` in "
                "template_masked."
            )
        rows.append(row)
    return rows


def _honest_input(row: dict[str, str]) -> str:
    return " ".join(row["template_masked"].split("[M]")[0].split())


def _winobias_side(where: str, kind: str, marked: str, prompt: str) -> PairSide:
    mentions = _BRACKETS.findall(marked)
    if len(mentions) < 2:
        raise DataError(
            f"{where}: {kind}: found {len(mentions)} mentions in {marked!r}; expected two, in "
            "square brackets."
        )
    words = mentions[0].split()
    entity = words[1:] if words[0].casefold() in {"the", "a", "an"} else words
    sentence = _BRACKETS.sub(r"\1", marked)
    text = prompt.replace("{pronoun}", mentions[1]).replace("{sentence}", sentence)
    return PairSide(group=kind, input=text, hit_words=(" ".join(entity),))


def _parse_row(where: str, line: str) -> dict[str, str]:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: is not JSON ({error.msg}).") from error
    if not isinstance(row, dict) or not all(
        isinstance(row.get(kind), str) for kind in ("pro", "anti")
    ):
        raise DataError(f"{where}: found {line[:80]!r}; expected an object with `pro` and `anti`.")
    return row


def _read_lines(path: Path) -> list[str]:
    return read_text_file(path).split("\n")


def _pair(
    name: str, category: str, language: str, template: str, sides: list[PairSide]
) -> CounterfactualPair:
    return CounterfactualPair(
        id=name,
        category=category,
        language=language,
        template=template,
        first=sides[0],
        second=sides[1],
    )


def _counted(**counts: int) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}
