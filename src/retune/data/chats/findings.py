"""What the audit finds on one side: counts, the first rows at fault, and what stood in them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import IO, Any

import numpy as np
import pyarrow as pa

from retune.data.chats.auditing import FAULTS, LEFT_OUT, AuditRules, Row, audit_row
from retune.data.findings import Lengths, SideAudit
from retune.data.quality.lengths import count_lengths, even_edges, measure_counts
from retune.errors import DataError
from retune.records import Side

FIRST = 5
EXAMPLES = 5
_TEXT_COLUMNS = [
    "row_id",
    "question",
    "context",
    "history",
    "steps",
    "learned",
    "answer",
    "db_id",
    "prompt",
    "fault",
]
_TARGET_TOKENS = 48
_REMEDIES = {
    "cut_targets": "are longer than prompt.max_length = {max_length} tokens, which would cut their "
    "targets. Raise prompt.max_length, or shorten the rows",
    "no_end": "have no end token at the end of their target, or one in its middle. Look at the "
    "chat template, the tokenizer's eos_token and prompt.loss_on",
    "no_target": "have no token that carries loss. Look at prompt.loss_on and the marks of the "
    "chat template",
    "malformed_chats": "cannot be written as a chat. Look at prompt.template, and at the rows",
}


class SideFindings:
    """What is found on one side, row by row.

    Args:
        side: Its name.
        listed: Open file that rows at fault are listed in.
    """

    def __init__(self, side: Side, listed: IO[str]) -> None:
        self.side, self._listed = side, listed
        self.rows = self.kept = 0
        self.tokens = self.target_tokens = self.longest = 0
        self.faults: Counter[str] = Counter()
        self.first: dict[str, list[str]] = {name: [] for name in FAULTS}
        self.examples: dict[str, list[str]] = {}
        self.used: set[str] = set()
        self._prompts: Counter[int] = Counter()
        self._answers: Counter[int] = Counter()
        self._shortest, self._longest = sys.maxsize, 0

    def audit(self, table: pa.Table, rules: AuditRules) -> np.ndarray:
        """Look at every row of a piece.

        Args:
            table: Gathered rows.
            rules: What they are held against.

        Returns:
            Which rows are kept, ``(rows,)``.
        """
        prompts, answers, masks = (
            as_arrays(table[name]) for name in ("prompt_ids", "answer_ids", "loss_mask")
        )
        kept = np.ones(len(table), dtype=bool)
        for place, row in enumerate(table.select(_TEXT_COLUMNS).to_pylist()):
            prompt, answer, mask = prompts[place], answers[place], masks[place]
            if prompt is None or answer is None:
                raise DataError(f"row {row['row_id']}: has no token ids in the encoded table.")
            found = audit_row(row, prompt, answer, mask, rules)
            kept[place] = not LEFT_OUT & set(found)
            self._note(row, found, kept=bool(kept[place]))
            if kept[place]:
                self._count(row, prompt, answer, mask, rules)
        self.rows += len(table)
        asked, said = (
            table[name].combine_chunks().value_lengths().to_numpy()
            for name in ("prompt_ids", "answer_ids")
        )
        self._prompts.update(count_lengths([asked]))
        self._answers.update(count_lengths([said]))
        if len(table):
            self._shortest = min(self._shortest, int((asked + said).min()))
            self._longest = max(self._longest, int((asked + said).max()))
        return kept

    def _note(self, row: Row, found: dict[str, dict[str, Any]], *, kept: bool) -> None:
        for name, what in found.items():
            self.faults[name] += 1
            if len(self.first[name]) < FIRST:
                self.first[name].append(str(row["row_id"]))
                shown = ", ".join(f"{key} {value!r}" for key, value in what.items())
                self.examples.setdefault(name, []).append(f"{row['row_id']}: {shown}")
            line = {"row_id": row["row_id"], "side": self.side, "fault": name, "kept": kept, **what}
            self._listed.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _count(
        self,
        row: Row,
        prompt: np.ndarray,
        answer: np.ndarray,
        mask: np.ndarray | None,
        rules: AuditRules,
    ) -> None:
        length = len(prompt) + len(answer)
        self.kept += 1
        self.tokens += length
        self.target_tokens += len(answer) if mask is None else int(mask.sum())
        self.longest = max(self.longest, length)
        if row["db_id"]:
            self.used.add(row["db_id"])
        targets = self.examples.setdefault("targets", [])
        if len(targets) < EXAMPLES:
            ids = np.concatenate([prompt, answer])
            learned = answer if mask is None else ids[mask]
            text = rules.decode(learned[:_TARGET_TOKENS].tolist())
            targets.append(f"{row['row_id']}: {text}")

    def refuse_empty(self, max_length: int) -> None:
        """Stop when no row is left.

        Args:
            max_length: Of a row; for the message.

        Raises:
            DataError: No row of the side can be used; says why.
        """
        if self.kept:
            return
        if not self.rows:
            raise DataError(f"{self.side}: the side has no rows.")
        name = max(_REMEDIES, key=lambda fault: self.faults[fault])
        text = _REMEDIES[name].format(max_length=max_length)
        example = self.examples.get(name, [""])[0]
        raise DataError(
            f"{self.side}: none of its {self.rows} rows is left. {self.faults[name]} of them "
            f"{text}. Rows have {self._shortest} to {self._longest} tokens. "
            f"For example row {example:.300}"
        )

    def as_audit(self) -> SideAudit:
        """Return the findings as they stand in the report."""
        return SideAudit(
            rows=self.rows,
            kept=self.kept,
            faults={name: self.faults[name] for name in FAULTS},
            tokens=self.tokens,
            target_tokens=self.target_tokens,
            prompt_lengths=_spread(self._prompts),
            answer_lengths=_spread(self._answers),
        )


def _spread(lengths: Counter[int]) -> Lengths | None:
    return measure_counts(lengths, even_edges(np.array([*lengths]))) if lengths else None


def as_arrays(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    """Return a list column's rows as views of one array; None for null."""
    lists = column.combine_chunks()
    flat = lists.values.to_numpy(zero_copy_only=False)
    offsets = lists.offsets.to_numpy()
    valid = lists.is_valid().to_numpy(zero_copy_only=False)
    return [
        flat[offsets[place] : offsets[place + 1]] if valid[place] else None
        for place in range(len(lists))
    ]
