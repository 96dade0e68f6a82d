"""What the data stages made of a recipe's rows, together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retune.records import ChatRef, CleanRef, DatasetRef, PairsRef, SplitRef


@dataclass(frozen=True)
class PreparedData:
    """Rows from their sources to chats by side.

    Attributes:
        rows: Each source in one layout.
        clean: The rows that are kept.
        split: The kept rows by side, without leaks where the recipe drops them.
        chat: The sides as chats.
        pairs: Pairs of answers to learn preferences from; None where the recipe names none.
        earlier: What the champion's rows were (`HISTORY_SCHEMA`); None where none is known.
    """

    rows: tuple[DatasetRef, ...]
    clean: CleanRef
    split: SplitRef
    chat: ChatRef
    pairs: PairsRef | None = None
    earlier: Path | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of all classes, sorted; empty where rows have none."""
        return tuple(sorted({label for source in self.rows for label in source.labels}))
