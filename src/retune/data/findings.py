"""What the data stages found out about the rows: files beside artifacts, and reports."""

from __future__ import annotations

from retune.recipe.sections.data import FormatName
from retune.records import Record, Side

QUALITY_FILE = "log/quality.json"
DROPPED_FILE = "log/dropped.jsonl"
"""One object per dropped row: source, file, line, reason, row_id where it has one, of a copy what
it repeats; never its text, which may be what it was dropped for."""
BAD_FILE = "log/bad.jsonl"
"""One object per row that could not be read: file (place in the source), line, reason."""
COLUMNS_FILE = "log/columns.json"
LEAKS_FILE = "log/leaks.json"
LEAK_PAIRS_FILE = "log/leaks.jsonl"
"""One object per pair: held_out and copy (row ids), their sides, kind, similarity."""
AUDIT_FILE = "log/audit.json"
LEFT_OUT_FILE = "log/left_out.jsonl"
"""One object per row at fault: row_id, side, fault, and what was found."""


class Lengths(Record):
    """How long something is over all rows."""

    mean: float
    percentiles: dict[str, int]
    """By name: min, p5, p50, p95, p99, max."""
    edges: tuple[int, ...]
    """Edges of the bins of the histogram; one more than there are counts."""
    counts: tuple[int, ...]


class ColumnFinding(Record):
    """What a column of a source holds."""

    name: str
    used_as: str | None
    """Role that it has (question, answer, group ...); None when it is not used."""
    filled: int
    """Rows in which it is neither missing, null nor empty."""
    types: dict[str, int]
    """Rows by JSON type of the value."""
    rewords_question: int = 0
    """Rows in which an unused column of text says the question again in other words: it shares at
    least half of its words with it (three of them at least), and is not the same text."""
    repeats_question: int = 0
    """Rows in which an unused column is the question itself, folded."""


class SourceFinding(Record):
    """What became of the rows of one source."""

    name: str
    format: FormatName
    held_out: bool
    read: int
    """Rows, bad ones among them."""
    bad: int
    kept: int
    dropped: dict[str, int]
    """By reason: bad row, exact duplicate, folded duplicate, near duplicate, conflicting label,
    left out by weight."""
    columns: tuple[ColumnFinding, ...]


class Duplicates(Record):
    """Rows that repeat an earlier row, by how."""

    exact: int
    folded: int
    """Folded ones, exact ones among them."""
    near: int
    """Near ones, folded ones not among them."""
    examples: tuple[tuple[str, str], ...]
    """Pairs of ``file:line``: the copy and what it repeats."""


class QualityReport(Record):
    """What was found in the rows of all sources, before anything was dropped."""

    sources: tuple[SourceFinding, ...]
    read: int
    kept: int
    dropped: dict[str, int]
    characters: dict[str, Lengths]
    """Lengths in characters of question, context and answer."""
    duplicates: Duplicates
    labels: dict[str, int]
    """Rows by label, the most frequent first; empty without labels."""
    conflicting_texts: int
    """Texts (folded) that stand with two labels."""
    conflicting_rows: int
    languages: dict[str, int]
    """Rows by ISO 639-1 code, the most frequent first; `und` where a text is too short to tell."""
    unprintable: dict[str, int]
    """Rows by kind of character."""
    secrets: dict[str, int]
    """Rows by kind of pattern; what matched is never kept."""
    personal_data: dict[str, int]
    seconds: dict[str, float]
    """What each look took."""


class LeakFinding(Record):
    """Rows of one side that rows of another repeat."""

    side: Side
    """The side that is held out from the other."""
    source_side: Side
    rows: int
    """Rows of `side` with at least one copy."""
    of: int
    by_kind: dict[str, int]
    """Rows by closest kind: exact, folded, near, query (same canonical query, same schema)."""
    dropped: int
    """Rows of `source_side` that were dropped for it."""


class LeakReport(Record):
    """What the comparison of the sides found."""

    findings: tuple[LeakFinding, ...]
    pairs: int
    """Pairs written to the file beside; at most some thousand."""
    uncompared: int
    """SQL rows whose query or schema cannot be read, and so are compared by text alone."""


class SideAudit(Record):
    """What the audit of the masks found on one side."""

    rows: int
    """Rows that were looked at: every one."""
    kept: int
    faults: dict[str, int]
    """Rows by fault, by the names of `LimitsConfig`."""
    tokens: int
    target_tokens: int
    prompt_lengths: Lengths | None
    answer_lengths: Lengths | None
    """In tokens; None for a side without rows."""


class AuditReport(Record):
    """What the audit of the masks found."""

    sides: dict[Side, SideAudit]
    examples: dict[str, tuple[str, ...]]
    """By fault a few rows with what was found, such as decoded tokens."""
    max_length: int
    repaired: int
    """Rows whose final channel was put back (harmony)."""
    prompts: tuple[str, ...] = ()
    """How prompts are written, a sentence each."""


class ExampleRow(Record):
    """One row as the model reads it."""

    row_id: str
    pieces: tuple[tuple[str, bool], ...]
    """Decoded stretches of tokens, and whether they carry loss."""
