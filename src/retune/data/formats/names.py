"""Names that keys of rows go by: which of them a layout reads as what.

Names are compared folded: without case, accents, blanks and hyphens, so that `Sentiment`,
`rótulo` and `system-prompt` are found under `sentiment`, `rotulo` and `system_prompt`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from retune.recipe.sections.data import FormatName

Names = dict[str, tuple[str, ...]]

_BETWEEN = re.compile(r"[\s\-]+")

SYSTEM_NAMES = ("system", "system_prompt", "system_message")
HISTORY_NAMES = (
    "history",
    "chat_history",
    "conversation_history",
    "dialog_history",
    "dialogue_history",
    "historico",
)
THINKING_NAMES = (
    "thinking",
    "reasoning_content",
    "reasoning",
    "thought",
    "thoughts",
    "think",
    "cot",
    "complex_cot",
    "chain_of_thought",
    "reasoning_trace",
    "raciocinio",
)
TOOL_NAMES = ("tools", "functions")

_TURNS = ("messages", "turns", "chat", "dialogue", "dialog")
_BESIDE: Names = {"system": SYSTEM_NAMES, "history": HISTORY_NAMES, "thinking": THINKING_NAMES}
_BESIDE_CALLS: Names = {**_BESIDE, "tools": TOOL_NAMES}

LABEL_NAMES = (
    "label",
    "labels",
    "gold_label",
    "label_name",
    "label_text",
    "rotulo",
    "rotulos",
    "etiqueta",
)
"""Names that say themselves that they hold the class: the first goes before all others."""

CLASS_NAMES = (
    "class",
    "classe",
    "category",
    "categoria",
    "sentiment",
    "sentimento",
    "polarity",
    "polaridade",
    "emotion",
    "emocao",
    "intent",
    "intencao",
    "target",
    "alvo",
    "topic",
    "topico",
    "assunto",
    "toxic",
    "toxico",
    "toxicity",
    "toxicidade",
    "is_toxic",
    "offensive",
    "ofensivo",
    "hate",
    "hate_speech",
    "spam",
    "is_spam",
    "stance",
    "rating",
    "stars",
    "estrelas",
    "nota",
    "avaliacao",
)
"""Names that mostly hold the class where they stand beside a text."""

ANSWER_NAMES = (
    "output",
    "response",
    "answer",
    "completion",
    "summary",
    "translation",
    "resposta",
    "resumo",
    "traducao",
)
"""Names that mostly hold what is to be written; beside a plain text they make it a question."""

NAMES: dict[FormatName, Names] = {
    "messages": {"messages": _TURNS, **_BESIDE_CALLS},
    "conversations": {"messages": ("conversations", "conversation", *_TURNS), **_BESIDE_CALLS},
    "instruction": {
        "question": ("instruction", "question"),
        "context": ("input", "context"),
        "answer": ("output", "response", "answer"),
        **_BESIDE_CALLS,
    },
    "prompt_completion": {
        "question": ("prompt",),
        "context": ("input", "context"),
        "answer": ("completion",),
        **_BESIDE_CALLS,
    },
    "text": {"answer": ("text",)},
    "text_label": {
        "question": (
            "text",
            "sentence",
            "sentence1",
            "text1",
            "premise",
            "review",
            "review_text",
            "review_body",
            "tweet",
            "tweet_text",
            "comment",
            "comment_text",
            "content",
            "message",
            "utterance",
            "post",
            "body",
            "texto",
            "frase",
            "sentenca",
            "comentario",
            "mensagem",
            "resenha",
        ),
        "context": ("context", "sentence2", "text2", "text_pair", "hypothesis"),
        "answer": (*LABEL_NAMES, *CLASS_NAMES),
        "system": SYSTEM_NAMES,
        "history": HISTORY_NAMES,
    },
    "text_to_sql": {
        "question": ("sql_prompt", "question"),
        "context": ("sql_context", "context"),
        "answer": ("sql", "query"),
        "database": ("db_id",),
        **_BESIDE,
    },
    "harmony": {"answer": ("text",)},
}
"""Names by role that each layout looks for, the first one that a row has filled; a recipe may state
others."""


@lru_cache(maxsize=4096)
def fold_name(name: str) -> str:
    """Fold a key of a row, so that spellings of one name are equal."""
    plain = unicodedata.normalize("NFKD", name.strip().casefold())
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return _BETWEEN.sub("_", plain)


@lru_cache(maxsize=1024)
def keys_for(names: tuple[str, ...], keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return which keys of a row go by some names, in the order of the names.

    Args:
        names: Folded names.
        keys: Keys of the row.

    Returns:
        The keys as the row writes them, an exact spelling before others.
    """
    found = [key for name in names for key in keys if key == name]
    others = [key for name in names for key in keys if key != name and fold_name(key) == name]
    return tuple(dict.fromkeys((*found, *others)))
