"""The tokenizer of the tiny base: byte-level BPE over the generator's own text."""

import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from generator.lexicon_pt import TEST_LEXICON, TRAIN_LEXICON
from generator.queries import draw_query, render_sql
from generator.questions_en import ask_in_english
from generator.questions_pt import ask_in_portuguese
from generator.schemas import Shape, draw_schema
from generator.stream import draw_conversation

PAD, USER, ASSISTANT, SYSTEM, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"

# The generation marks tell which tokens are the assistant's; the end token is one of them, because
# a model that is not trained to stop does not stop.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + eos_token -}}{%- endgeneration -%}"
    "{%- else -%}{{- message['content'] + eos_token -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)

_CONVERSATIONS = 12_000
_MORE_QUESTIONS = 10_000
_LEVELS = (1.0, 1.0, 1.0)
_LONGEST_INPUT = 1024


def train_tokenizer(folder: Path, *, vocabulary_size: int, seed: int) -> None:
    """Train the tokenizer and save it with its chat template.

    Args:
        folder: Where to save; made if absent.
        vocabulary_size: Number of tokens with the special ones.
        seed: Seed of the text it is trained on.
    """
    tokenizer = Tokenizer(models.BPE())
    # Single digits: 4821 is then spelled the same way wherever it stands.
    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[PAD, END, USER, ASSISTANT, SYSTEM],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        model_max_length=_LONGEST_INPUT,
        # Batched generation needs the answers to begin in one column; trainers pad by themselves.
        padding_side="left",
        # Otherwise decoding removes the blank before a comma, and SQL values change.
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load a saved tokenizer.

    Args:
        folder: Where ``train_tokenizer`` saved it.

    Returns:
        The tokenizer with its chat template.
    """
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer


def _texts(seed: int) -> Iterator[str]:
    rng = random.Random(f"tokenizer-{seed}")
    for _ in range(_CONVERSATIONS):
        for turn in draw_conversation(rng, progress=1.0):
            yield turn.user
            yield turn.assistant
    for _ in range(_MORE_QUESTIONS):
        schema = draw_schema(rng, TRAIN_LEXICON, Shape(), key_first=True)
        yield ask_in_portuguese(rng, draw_query(rng, schema, _LEVELS))
        # Names of the test half in English questions, as in the stream.
        schema = draw_schema(rng, TEST_LEXICON, Shape(), key_first=True)
        query = draw_query(rng, schema, _LEVELS)
        yield f"{schema.prompt}\n{ask_in_english(rng, query)}\n{render_sql(query, schema)}"
