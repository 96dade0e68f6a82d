"""One look at every row: what later steps need is kept as a few numbers per row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retune.data.columns.contract import Columns
from retune.data.quality.languages import LanguageFinder
from retune.data.quality.near import hash_parts
from retune.data.quality.sensitive import (
    PERSONAL_KINDS,
    SECRET_KINDS,
    find_personal_data,
    find_secrets,
)
from retune.data.quality.shingle_sets import ShingleSets
from retune.data.quality.texts import content_hash, fold, row_text, text_hash, written_text
from retune.data.quality.unprintable import KINDS, find_unprintable
from retune.data.tables import ROWS_AT_ONCE, iterate_rows
from retune.records import DatasetRef

MEASURED = ("question", "context", "answer")
_CONTEXTS_REMEMBERED = 256
Row = dict[str, Any]


@dataclass
class Facts:
    """What was found, an array element per row over all sources; no texts."""

    columns: Columns
    """Where the arrays lie."""
    sizes: tuple[int, ...]
    """Rows of each source, which stand one after the other."""
    source: NDArray[np.int32]
    file: NDArray[np.int32]
    line: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    exact: NDArray[np.uint64]
    folded: NDArray[np.uint64]
    content: NDArray[np.uint64]
    label: NDArray[np.int32]
    """Place in `labels`; -1 where a row has none."""
    language: NDArray[np.int32]
    """Place in `languages`."""
    characters: NDArray[np.int32]
    """``(rows, 3)``: lengths of `MEASURED`."""
    unprintable: NDArray[np.uint32]
    """A bit for each of the kinds, as the next two."""
    secrets: NDArray[np.uint32]
    personal: NDArray[np.uint32]
    labels: dict[str, int] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @classmethod
    def of(cls, sizes: Sequence[int], held_out: Sequence[bool], columns: Columns) -> Facts:
        """Make room for the rows of some sources."""
        rows = sum(sizes)
        facts = cls(
            columns=columns,
            sizes=tuple(sizes),
            source=columns.zeros(rows, np.int32),
            file=columns.zeros(rows, np.int32),
            line=columns.zeros(rows, np.int64),
            held_out=columns.zeros(rows, np.bool_),
            label=columns.zeros(rows, np.int32),
            language=columns.zeros(rows, np.int32),
            characters=columns.zeros((rows, len(MEASURED)), np.int32),
            exact=columns.zeros(rows, np.uint64),
            folded=columns.zeros(rows, np.uint64),
            content=columns.zeros(rows, np.uint64),
            unprintable=columns.zeros(rows, np.uint32),
            secrets=columns.zeros(rows, np.uint32),
            personal=columns.zeros(rows, np.uint32),
        )
        ends = np.cumsum(sizes)
        for block in columns.blocks(rows):
            source = np.searchsorted(ends, np.arange(block.start, block.stop), side="right")
            facts.source[block] = source
            facts.held_out[block] = np.asarray(held_out, np.bool_)[source]
        return facts

    def rows_of(self, source: int) -> slice:
        """Return where the rows of a source stand."""
        first = sum(self.sizes[:source])
        return slice(first, first + self.sizes[source])

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Add what a look takes to `seconds`."""
        started = perf_counter()
        yield
        self.seconds[what] += perf_counter() - started

    def __len__(self) -> int:
        return len(self.source)


def look_at_rows(
    sources: Sequence[DatasetRef],
    facts: Facts,
    sets: ShingleSets,
    languages: Sequence[str],
    progress: Callable[[int], None],
) -> None:
    """Fill in what every row says of itself, and its shingles.

    Args:
        sources: Rows, piece by piece.
        facts: Filled here.
        sets: Filled here, in the same order.
        languages: Languages that the recipe names.
        progress: Told how many rows are done.
    """
    finder = LanguageFinder(languages)
    rows = (row for source in sources for row in iterate_rows(source.folder / "rows.parquet"))
    first = 0
    while piece := list(islice(rows, ROWS_AT_ONCE)):
        place = slice(first, first + len(piece))
        with facts.timing("texts and lengths"):
            texts = _look_at_texts(piece, place, facts)
        with facts.timing("shingles and signatures"):
            scopes = [row["db_id"] for row in piece]
            sets.extend(list(map(hash_parts, texts, scopes)))
        with facts.timing("languages"):
            found = (finder.find(row["question"] or row["answer"] or "") for row in piece)
            facts.language[place] = [_code(facts.languages, name) for name in found]
        with facts.timing("unprintable text, secrets, personal data"):
            _look_at_patterns(piece, place, facts)
        first += len(piece)
        facts.columns.release()
        sets.release()
        progress(first)


def _look_at_texts(piece: list[Row], place: slice, facts: Facts) -> list[str]:
    texts = [row_text(row) for row in piece]
    databases = [row["db_id"] for row in piece]
    facts.exact[place] = np.fromiter(map(text_hash, texts, databases), np.uint64)
    facts.folded[place] = np.fromiter(map(text_hash, map(fold, texts), databases), np.uint64)
    facts.content[place] = np.fromiter(map(content_hash, piece), np.uint64)
    facts.file[place] = [row["file"] for row in piece]
    facts.line[place] = [row["line"] for row in piece]
    facts.characters[place] = [[len(row[name] or "") for name in MEASURED] for row in piece]
    named = (row["label"] for row in piece)
    facts.label[place] = [-1 if name is None else _code(facts.labels, name) for name in named]
    return texts


def _look_at_patterns(piece: list[Row], place: slice, facts: Facts) -> None:
    looks = [_merge(_look(written_text(row)), _look_at_context(row["context"])) for row in piece]
    kinds = np.array(looks, dtype=np.uint32)
    facts.unprintable[place], facts.secrets[place], facts.personal[place] = kinds.T


def _look(text: str) -> tuple[int, int, int]:
    return (
        _bits(find_unprintable(text), KINDS),
        _bits(find_secrets(text), SECRET_KINDS),
        _bits(find_personal_data(text), PERSONAL_KINDS),
    )


@lru_cache(maxsize=_CONTEXTS_REMEMBERED)
def _look_at_context(context: str | None) -> tuple[int, int, int]:
    # Many rows ask about one context, which is often far longer than they are.
    return _look(context) if context else (0, 0, 0)


def _merge(a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[int, int, int]:
    return a[0] | b[0], a[1] | b[1], a[2] | b[2]


def _bits(found: frozenset[str], kinds: Sequence[str]) -> int:
    return sum(1 << place for place, kind in enumerate(kinds) if kind in found) if found else 0


def _code(codes: dict[str, int], name: str) -> int:
    return codes.setdefault(name, len(codes))
