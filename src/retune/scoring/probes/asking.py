"""A model that is asked questions of nobody's rows, in its chat template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from retune.data.chats.messages import build_messages
from retune.data.chats.rendering import ChatRenderer, ChatText
from retune.data.chats.tokenizers import load_tokenizer
from retune.data.chats.tokenizing import encode_chats
from retune.inference.generation import Answer, write_answers
from retune.inference.loaded_models import SLOT, LoadedModel
from retune.inference.text_losses import answer_losses
from retune.model_records import ScoredModel
from retune.records import Source
from retune.scoring.stages import ProbeSettings
from retune.spine.stage import Workdir

Ids = Sequence[int]
Progress = Callable[[int, int], None]


class Asked(Protocol):
    """What a stage is given that asks a model."""

    @property
    def model(self) -> ScoredModel:
        """Which model."""

    @property
    def template(self) -> Source | None:
        """Its chat template, where it is not the model's own."""


class Asking:
    """A model that is asked questions in its chat template.

    Args:
        inputs: Model, and the chat template when it is not the model's own.
        settings: System message, length limit, batch size.
        work: Where progress goes.
    """

    def __init__(self, inputs: Asked, settings: ProbeSettings, work: Workdir) -> None:
        self.loaded: LoadedModel = SLOT.get(inputs.model, settings.devices)
        self.tokenizer = self.loaded.tokenizer
        if inputs.template is not None:
            self.tokenizer = load_tokenizer(inputs.model.tokenizer, inputs.template)
        self._system, self._effort = settings.system, settings.reasoning_effort
        self._max_new_tokens = settings.max_new_tokens
        self.batch_size = settings.batch_size
        self._reporter = work.reporter

    def report(self, what: str) -> Progress:
        """Return who is told how far it is."""
        return lambda done, total: self._reporter.progress(what, done, total)

    def encode_prompts(self, questions: Sequence[str]) -> list[list[int]]:
        """Return the token ids of what the model reads before its answer."""
        prompts = self._render(questions)[0]
        ids: list[list[int]] = (
            self.tokenizer(prompts, add_special_tokens=False)["input_ids"] if prompts else []
        )
        return ids

    def encode_continuations(
        self, questions: Sequence[str], continuations: Sequence[str]
    ) -> list[tuple[Ids, Ids]]:
        """Return the token ids of what is given, and of the continuation behind it.

        What the template writes before every answer (an empty thought, a channel's name) is given:
        the continuation is held against other answers, not against that.
        """
        prompts, lead = self._render(questions)
        given, blank = (lead, "") if lead.strip() else ("", lead)
        texts = [
            ChatText(prompt + given, continuation and blank + continuation)
            for prompt, continuation in zip(prompts, continuations, strict=True)
        ]
        return [(one.prompt, one.answer) for one in encode_chats(self.tokenizer, texts)]

    def _render(self, questions: Sequence[str]) -> tuple[list[str], str]:
        renderer = ChatRenderer(self.tokenizer, effort=self._effort)
        messages = [
            build_messages(question=question, system=self._system) for question in questions
        ]
        return [renderer.render_prompt(each) for each in messages], renderer.lead

    def write(self, questions: Sequence[str], what: str) -> list[Answer]:
        """Let the model answer, greedily."""
        return write_answers(
            self.loaded,
            self.encode_prompts(questions),
            max_new_tokens=self._max_new_tokens,
            batch_size=self.batch_size,
            progress=self.report(what),
        )

    def read(self, pairs: Sequence[tuple[Ids, Ids]], what: str) -> list[float]:
        """Return the log-likelihood in nats of each second part after its first."""
        losses = answer_losses(
            self.loaded.model,
            pairs,
            batch_size=self.batch_size,
            pad_id=int(self.tokenizer.pad_token_id),
            progress=self.report(what),
        )
        return [-loss.nll_sum_nats for loss in losses]
