"""Loading the rows of one source into one layout; what cannot be read is listed with its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retune.data.findings import BAD_FILE, COLUMNS_FILE
from retune.data.formats.normalising import Layout
from retune.data.formats.schemas import describe_database
from retune.data.reading.column_findings import ColumnCounter
from retune.data.reading.files import RawRow, read_files
from retune.data.reading.hub import read_hub
from retune.data.reading.locating import files_digest, hub_digest, nothing_readable
from retune.data.schemas import DATABASE_SCHEMA, ROW_SCHEMA
from retune.data.stages import LoadInputs
from retune.data.tables import iterate_rows, write_table
from retune.digests import digest_folder
from retune.errors import DataError
from retune.records import LOG_FOLDER, DatasetRef, RowSource
from retune.spine.stage import Workdir

_ROWS_BETWEEN_REPORTS = 2000
_BAD_ROWS_KEPT = 3
_NO_TABLE = (
    "the context has no CREATE TABLE: expected the SQL that makes the row's database "
    "(data.columns.context), or data.databases"
)


def load_rows(inputs: LoadInputs, work: Workdir) -> DatasetRef:
    """Read the rows of one source and bring them to one layout.

    Args:
        inputs: The source, and how its rows are read.
        work: `rows.parquet` and `databases.parquet` go to its artifact folder; what could not be
            read and what the columns hold go to the log folder there.

    Returns:
        Counts and digest.

    Raises:
        ConfigError: The hub has no such dataset, configuration or split.
        DataError: The source changed since it was located, or while it was read; it cannot be
            opened, or has no row that can be read.
    """
    refuse_changed(inputs.source)
    (work.artifact / LOG_FOLDER).mkdir(exist_ok=True)
    loading = _Loading(inputs, work)
    rows = write_table(work.artifact / "rows.parquet", loading.rows(), ROW_SCHEMA)
    if not rows:
        raise DataError(
            nothing_readable(inputs.source, loading.first_bad, "load_rows", loading.bad)
        )
    write_table(work.artifact / "databases.parquet", loading.databases(), DATABASE_SCHEMA)
    loading.write_columns()
    # What was written meanwhile is among the rows, and they would stand under the old key.
    refuse_changed(inputs.source)
    return DatasetRef(
        # With the log: `clean_rows` counts what could not be read, and would be reused with the old
        # count when a bad line comes or goes below all others.
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        format=inputs.format,
        rows=rows,
        bad_rows=loading.bad,
        labels=tuple(sorted(loading.labels)),
        databases=len(loading.database_names),
    )


def refuse_changed(source: RowSource) -> None:
    """Refuse a source whose content is no longer what its digest says.

    Args:
        source: The source as it was located.

    Raises:
        DataError: It changed. The stage's key was made of the digest: other rows must not be
            stored under it.
    """
    if source.hub is None:
        changed = files_digest(source.files) != source.digest
    else:
        changed = source.hub.commit is None and hub_digest(source.hub) != source.digest
    if changed:
        shown = ", ".join(map(str, source.files[:3])) or source.name
        raise DataError(f"{shown}: changed since the run began. Run the recipe again.")


class _Loading:
    """One pass over a source: rows go to the table, all else is counted on the way."""

    def __init__(self, inputs: LoadInputs, work: Workdir) -> None:
        self._inputs, self._work = inputs, work
        folder = inputs.databases.folder if inputs.databases else None
        names = _database_names(folder) if folder else None
        ignore = frozenset(inputs.ignore)
        self._layout = Layout(inputs.format, inputs.columns, inputs.labels, names, ignore)
        self._columns = ColumnCounter(self._layout.uses)
        # Contexts may be as large as the set: they wait on disk until the rows are written.
        self._waiting = work.scratch / "databases.jsonl"
        self.database_names: set[str] = set()
        self.labels: set[str] = set()
        self.bad = 0
        self.first_bad: list[RawRow] = []

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows that can be read."""
        with (
            open(self._work.artifact / BAD_FILE, "w", encoding="utf-8") as bad,
            open(self._waiting, "w", encoding="utf-8") as databases,
        ):
            for raw in self._watched():
                try:
                    yield self._bring(raw, databases)
                except DataError as error:
                    self._note_bad(raw._replace(value=None, reason=str(error)), bad)

    def databases(self) -> Iterator[dict[str, str]]:
        """Yield the databases that the rows brought along."""
        with open(self._waiting, encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)

    def write_columns(self) -> None:
        """Write what the columns hold."""
        findings = [each.model_dump(mode="json") for each in self._columns.findings()]
        text = json.dumps(findings, indent=1, ensure_ascii=False)
        (self._work.artifact / COLUMNS_FILE).write_text(text + "\n", encoding="utf-8")

    def _watched(self) -> Iterator[RawRow]:
        source, most = self._inputs.source, self._inputs.max_rows
        total = sum(file.stat().st_size for file in source.files)
        for number, raw in enumerate(_read(source, self._inputs), start=1):
            yield raw
            if number % _ROWS_BETWEEN_REPORTS == 0:
                # A hub dataset does not say how many rows it has: done of done, so far.
                done = raw.position if source.files else number
                what = "bytes" if source.files else "rows"
                self._work.reporter.progress(what, done, total or number)
            if number == most:
                return

    def _bring(self, raw: RawRow, databases: Any) -> dict[str, Any]:
        if raw.value is None:
            raise DataError(raw.reason)
        question = ""
        try:
            fields, context = self._layout.normalise(raw.value)
            question = fields["question"]
            if context is not None:
                self._keep_database(fields["db_id"], context, databases)
        finally:
            self._columns.add(self._layout.seen(raw.value), question)
        if fields["label"] is not None:
            self.labels.add(fields["label"])
        return {**fields, "file": raw.file, "line": raw.line}

    def _keep_database(self, name: str, context: str, databases: Any) -> None:
        if name in self.database_names:
            return
        entry = describe_database(name, context, absent=_NO_TABLE)
        self.database_names.add(name)
        databases.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def _note_bad(self, raw: RawRow, file: Any) -> None:
        self.bad += 1
        if len(self.first_bad) < _BAD_ROWS_KEPT:
            self.first_bad.append(raw)
        entry = {"file": raw.file, "line": raw.line, "reason": raw.reason}
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _read(source: RowSource, inputs: LoadInputs) -> Iterator[RawRow]:
    if source.hub is None:
        return read_files(source.files, inputs.max_row_bytes, inputs.encoding)
    return read_hub(source.hub, source.name, label_names=inputs.labels is None)


def _database_names(folder: Path) -> frozenset[str]:
    rows = iterate_rows(folder / "databases.parquet", ["db_id"])
    return frozenset(row["db_id"] for row in rows)
