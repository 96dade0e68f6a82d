"""The stage `show_answers`: what a model says to the questions of the recipe, for a person to read.

Greedily, as everything that is scored, and drawn, as people mostly talk to it. Nothing is judged.
"""

from __future__ import annotations

from collections import Counter

from retune.digests import digest_folder
from retune.inference.sampling import draw_answers
from retune.score_records import ScoreReport
from retune.scoring.outcomes import write_outcomes
from retune.scoring.probes.asking import Asking
from retune.scoring.stages import ShowInputs, ShowSettings
from retune.spine.stage import Workdir


def show_answers(inputs: ShowInputs, settings: ShowSettings, work: Workdir) -> ScoreReport:
    """Let the model answer the questions that the recipe shows.

    Args:
        inputs: Model, and the chat template when it is not the model's own.
        settings: Questions, system message, length limit, and how tokens are drawn.
        work: `rows.jsonl` with question and answers goes to its artifact folder; `sampled` is None
            where nothing is drawn.

    Returns:
        No metric. A question over the context has no answer (`prompt_too_long`).
    """
    asking = Asking(inputs, settings, work)
    greedy = asking.write(settings.show, "shown answers")
    drawn = (
        [None] * len(greedy)
        if settings.sampling is None
        else [
            each.text
            for each in draw_answers(
                asking.loaded,
                asking.encode_prompts(settings.show),
                settings.sampling,
                max_new_tokens=settings.max_new_tokens,
            )
        ]
    )
    write_outcomes(
        work.artifact,
        (
            {
                "row_id": str(at),
                "group": None,
                "question": question,
                "greedy": answer.text,
                "sampled": sampled,
                "reason": answer.unscored_reason,
            }
            for at, (question, answer, sampled) in enumerate(
                zip(settings.show, greedy, drawn, strict=True)
            )
        ),
    )
    return ScoreReport(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        metrics={},
        rows=len(greedy),
        unscored=dict(Counter(each.unscored_reason for each in greedy if each.unscored_reason)),
    )
