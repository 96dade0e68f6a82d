"""Faults, limits and lengths as text for people."""

from __future__ import annotations

from retune.data.findings import Lengths

NAMES = {
    "bad_rows": "Unreadable rows",
    "exact_duplicates": "Exact duplicates",
    "folded_duplicates": "Folded duplicates",
    "near_duplicates": "Near duplicates",
    "conflicting_labels": "Conflicting labels",
    "other_languages": "Other languages",
    "unprintable": "Unprintable text",
    "secrets": "Secrets",
    "personal_data": "Personal data",
    "leaked_rows": "Leaked rows",
    "no_target": "No target",
    "cut_targets": "Cut targets",
    "no_end": "No end token",
    "prompt_loss": "Loss on the prompt",
    "answer_in_prompt": "Answer in the prompt",
    "malformed_chats": "Malformed chats",
}
"""Faults as a heading calls them."""
COPY_KINDS = {
    "exact": "letter by letter",
    "folded": "but for case, accents and spaces",
    "near": "most of its words",
    "query": "same query, same schema",
}


def name_of(key: str) -> str:
    """Return the name of a fault or a reason for people."""
    return NAMES.get(key, key.replace("_", " ").capitalize())


def limit(share: float | None) -> str:
    """Write a limit as it stands in the recipe, as a percentage."""
    return "none" if share is None else f"{100 * share:.4g} %"


def spread(lengths: Lengths) -> str:
    """Write how long something is: mean and the percentiles that there are."""
    named = {"p50": "median", "p95": "95 % up to", "p99": "99 % up to", "max": "longest"}
    found = [
        f"{text} {lengths.percentiles[key]:,}"
        for key, text in named.items()
        if key in lengths.percentiles
    ]
    return ", ".join([f"mean {lengths.mean:,.0f}", *found])
