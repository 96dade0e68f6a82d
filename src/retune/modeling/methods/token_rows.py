"""Rows of the embedding and of the output head that are trained alone: those of a few tokens.

A base model has turn tokens in its vocabulary that only its instruct sibling ever learned. To train
their rows costs a few thousand weights, where both ends as a whole are often a tenth of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peft import PeftModel
from peft.utils.other import TrainableTokensWrapper
from transformers import PreTrainedModel

from retune.data.chats.tokenizers import Tokenizer, load_tokenizer
from retune.errors import ConfigError
from retune.modeling.methods.whole_modules import is_tied, name_of

_FIELD = "method.trainable_tokens"


def name_token_rows(
    model: PreTrainedModel,
    tokenizer: Path | None,
    tokens: Sequence[str] | None,
    whole: Sequence[str] = (),
) -> dict[str, list[int]] | None:
    """Return which rows of which modules are trained, in peft's form.

    Args:
        model: Before it is adapted.
        tokenizer: Folder of its tokenizer.
        tokens: As in the recipe.
        whole: Names of the modules that are trained as a whole.

    Returns:
        Full names of the embedding and, where it has weights of its own, the output head, each with
        the ids of the tokens; None where no tokens are named.

    Raises:
        ConfigError: A token is none of the tokenizer's, or the model has no row for it, or that is
            trained already.
    """
    if not tokens:
        return None
    if tokenizer is None:
        raise ConfigError(f"{_FIELD}: there is no tokenizer to look the tokens up in.")
    loaded, embedding = load_tokenizer(tokenizer), model.get_input_embeddings()
    ids = sorted({find_token(loaded, token) for token in tokens})
    rows = int(embedding.weight.shape[0])
    if ids[-1] >= rows:
        raise ConfigError(
            f"{_FIELD}: {loaded.convert_ids_to_tokens(ids[-1])} has the id {ids[-1]}, but the "
            f"model has {rows} rows of embeddings. Resize them and save the model again."
        )
    names = [name_of(model, embedding)]
    head = model.get_output_embeddings()
    if head is not None and not is_tied(model):
        names.append(name_of(model, head))
    both = [name for name in names if name in whole]
    if both:
        raise ConfigError(
            f"{_FIELD}: {both[0]} is trained as a whole (method.modules_to_save), rows of tokens "
            "included. Leave out one of the two."
        )
    return dict.fromkeys(names, ids)


def show_head_bias(model: PeftModel) -> None:
    """Let a head whose rows are trained have the bias, or none, of the layer under it.

    TRL computes the loss from the head's weight and bias. peft's wrapper gives the former, rows in
    training included, and has no attribute of the latter's name.

    Args:
        model: Adapted; without rows in training nothing is changed.
    """
    head = model.get_base_model().get_output_embeddings()
    if isinstance(head, TrainableTokensWrapper):
        # Past torch's own way of setting it, which would count the bias a second time.
        object.__setattr__(head, "bias", getattr(head.original_module, "bias", None))


def find_token(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a text that is one token.

    Args:
        tokenizer: Loaded.
        token: Its text.

    Raises:
        ConfigError: The tokenizer cuts the text into pieces.
    """
    found = tokenizer.get_vocab().get(token)
    if found is None:
        pieces = tokenizer.tokenize(token)
        raise ConfigError(
            f"{_FIELD}: {token!r} is not one token of the tokenizer, which reads it as "
            f"{len(pieces)} ({', '.join(pieces)}). Name a token of its vocabulary, or add this one "
            "to the tokenizer and a row for it to the model, and save both."
        )
    return int(found)
