"""Stage `compare_requests`: lengths, tokens and classes of requests against the training rows."""

from __future__ import annotations

from collections.abc import Sequence

from retune.data.chats.tokenizers import Tokenizer, load_tokenizer
from retune.data.chats.tokenizing import tokenize
from retune.digests import digest_folder
from retune.retraining.drift_records import DriftReport
from retune.retraining.indices import Asked, count_all
from retune.retraining.known_rows import KnownRow, draw_rows, find_trained
from retune.retraining.requests import Prompt, write_prompts
from retune.retraining.stability import ERROR
from retune.retraining.stages import CompareInputs, CompareSettings
from retune.spine.stage import Workdir

REPORT_FILE = "drift.json"
MOST_ROWS = 10_000
"""Training rows that are enough to know how they are distributed."""


def compare_requests(
    inputs: CompareInputs, settings: CompareSettings, work: Workdir
) -> DriftReport:
    """Compare served requests with the rows that the champion was trained on.

    Args:
        inputs: Both, and the tokenizer.
        settings: The recipe's system message, the fewest requests that anything is concluded from,
            the seed, and whether losses may be asked for as well.
        work: `drift.json` goes to its artifact folder.

    Returns:
        The indices; none where the chat template can write fewer requests than are needed.

    Raises:
        ConfigError: The tokenizer cannot be used.
    """
    tokenizer = load_tokenizer(inputs.base.folder, inputs.template)
    prompts = write_prompts(inputs.requests, tokenizer, inputs.view, settings.system)
    trained = find_trained(inputs.split, inputs.history.path if inputs.history else None)
    rows = draw_rows(inputs.rows, inputs.view, MOST_ROWS, settings.seed, trained)
    counts = []
    if len(prompts) >= settings.min_rows:
        counts = count_all(
            _as_asked(tokenizer, rows),
            _as_asked(tokenizer, prompts),
            least_labelled=settings.min_rows,
            show_token=lambda token: str(tokenizer.decode([token])),
        )
    # The losses are asked for only where nothing here fires, but the chance of error is for all.
    level = ERROR / max(1, len(counts) + settings.loss)
    report = DriftReport(
        digest="",
        folder=work.artifact,
        requests=len(prompts),
        unwritten=inputs.requests.rows - len(prompts),
        rows=len(rows),
        level=level,
        indices=tuple(each.as_index(level, settings.seed) for each in counts),
    )
    text = report.model_dump_json(indent=1, exclude={"digest", "folder"})
    (work.artifact / REPORT_FILE).write_text(text + "\n", "utf-8")
    return report.model_copy(update={"digest": digest_folder(work.artifact)})


def _as_asked(tokenizer: Tokenizer, prompts: Sequence[KnownRow | Prompt]) -> list[Asked]:
    found = tokenize(tokenizer, [each.text for each in prompts])
    return [
        Asked(len(each.text), ids, each.label, each.group if isinstance(each, KnownRow) else None)
        for each, (ids, _) in zip(prompts, found, strict=True)
    ]
