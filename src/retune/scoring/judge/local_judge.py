"""A judge on this machine: a loaded model that answers greedily in its own chat template."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from retune.data.chats.rendering import ChatRenderer
from retune.inference.generation import write_answers
from retune.inference.loaded_models import SLOT
from retune.model_records import ScoredModel
from retune.recipe.sections.base import Devices
from retune.scoring.judge.kept_answers import Said
from retune.scoring.judge.spending import Purse

_BATCHES_AT_ONCE = 8
"""Answers are kept after so many batches: an interruption loses no more."""


class LocalJudge:
    """Asks a model of this machine.

    Args:
        model: Where its parts lie.
        max_new_tokens: Most tokens of an answer.
        batch_size: Questions that go through it at once.
        devices: How many share the work.
        purse: Counts what it reads and writes.
    """

    def __init__(
        self,
        model: ScoredModel,
        *,
        max_new_tokens: int,
        batch_size: int,
        devices: Devices,
        purse: Purse,
    ) -> None:
        self._model, self._devices, self._purse = model, devices, purse
        self._max_new_tokens, self._batch_size = max_new_tokens, batch_size

    def answer(self, questions: Sequence[str], told: Callable[[int, Said], None]) -> None:
        """Ask questions, in batches.

        Args:
            questions: Each once.
            told: Is told each answer with the place of its question.

        Raises:
            ConfigError: The model cannot be loaded.
        """
        loaded = SLOT.get(self._model, self._devices)
        renderer = ChatRenderer(loaded.tokenizer)
        asked = [renderer.render_prompt([{"role": "user", "content": one}]) for one in questions]
        prompts: list[list[int]] = loaded.tokenizer(asked, add_special_tokens=False)["input_ids"]
        step = self._batch_size * _BATCHES_AT_ONCE
        for start in range(0, len(prompts), step):
            part = prompts[start : start + step]
            answers = write_answers(
                loaded, part, max_new_tokens=self._max_new_tokens, batch_size=self._batch_size
            )
            for at, (ids, answer) in enumerate(zip(part, answers, strict=True), start=start):
                said = Said(
                    text=answer.text,
                    reason=answer.unscored_reason,
                    input_tokens=len(ids),
                    output_tokens=answer.tokens,
                )
                self._purse.add_tokens(said.input_tokens, said.output_tokens)
                told(at, said)
