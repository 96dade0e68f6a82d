"""What keys of rows and turns mean that are neither question nor answer: one table.

A key that changes what a row means is never passed over: it is read, or the row is refused by its
name. `data.ignore` names keys that shall be passed over all the same. docs/data.md shows the table.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from retune.data.formats.names import (
    HISTORY_NAMES,
    LABEL_NAMES,
    NAMES,
    SYSTEM_NAMES,
    THINKING_NAMES,
    TOOL_NAMES,
    fold_name,
    split_names,
)
from retune.recipe.sections.data import FormatName

Reading = Literal[
    "refused", "verdict", "counter_verdict", "weight", "mark", "counter_mark", "use", "counter_use"
]
"""How a value is read: not at all; as good or bad, or the other way round; as a weight of the row;
as whether a turn is learned, or the other way round; the same of a row."""

Other = Literal["pairs", "turns"]
"""What is read beside the layouts of rows."""

_ALL = frozenset({*NAMES, "pairs"})
_CHATS = frozenset({"messages", "conversations"})
_ASKED = frozenset(NAMES) - {"text", "text_label"}
"""Layouts whose answer is a text of its own, which may be good or bad."""


@dataclass(frozen=True)
class Meaning:
    """What some names mean.

    Attributes:
        names: Folded names of keys.
        says: What a filled value says.
        reading: How values are read.
        layouts: Layouts in whose rows they mean it.
        in_turns: Whether they mean it in a turn as well.
        in_rows: Whether they mean it in a row.
        instead: What to do about a row that is refused, beside `data.ignore`.
        together: Whether all names must be there.
        lenient: Whether a value that says neither yes nor no means nothing: the names often stand
            for something else.
        least_words: A text of fewer words says nothing: it is the name of what is meant.
    """

    names: tuple[str, ...]
    says: str
    reading: Reading = "refused"
    layouts: frozenset[str] = _ALL
    in_turns: bool = False
    in_rows: bool = True
    instead: str = ""
    together: bool = False
    lenient: bool = False
    least_words: int = 0


PAIRS = "name the file under dpo.pairs"
MEDIA = Meaning(
    split_names(
        "image images image_path image_url picture pictures video videos audio audios imagem "
        "imagens image_paths image_urls image_file image_files image_base64 image_bytes img imgs "
        "photo photos foto fotos screenshot screenshots pixel_values video_path video_url "
        "audio_path audio_url attachment attachments anexo anexos"
    ),
    "that there are pictures, films, sounds or files, which are not supported",
    in_turns=True,
    instead="leave such rows out",
)

MEANINGS: tuple[Meaning, ...] = (
    MEDIA,
    Meaning(
        (
            *LABEL_NAMES,
            *split_names(
                "feedback thumbs thumbs_up thumb thumb_up user_feedback human_feedback vote "
                "upvoted like liked good is_good good_answer is_good_answer good_response correct "
                "is_correct is_correct_answer accepted is_accepted approved is_approved desirable "
                "is_desirable kto_tag helpful is_helpful aprovado aprovada correto correta gostou "
                "curtiu util"
            ),
        ),
        "whether the answer is a good one",
        reading="verdict",
        layouts=_ASKED,
        in_turns=True,
        instead="delete the bad ones (with a good answer beside them they are pairs: dpo.pairs)",
    ),
    Meaning(
        split_names(
            "bad is_bad thumbs_down thumb_down downvoted disliked flagged is_flagged is_rejected "
            "deleted is_deleted wrong is_wrong incorrect is_incorrect hallucination "
            "is_hallucination hallucinated reprovado reprovada"
        ),
        "whether the answer is a bad one",
        reading="counter_verdict",
        layouts=_ASKED,
        in_turns=True,
        instead="delete the bad ones (with a good answer beside them they are pairs: dpo.pairs)",
    ),
    Meaning(
        split_names(
            "rating ratings score scores stars grade reward quality quality_score answer_quality "
            "response_quality answer_score response_score feedback_score human_rating user_rating "
            "nota avaliacao"
        ),
        "how good the answer is; which ones are to be learned is not known",
        layouts=_ASKED,
        in_turns=True,
        instead="delete the rows that are not to be learned",
    ),
    Meaning(
        split_names(
            "chosen rejected rejected_response rejected_messages rejected_answer rejected_output "
            "response_rejected answer_rejected output_rejected preferred_output "
            "non_preferred_output negative negatives hard_negatives"
        ),
        "which answer is wanted and which is not: a pair of preferences, no row to learn from",
        layouts=frozenset(NAMES),
        in_turns=True,
        instead=PAIRS,
    ),
    Meaning(
        split_names(
            "weight loss_weight sample_weight example_weight instance_weight row_weight peso"
        ),
        "how much the row counts: 1 is as any row, others are not supported",
        reading="weight",
        instead="delete rows of weight 0",
    ),
    Meaning(
        split_names(
            "weight loss_weight loss loss_mask train training trainable train_on_turn train_on "
            "is_train do_train should_train use_for_training learn learnable calculate_loss "
            "compute_loss include_in_loss in_loss has_loss with_loss use_loss peso treinar"
        ),
        "whether the turn carries loss: not where it is 0 or false",
        reading="mark",
        in_turns=True,
        in_rows=False,
        instead="write 0 or 1",
    ),
    Meaning(
        split_names(
            "masked is_masked mask_loss ignore ignored ignore_loss no_loss no_train skip "
            "skip_loss exclude excluded exclude_from_loss"
        ),
        "whether the turn carries no loss: none where it is 1 or true",
        reading="counter_mark",
        in_turns=True,
        in_rows=False,
        instead="write true or false",
    ),
    Meaning(
        split_names(
            "train training trainable is_train for_training use_for_training use_in_training "
            "learn treinar include included keep enabled active valid is_valid valido passed "
            "verdict"
        ),
        "whether the row is to be learned from: not where it is 0 or false",
        reading="use",
        instead="delete the rows that are not to be learned",
        lenient=True,
    ),
    Meaning(
        split_names("skip ignore ignored exclude excluded disabled discard invalid is_invalid"),
        "whether the row is to be left out: it is where it is 1 or true",
        reading="counter_use",
        instead="delete the rows that are not to be learned",
        lenient=True,
    ),
    Meaning(
        ("train_detail", "mask", "training_detail"),
        "which part of the turn carries loss, which is not supported",
        in_turns=True,
        in_rows=False,
        instead="write train: false at turns that are not to be learned",
    ),
    Meaning(
        ("refusal",),
        "that the model refused to answer, in a text beside the content",
        in_turns=True,
        in_rows=False,
        instead="write it as content where it is to be learned",
    ),
    Meaning(
        ("documents", "passages", "contexts", "retrieved_documents", "retrieved_contexts"),
        "which texts the answer is taken from; no prompt of this layout shows them",
        layouts=_ASKED,
        in_turns=True,
        instead="write them into the question, as text",
    ),
    Meaning(
        ("document", "article", "paragraph", "documento", "artigo", "paragrafo"),
        "which text the answer is taken from; no prompt of this layout shows it",
        layouts=frozenset({"instruction", "prompt_completion"}),
        instead="name it in data.columns.context",
        least_words=20,
    ),
    Meaning(
        ("context", "passage", "contexto"),
        "which text the answer is taken from; no prompt of this layout shows it",
        layouts=_CHATS,
        in_turns=True,
        instead="put it into the question's turn",
    ),
    Meaning(
        ("tool_calls", "function_call", "function_calls"),
        "which tools the answer calls; this layout has no place for calls",
        layouts=frozenset({"instruction", "prompt_completion"}),
        instead="bring the rows to the layout messages",
    ),
    Meaning(
        split_names(
            "choices options answer_choices answer_options alternatives alternativas opcoes"
        ),
        "which answers there are to choose from; no prompt of this layout shows them",
        layouts=frozenset({"instruction", "prompt_completion"}),
        instead="write them into the question, as text",
    ),
    *(
        Meaning(
            names,
            "which answers there are to choose from; no prompt of this layout shows them",
            layouts=frozenset({"instruction", "prompt_completion"}),
            instead="put them into the question",
            together=True,
        )
        for names in (
            ("a", "b", "c", "d"),
            ("option_a", "option_b"),
            ("option_1", "option_2"),
            ("choice_a", "choice_b"),
            ("opcao_a", "opcao_b"),
            ("alternativa_a", "alternativa_b"),
            ("opa", "opb"),
        )
    ),
    Meaning(
        ("question", "pergunta", "instruction", "prompt", "sentence2", "text_b"),
        "more of what is asked; no prompt of this layout shows it",
        layouts=frozenset({"text_label"}),
        instead="name the two in data.columns.question and data.columns.context",
    ),
    Meaning(
        ("evidence", "hint"),
        "what the question means in this database; no prompt shows it",
        layouts=frozenset({"text_to_sql"}),
        instead="put it into the question",
    ),
    Meaning(
        (*SYSTEM_NAMES, *HISTORY_NAMES),
        "what comes before the text; this layout has no place for it",
        layouts=frozenset({"text", "harmony"}),
        instead="put it into the text",
    ),
    Meaning(
        THINKING_NAMES,
        "what is thought before the answer; this layout has no place for it",
        layouts=frozenset({"text", "text_label", "harmony", "pairs"}),
        instead="put it into the text, or take another layout",
    ),
    Meaning(
        TOOL_NAMES,
        "which tools may be called; this layout has no place for them",
        layouts=frozenset({"text", "text_label", "text_to_sql", "harmony", "pairs"}),
        instead="bring the rows to the layout messages",
    ),
)
"""The table. Names that a layout reads (`NAMES`) mean there what the layout says."""


@lru_cache(maxsize=64)
def _index(layout: FormatName | Other, in_turns: bool) -> dict[str, list[Meaning]]:
    """Return the meanings of each name, but for names that the layout reads."""
    read = next((roles for named, roles in NAMES.items() if named == layout), {})
    own = {name for names in read.values() for name in names}
    found: dict[str, list[Meaning]] = {}
    for meaning in MEANINGS:
        fits = meaning.in_turns if in_turns else meaning.in_rows and layout in meaning.layouts
        for name in meaning.names if fits else ():
            if name not in own:
                found.setdefault(name, []).append(meaning)
    return found


@lru_cache(maxsize=1024)
def _meanings_of(
    keys: tuple[str, ...], layout: FormatName | Other, in_turns: bool
) -> tuple[tuple[str, Meaning], ...]:
    known = _index(layout, in_turns)
    names = {fold_name(key) for key in keys}
    found = [(key, meaning) for key in keys for meaning in known.get(fold_name(key), ())]
    found = [each for each in found if not each[1].together or names >= set(each[1].names)]
    return tuple(found)


def meanings_of_row(
    keys: Collection[str], layout: FormatName | Other
) -> tuple[tuple[str, Meaning], ...]:
    """Return which keys of a row mean something that its layout does not read.

    Args:
        keys: The row's keys.
        layout: Its layout.

    Returns:
        Key and meaning.
    """
    return _meanings_of(tuple(keys), layout, False)


def meanings_of_turn(keys: Collection[str]) -> tuple[tuple[str, Meaning], ...]:
    """Return which keys of a turn mean something beside who speaks and what.

    Args:
        keys: The turn's keys.

    Returns:
        Key and meaning.
    """
    return _meanings_of(tuple(keys), "turns", True)
