"""Limits on faulty rows: what stages counted, compared with what the recipe bears."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from retune.data.findings import (
    BAD_FILE,
    DROPPED_FILE,
    LEAK_PAIRS_FILE,
    LEFT_OUT_FILE,
    QUALITY_FILE,
)
from retune.errors import DataError
from retune.recipe.sections import LimitsConfig
from retune.records import ChatRef, CleanRef, DatasetRef, Share, SplitRef

_FIRST = 3
_DIGITS = 4


class _Fault(NamedTuple):
    what: str
    """Completes "of 100 rows 3 ..."."""
    remedy: str


_FAULTS = {
    "bad_rows": _Fault(
        "could not be read",
        "mend the lines, or name the right keys in data.columns",
    ),
    "exact_duplicates": _Fault(
        "repeat an earlier row letter by letter",
        "set quality.drop_duplicates to exact",
    ),
    "folded_duplicates": _Fault(
        "repeat an earlier row but for case, accents and white space",
        "set quality.drop_duplicates to folded",
    ),
    "near_duplicates": _Fault(
        "nearly repeat an earlier row",
        "set quality.drop_duplicates to near, or raise quality.near_threshold",
    ),
    "conflicting_labels": _Fault(
        "have a text that stands with another label elsewhere",
        "correct the labels, or set quality.drop_conflicting_labels to true",
    ),
    "other_languages": _Fault(
        "are in none of quality.languages",
        "take them out, or add their language to quality.languages",
    ),
    "unprintable": _Fault(
        "hold control or replacement characters or unassigned code points",
        "read the files in the encoding they were written in, or clean them",
    ),
    "secrets": _Fault(
        "look as if they held a key, a token or a password",
        "take the secrets out of the rows, and revoke them",
    ),
    "personal_data": _Fault(
        "look as if they held an e-mail address or a telephone, document or card number",
        "take the personal data out of the rows",
    ),
    "leaked_rows": _Fault(
        "are held out but repeated in training or validation",
        "set quality.drop_leaked to true, or group the rows by what they share "
        "(data.columns.group with split.grouped)",
    ),
    "no_target": _Fault(
        "have no token that carries loss",
        "correct the empty answers, or prompt.loss_on",
    ),
    "cut_targets": _Fault(
        "are longer than prompt.max_length, which would cut the end of their answer",
        "raise prompt.max_length, or shorten the rows",
    ),
    "no_end": _Fault(
        "have a target without its end token, or with one in the middle",
        "correct the chat template, or take the end token out of the answers",
    ),
    "prompt_loss": _Fault(
        "have tokens of the prompt that carry loss",
        "correct the template's generation marks, or set prompt.loss_on to answer",
    ),
    "answer_in_prompt": _Fault(
        "show the reference answer in their prompt",
        "take the answer out of data.columns.question and context, or out of prompt.user",
    ),
    "malformed_chats": _Fault(
        "cannot be written by the chat template, or have channels and tags that do not fit",
        "correct the rows' turns, or choose another prompt.template",
    ),
}


def find_breaches(
    limits: LimitsConfig,
    faults: Mapping[str, Share],
    files: Mapping[str, Sequence[Path]] | None = None,
) -> list[str]:
    """Compare faults with their limits.

    Args:
        limits: Largest shares by fault.
        faults: Rows at fault, by the names of `LimitsConfig`; those of `CleanRef`, `SplitRef` and
            `ChatRef` together.
        files: By fault the files that list all its rows, as `list_fault_files` finds them.

    Returns:
        One sentence per limit that is passed, in the order of the limits: what was found, what is
        allowed, what to do, and where all rows are listed.
    """
    return [
        _describe(name, faults[name], limit, (files or {}).get(name, ()))
        for name, limit in limits
        if name in faults and limit is not None and is_over(faults[name], limit)
    ]


def is_over(share: Share, limit: float | None) -> bool:
    """Tell whether a share is larger than its limit; no rows are never too many."""
    return limit is not None and share.rows > limit * share.of and share.rows > 0


def refuse_breaches(
    limits: LimitsConfig,
    faults: Mapping[str, Share],
    files: Mapping[str, Sequence[Path]] | None = None,
) -> None:
    """Stop where a limit is passed.

    Args:
        limits: Largest shares by fault.
        faults: Rows at fault, by the names of `LimitsConfig`.
        files: By fault the files that list all its rows.

    Raises:
        DataError: A limit is passed; the message names all that are.
    """
    breaches = find_breaches(limits, faults, files)
    if breaches:
        counted = "a limit is" if len(breaches) == 1 else f"{len(breaches)} limits are"
        listed = "\n".join(f"- {breach}" for breach in breaches)
        raise DataError(f"data: {counted} passed, so nothing is trained:\n{listed}")


def refuse_single_class(labels: Sequence[str], rows: Sequence[DatasetRef]) -> None:
    """Stop where rows have labels, but all the same one.

    Args:
        labels: Names of all classes; empty where rows have none.
        rows: All sources.

    Raises:
        DataError: There is nothing to tell apart.
    """
    if len(labels) == 1:
        count = sum(source.rows for source in rows if source.labels)
        raise DataError(
            f"data: all {count:,} rows with a label have the same one, {labels[0]!r}: there is "
            "nothing to tell apart. Name the right column under data.columns.answer, or add rows "
            "of another class."
        )


def merge_faults(clean: CleanRef, split: SplitRef, chat: ChatRef | None) -> dict[str, Share]:
    """Put the faults of the stages together; their names differ from stage to stage."""
    return {**clean.faults, **split.faults, **(chat.faults if chat else {})}


def list_fault_files(
    clean: CleanRef, split: SplitRef, chat: ChatRef | None, rows: Sequence[DatasetRef]
) -> dict[str, tuple[Path, ...]]:
    """Find the files that list the rows at fault.

    Args:
        clean: Kept rows.
        split: Sides, compared with each other.
        chat: Prepared sides; None where nothing was prepared.
        rows: All sources.

    Returns:
        Files by fault; a fault whose rows are listed nowhere has the report that counts it.
    """
    bad = tuple(source.folder / BAD_FILE for source in rows if source.bad_rows)
    dropped = (clean.folder / DROPPED_FILE, clean.folder / QUALITY_FILE)
    files = {name: tuple(path for path in dropped if path.exists()) for name in clean.faults}
    files |= {"bad_rows": bad} if bad else {}
    files |= dict.fromkeys(split.faults, (split.folder / LEAK_PAIRS_FILE,))
    if chat is not None:
        files |= dict.fromkeys(chat.faults, (chat.folder / LEFT_OUT_FILE,))
    return files


def _describe(name: str, share: Share, limit: float, files: Sequence[Path]) -> str:
    fault = _FAULTS[name]
    first = f", such as {', '.join(share.first[:_FIRST])}" if share.first else ""
    listed = f" See {', '.join(map(str, files))}." if files else ""
    return (
        f"{share.rows:,} of {share.of:,} rows ({_percent(share.rows / share.of)}) {fault.what}"
        f"{first}; limits.{name} allows {_percent(limit)}. {fault.remedy[0].upper()}"
        f"{fault.remedy[1:]}, or raise limits.{name}.{listed}"
    )


def _percent(share: float) -> str:
    """Write a share with one decimal, and with more where it would look like none."""
    if share == 0 or share >= 0.001:
        return f"{100 * share:.1f} %"
    return f"{100 * share:.{_DIGITS}f}".rstrip("0") + " %"
