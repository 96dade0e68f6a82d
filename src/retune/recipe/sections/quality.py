"""Sections on the quality of rows: what is dropped, and what stops a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from retune.recipe.sections.base import RUNTIME, CountOrZero, Section, Share

Language = Annotated[str, Field(pattern=r"^[a-z]{2}$", examples=["pt", "en"])]


class QualityConfig(Section):
    """What is dropped from the rows before they are used."""

    drop_duplicates: Literal["none", "exact", "folded", "near"] = "none"
    """Copies that are dropped, the first one is kept. folded: equal but for case, accents, white
    space and the signs between words. near: folded ones, and those that share `near_threshold`
    of their words' shingles. Duplicates are counted in any case."""

    drop_conflicting_labels: bool = False
    """Whether rows whose text (folded) stands with another label among the rows to learn from, or
    among the held-out ones, are dropped, all of them: nobody knows which one is right. They are
    counted in any case."""

    drop_leaked: bool = False
    """Whether training and validation rows that repeat a held-out row are dropped. false: they are
    counted, and stop the run above `limits.leaked_rows`."""

    near_threshold: Annotated[float, Field(gt=0.5, le=1)] = 0.8
    """Smallest Jaccard similarity of two texts' shingles of three words that makes them near
    duplicates, above 0.5 to 1."""

    languages: Annotated[tuple[Language, ...], Field(strict=False, min_length=1)] | None = None
    """Languages that the rows shall be in (ISO 639-1), such as [pt, en]. null: any; they are
    counted in any case."""

    rows_in_memory: Annotated[CountOrZero, RUNTIME] = 1_000_000
    """Most rows that are compared, divided and looked up in memory; more are so on disk, with the
    same results (docs/scale.md). No part of a stage key."""


class LimitsConfig(Section):
    """Largest shares of rows, 0 to 1, that may have a fault.

    Above one, the run stops before training. null: no limit.
    """

    bad_rows: Share | None = 0.0
    """Rows that could not be read: broken lines, missing or mixed columns, empty answers."""

    exact_duplicates: Share | None = None
    """Rows whose text stands in an earlier row, letter by letter."""

    folded_duplicates: Share | None = None
    """Rows whose text stands in an earlier row but for case, accents, white space and the signs
    between words; exact ones are among them."""

    near_duplicates: Share | None = None
    """Rows that nearly repeat an earlier one; folded ones are not among them."""

    conflicting_labels: Share | None = None
    """Rows whose text stands with two labels."""

    other_languages: Share | None = None
    """Rows in none of `quality.languages`."""

    unprintable: Share | None = None
    """Rows with control characters, replacement characters or unassigned code points."""

    secrets: Share | None = 0.0
    """Rows that look as if they held a key, a token or a password."""

    personal_data: Share | None = None
    """Rows that look as if they held an e-mail address, a telephone, CPF, CNPJ or card number."""

    leaked_rows: Share | None = 0.0
    """Test rows that a training or validation row repeats: exactly, folded, nearly, or by the same
    query over the same schema."""

    no_target: Share | None = 0.0
    """Rows in which no token carries loss."""

    cut_targets: Share | None = 0.0
    """Rows over `prompt.max_length`, which would lose the end of their answer."""

    no_end: Share | None = 0.0
    """Rows whose target lacks its end token, or has one in the middle."""

    prompt_loss: Share | None = 0.0
    """Rows in which tokens of the prompt carry loss. Earlier turns of the assistant may
    where `prompt.loss_on` is assistant or marked; with `loss_on: all` set this limit to null."""

    answer_in_prompt: Share | None = 0.01
    """Rows whose prompt holds the reference answer where it does not belong."""

    malformed_chats: Share | None = 0.0
    """Rows that the chat template cannot write, or whose channels and tags do not fit together."""
