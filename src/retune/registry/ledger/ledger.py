"""The ledger of a registered model: what was decided about it, by whom and why.

MLflow keeps neither the old value of an alias nor who moved it. A ledger is a line for each
promotion, rejection, skip, failure, rollback, approval, expiry and withdrawal, and for each version
that a server does not answer with; it is never changed, and each line holds the digest of the one
before. It stands in two places: a file of the store, and
tags of the registered model, which every machine reads. What one of them lacks is written anew from
the other; a line that was changed is an error that names it. Lines that were taken off the end in
both places do not show.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from retune.registry.ledger.lines import Lines, join_lines, make_line, write_line
from retune.registry.ledger.locking import hold_model
from retune.registry.ledger.places import LedgerFile, LedgerTags
from retune.registry.mlflow_calls import as_service_error
from retune.registry.records import LedgerEntry
from retune.tracking import connect, shown_uri

LEDGERS = "ledger"
"""Folder of ledgers in a store."""


class Ledger:
    """The ledger of one registered model.

    Args:
        uri: Address of MLflow.
        model_name: The registered model; it is made with the first line where there is none.
        folder: The store's folder of ledgers.
    """

    def __init__(self, uri: str, model_name: str, folder: Path) -> None:
        self._uri, self._name = uri, model_name
        self._client = connect(uri)
        self._file = LedgerFile(folder / f"{model_name}.jsonl")
        self._tags = LedgerTags(self._client, model_name)

    def entries(self) -> tuple[LedgerEntry, ...]:
        """Return all lines in order, the chain followed.

        Raises:
            ArtifactError: The chain does not hold, or the file cannot be read or written.
            ServiceError: MLflow does not answer.
        """
        with as_service_error(self._uri):
            found, whole = self._read()
            if whole:
                return found
            with hold_model(self._client, self._name):
                return self._healed(with_tags=False)

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        """Write a line behind the others, one writer at a time.

        Args:
            entry: What happened; its number, previous and digest are filled in.

        Returns:
            The line as it stands.

        Raises:
            ArtifactError: The chain does not hold, or the file cannot be written.
            ServiceError: MLflow does not answer.
        """
        with as_service_error(self._uri), hold_model(self._client, self._name):
            before = self._healed(with_tags=True)
            line = make_line(entry, before[-1] if before else None)
            # First where all machines read it: what a crash keeps from the file heals.
            self._tags.add(line.number, write_line(line))
            self._file.add(write_line(line))
            return line

    def _read(self) -> tuple[tuple[LedgerEntry, ...], bool]:
        file, damaged = self._file.read()
        tags = self._tags.read()
        # A registered model that a person deleted is not made again by who reads.
        whole = not damaged and (tags is None or file.keys() == tags.keys())
        return self._joined(file, tags or {}), whole

    def _healed(self, *, with_tags: bool) -> tuple[LedgerEntry, ...]:
        file, damaged = self._file.read()
        found_tags = self._tags.read()
        tags = found_tags or {}
        entries = self._joined(file, tags)
        if damaged or file.keys() < {entry.number for entry in entries}:
            self._file.replace({**tags, **file}, damaged=damaged)
        if with_tags or found_tags is not None:
            for number in sorted(file.keys() - tags.keys()):
                self._tags.add(number, file[number])
        return entries

    def _joined(self, file: Lines, tags: Lines) -> tuple[LedgerEntry, ...]:
        return join_lines(
            {
                str(self._file.path): file,
                f"the tags of {self._name} in MLflow at {shown_uri(self._uri)}": tags,
            }
        )


def say_now() -> str:
    """Return the date and time, UTC, as ledgers write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
