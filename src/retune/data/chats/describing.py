"""How prompts are written, in sentences: what a server of the released model has to do alike."""

from __future__ import annotations

from pathlib import Path

from retune.data.chats.rendering import ChatRenderer
from retune.data.chats.templates import list_switches, name_template
from retune.records import Source


def describe_prompts(
    renderer: ChatRenderer, template: Source | None, folder: Path
) -> tuple[str, ...]:
    """Say how the prompts of a source are written.

    Args:
        renderer: What wrote them.
        template: File of the chat template, when it is not the tokenizer's own.
        folder: The base's snapshot.

    Returns:
        Sentences, the template's name first.
    """
    settings = renderer.template.settings
    named = ", ".join(f"{name}={value}" for name, value in settings.items())
    left = [name for name in list_switches(renderer.template.text) if name not in settings]
    sentences = [
        f"Chat template: {name_template(template, folder)}.",
        "A prompt is what apply_chat_template(messages, add_generation_prompt=True"
        + (f", {named}" if named else "")
        + ") of the released tokenizer gives"
        + (f"; {', '.join(left)} at the template's default." if left else "."),
    ]
    if renderer.lead:
        sentences.append(
            f"Before an answer without thoughts the template writes {renderer.lead!r}, which its "
            "generation prompt does not hold: the model learns to write it."
        )
    return tuple(sentences)


def describe_exceptions(*, folded: int, apart: int) -> tuple[str, ...]:
    """Say in how many rows a prompt or an answer is not what one would expect.

    Args:
        folded: Rows whose system message stands above their first question.
        apart: Rows whose answer is tokenized apart from the prompt.

    Returns:
        A sentence for each that occurs.
    """
    sentences = []
    if folded:
        sentences.append(
            f"In {folded:,} rows the system message stands above the first question, a blank line "
            "between, since the chat template has no place for one: ask a server that way."
        )
    if apart:
        sentences.append(
            f"In {apart:,} rows a token would reach over the end of the prompt, which no server "
            "could ask for: prompt and answer are tokenized apart."
        )
    return tuple(sentences)
