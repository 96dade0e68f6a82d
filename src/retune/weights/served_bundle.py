"""What MLflow loads for a bundle: weights with their adapter, answering prompts.

MLflow finds `_load_pyfunc` by name. This module imports no mlflow, and nothing that serving does
not need.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from retune.inference.batching import pad_sequences
from retune.inference.generation import generate_answers, read_answer
from retune.inference.loaded_models import LoadedModel, load_scored_model
from retune.model_records import ScoredModel, locate_bundle

_DEFAULTS: dict[str, Any] = {
    "max_new_tokens": 256,
    "do_sample": False,
    "return_full_text": False,
    "add_special_tokens": False,
}


class ServedBundle:
    """Answers prompts by the signature of the transformers flavour, greedily as it was scored.

    Args:
        loaded: Model and tokenizer.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    def get_raw_model(self) -> LoadedModel:
        """Return model and tokenizer, as `PyFuncModel.get_raw_model` hands them out."""
        return self._loaded

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[Any]:
        """Continue prompts, or name their classes where the model has a head.

        Args:
            model_input: A list of texts, or a table with them in its first column.
            params: `max_new_tokens`, `do_sample`, `return_full_text`, `add_special_tokens`.

        Returns:
            One text per prompt; of a head, a dictionary with `label` and `score`.
        """
        settings = {**_DEFAULTS, **(params or {})}
        if self._loaded.labels is not None:
            return [self._classify(prompt, settings) for prompt in _read_prompts(model_input)]
        return [self._continue(prompt, settings) for prompt in _read_prompts(model_input)]

    def _classify(self, prompt: str, settings: Mapping[str, Any]) -> dict[str, str | float]:
        from retune.inference.head_predictions import predict_by_head

        labels = self._loaded.labels or ()
        ids = self._read(prompt, settings)
        found = predict_by_head(self._loaded, [ids], labels, batch_size=1).probabilities[0]
        place = int(found.argmax())
        return {"label": labels[place], "score": float(found[place])}

    def _read(self, prompt: str, settings: Mapping[str, Any]) -> list[int]:
        special = bool(settings["add_special_tokens"])
        ids: list[int] = self._loaded.tokenizer(prompt, add_special_tokens=special)["input_ids"]
        return ids

    def _continue(self, prompt: str, settings: Mapping[str, Any]) -> str:
        ids = self._read(prompt, settings)
        write = self._sample if settings["do_sample"] else self._write
        text = write(ids, int(settings["max_new_tokens"]))
        return prompt + text if settings["return_full_text"] else text

    def _write(self, ids: list[int], max_new_tokens: int) -> str:
        # As scorers do, one prompt at a time: a neighbour changes the last digits of its logits.
        return generate_answers(self._loaded, [ids], max_new_tokens=max_new_tokens, batch_size=1)[0]

    def _sample(self, ids: list[int], max_new_tokens: int) -> str:
        model, tokenizer = self._loaded.model, self._loaded.tokenizer
        input_ids, mask = pad_sequences([ids], int(tokenizer.pad_token_id), "left")
        with torch.inference_mode():
            written = model.generate(
                input_ids=input_ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=True,
                eos_token_id=self._loaded.end_ids,
                pad_token_id=int(tokenizer.pad_token_id),
            )
        new = written[0, input_ids.shape[1] :].tolist()
        return read_answer(tokenizer, self._loaded.end_ids, new).text or ""


def _read_prompts(model_input: Any) -> list[str]:
    if hasattr(model_input, "iloc") and getattr(model_input, "ndim", 1) > 1:
        model_input = model_input.iloc[:, 0]
    texts = [model_input] if isinstance(model_input, str) else list(model_input)
    return [str(text) for text in texts]


def _load_pyfunc(path: str) -> ServedBundle:
    weights, adapter = locate_bundle(Path(path))
    # Known by its place: what it holds is not asked for here.
    scored = ScoredModel(digest=path, weights=weights, tokenizer=weights, adapter=adapter)
    return ServedBundle(load_scored_model(scored))
