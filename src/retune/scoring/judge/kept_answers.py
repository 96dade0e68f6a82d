"""What a judge has answered, kept by what it was asked, so that nothing is paid for twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from retune.digests import digest_json
from retune.records import Record
from retune.whole_files import replacing

ANSWERS_FOLDER = "judge_answers"
"""Name of the folder of kept answers: in a store, and in what stages are told."""
REFUSED = "refused"
"""Why a question has no answer that was sent, and that the judge would not have."""
BUDGET_SPENT = "budget_spent"
"""Why a question was not sent."""
_FANNED = 2


class Said(Record):
    """What became of one question.

    Attributes:
        text: What the judge wrote; None where it wrote nothing.
        reason: Why there is no text.
        detail: What the endpoint said of that.
        input_tokens: That were read for it.
        output_tokens: That were written.
    """

    text: str | None
    reason: str | None = None
    detail: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


class KeptAnswers:
    """A folder of answers.

    Args:
        folder: Where they lie.
        judge: All that an answer depends on beside the question: model, settings.
    """

    def __init__(self, folder: Path, judge: Mapping[str, Any]) -> None:
        self._folder, self._judge = folder, dict(judge)

    def find(self, question: str) -> Said | None:
        """Return a kept answer; None where there is none, or its file is damaged."""
        try:
            return Said.model_validate_json(self._place(question).read_bytes())
        except (OSError, ValidationError):
            return None

    def keep(self, question: str, said: Said) -> None:
        """Keep an answer.

        Raises:
            OSError: The disk does not take it.
        """
        with replacing(self._place(question)) as part:
            part.write_text(json.dumps(said.model_dump()), "utf-8")

    def _place(self, question: str) -> Path:
        name = digest_json({"judge": self._judge, "question": question})
        return self._folder / name[:_FANNED] / f"{name}.json"
