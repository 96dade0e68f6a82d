"""The section on a model that judges answers in pairs, and on what it has to show before."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retune.recipe.sections.base import Count, RecipePath, Section, Share, Text, conflict
from retune.recipe.sections.release import GateConfig

JUDGED = "judge_win_rate"
"""The figure that a judge makes."""
JudgeLanguage = Literal["en", "pt"]
Price = Annotated[float, Field(ge=0)]


class JudgeBudget(Section):
    """What one judging may take: the one of people's verdicts, and the one of answers."""

    requests: Count | None = None
    """Most requests, tries that failed among them. null: any number."""

    tokens: Count | None = None
    """Tokens read and written after which nothing more is asked. null: any number."""

    cost: Annotated[float, Field(gt=0)] | None = None
    """Cost, by `prices`, after which nothing more is asked. null: any."""


class JudgePrices(Section):
    """What tokens cost, in any currency."""

    input_per_million: Price
    """A million tokens that the judge reads."""

    output_per_million: Price
    """A million tokens that it writes."""


class JudgeRuntime(Section):
    """What cannot change a verdict; no part of the stage key."""

    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    """Questions under way at once."""

    timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """How long one answer is waited for."""

    attempts: Count = 6
    """Tries of one question where the endpoint fails, is too slow or asks to wait."""

    longest_wait_seconds: Annotated[float, Field(ge=0)] = 120.0
    """Longest wait that the endpoint may ask for (Retry-After); the run ends where it asks for
    more, and goes on from there when it is run again."""


class JudgeConfig(Section):
    """A model that is shown two answers and says which is better."""

    endpoint: (
        Annotated[
            Text, Field(pattern=r"^https?://[^\s?#]+$", examples=["https://api.example.com/v1"])
        ]
        | None
    ) = None
    """Address of an OpenAI-compatible server, up to `/v1`. Its key comes from the environment
    (RETUNE_JUDGE_API_KEY). null: the judge is `local`."""

    model: Text | None = None
    """Name of the judge at the endpoint."""

    revision: Text | None = None
    """What the endpoint has under that name now, such as a date: another revision is asked anew.
    null: the name says it all."""

    local: Text | None = None
    """A model of this machine in place of an endpoint: a folder, or `models:/name@alias`."""

    language: JudgeLanguage = "en"
    """Language of the question that comes with retune: en or pt."""

    prompt: RecipePath | None = None
    """File (.txt) with a question of one's own, with {question}, {answer_a}, {answer_b}, and
    {rubric} where there is one. null: the one that comes with retune."""

    rubric: Text | None = None
    """What makes an answer better, for {rubric}. null: help, truth, what was asked, brevity."""

    human_verdicts: RecipePath | None = None
    """File (.jsonl) of pairs that people have judged: prompt, answer_a, answer_b, verdict (a, b or
    tie). The judge is held against them before anything is trained. null: its figure is shown and
    decides nothing."""

    min_agreement: Share = 0.4
    """Smallest agreement with people beyond chance (Cohen's kappa, lower end of its interval) with
    which the judge's figure may decide, guard or refuse."""

    max_length_bias: Share = 0.15
    """Largest excess over people, as a share of pairs, to which the judge may be shown to choose
    the longer answer."""

    max_new_tokens: Count = 256
    """Most tokens of one judgement."""

    budget: JudgeBudget = Field(default_factory=JudgeBudget)
    """What one judging may take; what was answered until then is kept."""

    prices: JudgePrices | None = None
    """What tokens cost, for reports and `budget.cost`. null: costs are not told."""

    runtime: JudgeRuntime = Field(default_factory=JudgeRuntime)
    """What cannot change a verdict."""

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self.local or self.model)

    @model_validator(mode="after")
    def _is_one_judge(self) -> JudgeConfig:
        found = []
        if (self.endpoint is None) == (self.local is None):
            said = "neither" if self.endpoint is None else "both"
            found.append(("endpoint", f"expected either endpoint or local, found {said}"))
        if self.endpoint is not None and self.model is None:
            found.append(("model", "is null, but an endpoint has several; name the judge"))
        reason = "is a name at an endpoint, but the judge is local; remove it"
        at_endpoint = {"model": self.model, "revision": self.revision}
        if self.local is not None:
            found += [(name, reason) for name, value in at_endpoint.items() if value is not None]
        if self.budget.cost is not None and self.prices is None:
            found.append(("budget.cost", "is set, but nothing says what tokens cost; add prices"))
        if found:
            raise conflict(*found)
        return self


def judge_conflicts(
    judge: JudgeConfig | None, gate: GateConfig, writes_answers: bool
) -> list[tuple[str, str]]:
    """Refuse a judge without answers to judge, and one that decides before people agree with it.

    Args:
        judge: The section; None where there is none.
        gate: May let its figure decide or guard.
        writes_answers: Whether held-out rows are answered in free text.

    Returns:
        Keys at fault, each with the reason.
    """
    found = []
    if judge is not None and not writes_answers:
        reason = "compares answers in free text, which scoring.text_metrics has written"
        found.append(("judge", f"{reason}; name one there, such as chrf, or remove judge"))
    for key in list_judged_keys(gate):
        if judge is None:
            reason = "needs a judge, but the recipe has none; add the section judge"
            found.append((key, f"{reason}, or remove {key}"))
        elif judge.human_verdicts is None:
            reason = "needs a judge that was held against people, but judge.human_verdicts is null"
            found.append((key, f"{reason}; name pairs that people have judged, or remove {key}"))
    return found


def list_judged_keys(gate: GateConfig) -> list[str]:
    """Return the keys by which a gate lets the judge's figure decide or guard."""
    named = {"gate.metric": gate.metric == JUDGED, f"gate.guards.{JUDGED}": JUDGED in gate.guards}
    return [key for key, is_named in named.items() if is_named]
