"""Chat templates of many families, and the tiny tokenizer in their dress.

Written by hand after what the families' own templates write; TRL ships some of the originals, which
are read from its package.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from retune.data.chats.encoding import RowEncoder
from retune.data.chats.templates import SHIPPED_TEMPLATES, locate_shipped, read_template
from retune.data.stages import EncodeSettings
from tests.making import settings_of
from tests.tiny_models import TOKENIZER

_TAG = re.compile(r"<\|[\w▁-]+\|>|<｜[\w▁]+｜>|</?[a-z]+(?:_[a-z]+)*>|\[/?[A-Z_]+\]")
_ENDS = (
    "<|im_end|>",
    "<end_of_turn>",
    "<|eot_id|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>",
    "<turn|>",
    "<|observation|>",
    "</s>",
)
"""Tokens that end an answer in one family or another."""
_BY_LISTS_OF_PARTS = ("idefics3", "llava_next", "smolvlm")
"""For pictures: they read content as a list of parts, which is no text."""

_NO_SYSTEM = (
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
)
WRITTEN = {
    "llama2": "{% for m in messages %}"
    "{% if m.role == 'system' %}<<SYS>>\n{{ m.content }}\n<</SYS>>\n\n"
    "{% elif m.role == 'user' %}{{ bos_token }}[INST] {{ m.content.strip() }} [/INST]"
    "{% else %} {{ m.content.strip() }} {{ eos_token }}{% endif %}{% endfor %}",
    "mistral": "{{ bos_token }}{% for m in messages %}" + _NO_SYSTEM + "{% if m.role == 'user' %}"
    "[INST] {{ m.content }} [/INST]{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
    "gemma2": "{{ bos_token }}{% for m in messages %}" + _NO_SYSTEM + "<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    "chatml": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "phi": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "deepseek": "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}"
    "<｜User｜>{{ m.content }}{% else %}<｜Assistant｜>{{ m.content.split('</think>')[-1] }}"
    "<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}",
    "drops_system": "{% for m in messages %}{% if m.role == 'user' %}U: {{ m.content }}\n"
    "{% elif m.role == 'assistant' %}A: {{ m.content }}{{ eos_token }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}A: {% endif %}",
    "no_end": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}",
    "blank_before": "{% for m in messages %}{{ m.role }}:{{ ' ' }}{{ m.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
    "lines_before": "{% for m in messages %}{{ m.role }}:\n\n{{ m.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}",
}


@cache
def all_templates() -> dict[str, str]:
    """Return the text of every template by its name."""
    import trl

    folder = Path(trl.__file__).parent / "chat_templates"
    from_trl = {
        f"trl_{path.stem}": path.read_text("utf-8")
        for path in sorted(folder.glob("*.jinja"))
        if not path.stem.startswith(_BY_LISTS_OF_PARTS)
    }
    shipped = {name: read_template(locate_shipped(name)) for name in SHIPPED_TEMPLATES}
    return {**WRITTEN, **shipped, **from_trl}


def dress(name: str) -> tuple[Any, list[str]]:
    """Return the tiny tokenizer with a template and its marks as tokens, and its end tokens."""
    from transformers import AutoTokenizer

    text = all_templates()[name]
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    ends = [end for end in _ENDS if end in text]
    if "gptoss" in name:
        ends.remove("<|end|>")  # which ends a message, and no answer
    tokenizer.add_tokens([*dict.fromkeys(_TAG.findall(text)), *ends, "<s>"])
    tokenizer.bos_token = "<s>"
    tokenizer.chat_template = text
    own = [] if ends and "eos_token" not in text else [tokenizer.eos_token]
    return tokenizer, list(dict.fromkeys([*own, *ends]))


def make_encoder(name: str, **prompt: Any) -> RowEncoder:
    """Return what writes rows by a template."""
    from retune.data.chats.databases import SchemaLookup

    tokenizer, ends = dress(name)
    ids = [tokenizer.convert_tokens_to_ids(end) for end in ends]
    return RowEncoder(
        tokenizer, ids, settings_of(EncodeSettings, prompt=prompt), schemas=SchemaLookup([])
    )


def learned_text(encoder: RowEncoder, row: dict[str, Any]) -> list[str]:
    """Decode the stretches of a row that carry loss."""
    from retune.data.chats.masks import find_stretches

    ids = [*row["prompt_ids"], *row["answer_ids"]]
    mask = row["loss_mask"]
    if mask is None:
        mask = [False] * len(row["prompt_ids"]) + [True] * len(row["answer_ids"])
    return [
        encoder.tokenizer.decode(ids[begin:end]) for begin, end, on in find_stretches(mask) if on
    ]
