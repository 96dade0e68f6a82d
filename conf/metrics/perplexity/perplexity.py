"""Perplexity of answers, as an `evaluate` module; README.md beside it says how it is computed."""

import datasets
import evaluate

from retune.data.chats.messages import build_messages
from retune.data.chats.rendering import ChatRenderer
from retune.data.chats.tokenizing import encode_chats
from retune.inference.loaded_models import load_scored_model
from retune.inference.text_losses import answer_losses
from retune.resolving import resolve_model
from retune.scoring.perplexity import perplexity

_TEXT = datasets.Value("string")


class Perplexity(evaluate.Metric):
    """How surprised a model is by the right answers, each behind its question."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="exp of the mean loss of the answers' tokens, given their questions.",
            citation="",
            inputs_description=(
                "predictions: answers; prompts: what the user says before each; model_id: a "
                "folder, models:/NAME@alias, or an id of the hub"
            ),
            features=datasets.Features({"predictions": _TEXT, "prompts": _TEXT}),
        )

    def _compute(
        self,
        predictions: list[str],
        prompts: list[str],
        model_id: str,
        system: str | None = None,
        batch_size: int = 8,
        tracking_uri: str = "",
    ) -> dict[str, float]:
        loaded = load_scored_model(resolve_model(model_id, None, tracking_uri).scored)
        tokenizer = loaded.tokenizer
        ends = [str(tokenizer.convert_ids_to_tokens(token)) for token in loaded.end_ids]
        renderer = ChatRenderer(tokenizer, ends)
        chats = [
            renderer.render_chat(build_messages(question=question, system=system), answer)
            for question, answer in zip(prompts, predictions, strict=True)
        ]
        losses = answer_losses(
            loaded.model,
            [(ids.prompt, ids.answer) for ids in encode_chats(tokenizer, chats)],
            batch_size=batch_size,
            pad_id=int(tokenizer.pad_token_id or 0),
        )
        return {"perplexity": perplexity(losses)}
