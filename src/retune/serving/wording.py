"""A question in the wording of a version's rows: its system message, and what stands around it."""

from __future__ import annotations

from collections.abc import Sequence

from retune.data.chats.messages import USER_WITH_SCHEMA, build_messages
from retune.recipe.sections.prompt import prompt_fields
from retune.serving.messages import Ask, Asked, ServedModel
from retune.serving.refusals import Refusal
from retune.serving.requests import ChatRequest, Validated, read_chat


def ask_chat(model: ServedModel, body: ChatRequest, asked: Asked | None, request: str) -> Ask:
    """Return the order of a chat.

    Args:
        model: The version that is asked.
        body: The chat.
        asked: Its last message, where that is put into the wording of the rows; else None.
        request: Id of the request.
    """
    turns = read_chat(body.messages, model.answers.system if model.answers else None)
    if asked is not None:
        turns = word_question(model, asked, turns[:-1])
    return body.as_ask(request).model_copy(
        update={
            "messages": turns,
            "reasoning_effort": body.reasoning_effort or usual_effort(model),
            # Behind other turns it is no question that stands alone.
            "asked": asked if len(body.messages) == 1 else None,
        }
    )


def usual_effort(model: ServedModel) -> str | None:
    """Return the reasoning effort that a version was scored with."""
    return model.answers.reasoning_effort if model.answers else None


def word_question(
    model: ServedModel, asked: Asked, history: Sequence[dict[str, str]] = ()
) -> tuple[dict[str, str], ...]:
    """Return the messages by which a version is asked, as its rows were.

    Where the wording has places beside the question and the request fills none of them, the
    question is the whole message: it holds what would stand there, or there is none of it.

    Args:
        model: The version; its own wording, or the usual one where none is known.
        asked: What is asked.
        history: Turns before it.
    """
    stored = model.answers
    system, user = (stored.system, stored.user) if stored else (None, None)
    if user and not _is_filled(user, asked):
        user = "{question}"
    turns = build_messages(
        question=asked.question, system=system, user=user, schema=asked.ddl, history=history
    )
    return tuple(turns)


def _is_filled(wording: str, asked: Asked) -> bool:
    beside = prompt_fields(wording) - {"question"}
    return not beside or ("schema" in beside and bool(asked.ddl))


def refuse_unused_schema(model: ServedModel, body: Validated) -> None:
    """Refuse a schema that would change nothing: the version's wording has no place for it.

    Raises:
        Refusal: It is not tried on either.
    """
    name = body.tables_field
    wording = (model.answers.user if model.answers else None) or USER_WITH_SCHEMA
    if name and not body.validates and "schema" not in prompt_fields(wording):
        why = (
            f"{name}: the rows of this model were asked without one; leave it out, or send "
            "validate: true, so that the query is tried on it"
        )
        raise Refusal(400, why, "unsupported_value", param=name)
