"""Names that keys of rows go by: which of them a layout reads as what.

Names are compared folded: without case, accents, blanks and hyphens, so that `Sentiment`,
`rótulo`, `system-prompt` and `systemPrompt` are found under `sentiment`, `rotulo` and
`system_prompt`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from retune.recipe.sections.data import FormatName

Names = dict[str, tuple[str, ...]]

_BETWEEN = re.compile(r"[\s\-.]+")
_NEXT_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])")
"""Where a word begins in `systemPrompt`, but not in `CoT`."""


def split_names(text: str) -> tuple[str, ...]:
    """Return names that are written in one text, such as `system sys preamble`."""
    return tuple(text.split())


SYSTEM_NAMES = split_names(
    "system system_prompt system_message system_msg system_instruction system_instructions "
    "system_content system_text sys sys_prompt preamble sistema prompt_sistema prompt_de_sistema "
    "mensagem_de_sistema instrucao_de_sistema"
)
HISTORY_NAMES = split_names(
    "history chat_history conversation_history dialog_history dialogue_history message_history "
    "messages_history previous_messages previous_turns past_messages past_turns past_conversation "
    "context_messages historico historico_da_conversa historico_conversa mensagens_anteriores"
)
THINKING_NAMES = split_names(
    "thinking reasoning_content reasoning thought thoughts think cot complex_cot chain_of_thought "
    "reasoning_trace reasoning_text reasoning_steps reasoning_process thinking_content "
    "thinking_trace think_content thought_process scratchpad raciocinio pensamento "
    "cadeia_de_pensamento"
)
TOOL_NAMES = split_names(
    "tools functions available_tools available_functions tool_definitions function_definitions "
    "tool_list tools_list apis api_list ferramentas funcoes"
)

REFERENCE_NAMES = split_names(
    "reference_answers acceptable_answers accepted_answers alternative_answers gold_answers "
    "respostas_de_referencia respostas_aceitas"
)
"""Not `references`, which mostly names sources of a text; a recipe may state it."""

_TURNS = ("messages", "turns", "chat", "dialogue", "dialog")
_BESIDE: Names = {"system": SYSTEM_NAMES, "history": HISTORY_NAMES, "thinking": THINKING_NAMES}
_BESIDE_CALLS: Names = {**_BESIDE, "tools": TOOL_NAMES, "references": REFERENCE_NAMES}

LABEL_NAMES = split_names("label labels gold_label label_name label_text rotulo rotulos etiqueta")
"""Names that say themselves that they hold the class: the first goes before all others."""

CLASS_NAMES = split_names(
    "class classe category categoria sentiment sentimento polarity polaridade emotion emocao "
    "intent intencao target alvo topic topico assunto toxic toxico toxicity toxicidade is_toxic "
    "offensive ofensivo hate hate_speech spam is_spam stance rating stars estrelas nota avaliacao"
)
"""Names that mostly hold the class where they stand beside a text."""

ANSWER_NAMES = split_names(
    "output response answer completion summary translation resposta resumo traducao"
)
"""Names that mostly hold what is to be written; beside a plain text they make it a question."""

CONTEXT_NAMES = ("input", "context", "passage", "contexto", "entrada")

NAMES: dict[FormatName, Names] = {
    "messages": {"messages": _TURNS, **_BESIDE_CALLS},
    "conversations": {"messages": ("conversations", "conversation", *_TURNS), **_BESIDE_CALLS},
    "instruction": {
        "question": ("instruction", "question"),
        "context": CONTEXT_NAMES,
        "answer": ("output", "response", "answer", "answers"),
        **_BESIDE_CALLS,
    },
    "prompt_completion": {
        "question": ("prompt",),
        "context": CONTEXT_NAMES,
        "answer": ("completion",),
        **_BESIDE_CALLS,
    },
    "text": {"answer": ("text",)},
    "text_label": {
        "question": split_names(
            "text sentence sentence1 text1 premise review review_text review_body tweet "
            "tweet_text comment comment_text content message utterance post body texto frase "
            "sentenca comentario mensagem resenha"
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
    words = _NEXT_WORD.sub("_", name.strip())
    plain = unicodedata.normalize("NFKD", words.casefold())
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
