"""Probing a model: it answers fixed cases, and its new text alone is judged."""

from __future__ import annotations

from retune.data.chats.rendering import ChatRenderer, build_messages
from retune.data.tokenizers import load_tokenizer
from retune.digests import digest_folder
from retune.modeling.loading import SLOT
from retune.records import ScoreReport
from retune.requests import ProbeInputs, ProbeSection
from retune.scoring.generation import generate_answers
from retune.scoring.outcomes import write_outcomes
from retune.scoring.probes import judge_probes, load_probes
from retune.stage import Workdir


def probe_model(inputs: ProbeInputs, section: ProbeSection, work: Workdir) -> ScoreReport:
    """Let the model answer every case and judge its words.

    Args:
        inputs: Model, cases, and the chat template when it is not the model's own.
        section: System message, length limit.
        work: `rows.jsonl` with each answer and verdict goes to its artifact folder.

    Returns:
        The metric `probe_pass_rate`, over all categories and for each.

    Raises:
        ConfigError: The file of cases is broken.
    """
    cases = load_probes(inputs.cases.path)
    loaded = SLOT.get(inputs.model)
    system = section.prompt.model_copy(update={"user": "{question}"})
    tokenizer = loaded.tokenizer
    if inputs.template is not None:
        tokenizer = load_tokenizer(inputs.model.tokenizer, inputs.template)
    renderer = ChatRenderer(tokenizer)
    prompts = [
        renderer.render_prompt(build_messages(system, question=case.input)) for case in cases
    ]
    answers = generate_answers(
        loaded,
        tokenizer(prompts, add_special_tokens=False)["input_ids"],
        max_new_tokens=section.probes.max_new_tokens,
        batch_size=section.scoring.runtime.batch_size,
        progress=lambda done, total: work.reporter.progress("cases", done, total),
    )
    scores = judge_probes(cases, answers)
    write_outcomes(
        work.artifact,
        (
            {
                "row_id": outcome.case_id,
                "group": outcome.category,
                "answer": answer,
                "probe_pass_rate": outcome.passed,
                "forbidden_found": list(outcome.found_forbidden),
                "required_missing": list(outcome.missing_required),
            }
            for answer, outcome in zip(answers, scores.outcomes, strict=True)
        ),
    )
    by_category = {f"probe_pass_rate.{name}": rate for name, rate in scores.by_category.items()}
    return ScoreReport(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        metrics={**scores.estimates, **by_category},
        rows=len(cases),
        unscored={},
    )
