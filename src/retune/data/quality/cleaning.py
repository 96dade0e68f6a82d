"""Cleaning rows: every row of all sources is looked at once, some are dropped, all is reported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from retune.data.findings import DROPPED_FILE, QUALITY_FILE
from retune.data.quality.conflicts import find_conflicts
from retune.data.quality.copies import find_repeats
from retune.data.quality.dropping import drop_rows, leave_out_by_weight
from retune.data.quality.index import draw_keys, write_dropped, write_index
from retune.data.quality.looking import Facts, look_at_rows
from retune.data.quality.naming import RowNames, check_ids
from retune.data.quality.report import Found, find_faults, make_report
from retune.data.quality.shingle_sets import ShingleSets
from retune.data.stages import CleanInputs, CleanSettings
from retune.data.tables import count_rows
from retune.digests import digest_folder
from retune.errors import DataError
from retune.records import LOG_FOLDER, CleanRef
from retune.spine.stage import Workdir

_SETS_FOLDER = "shingles"


def clean_rows(inputs: CleanInputs, settings: CleanSettings, work: Workdir) -> CleanRef:
    """Look at all rows, and write down which are kept.

    Args:
        inputs: All sources, those to learn from first, then held-out ones.
        settings: What is dropped.
        work: `index.parquet`, `signatures.npy`, the report and the list of dropped rows go to its
            artifact folder.

    Returns:
        Counts and faults. Faulty rows never stop it: limits are compared later.

    Raises:
        ConfigError: `quality.languages` names one that cannot be recognised.
        DataError: Two rows have one id, or no row is kept of those to learn from or held out.
    """
    names = RowNames(inputs)
    check_ids(inputs, names)
    sizes = [count_rows(rows.folder / "rows.parquet") for rows in inputs.rows]
    facts = Facts.of(sizes, inputs.held_out)
    (work.artifact / LOG_FOLDER).mkdir(parents=True, exist_ok=True)
    with ShingleSets(work.scratch / _SETS_FOLDER, len(facts)) as sets:
        found = _examine(inputs, settings, work, facts, sets, names)
        _refuse_nothing(found)
        with facts.timing("writing"):
            kept = np.flatnonzero(found.reasons == 0)
            sets.write_signatures(work.artifact / "signatures.npy", kept)
            write_index(work.artifact / "index.parquet", inputs, facts, names, found.reasons)
            dropped = work.artifact / DROPPED_FILE
            write_dropped(dropped, inputs, facts, names, found.reasons, found.copies)
    report = make_report(found)
    (work.artifact / QUALITY_FILE).write_text(report.model_dump_json(indent=2), encoding="utf-8")
    return CleanRef(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER,)),
        folder=work.artifact,
        rows=kept.size,
        test_rows=int(facts.held_out[kept].sum()),
        faults=find_faults(found, settings.languages),
    )


def _examine(
    inputs: CleanInputs,
    settings: CleanSettings,
    work: Workdir,
    facts: Facts,
    sets: ShingleSets,
    names: RowNames,
) -> Found:
    look_at_rows(
        inputs.rows, facts, sets, settings.languages or (), _progress(work, "rows looked at", facts)
    )
    with facts.timing("duplicates"):
        compared = _progress(work, "rows compared", facts)
        copies = find_repeats(facts, sets, settings.near_threshold, compared)
        texts, conflicts = find_conflicts(facts)
    reasons = drop_rows(facts, copies, conflicts, settings)
    if any(weight is not None for weight in inputs.weights):
        leave_out_by_weight(facts, reasons, inputs.weights, draw_keys(inputs, facts))
    return Found(inputs, names, facts, copies, texts, conflicts, reasons)


def _progress(work: Workdir, what: str, facts: Facts) -> Callable[[int], None]:
    return lambda done: work.reporter.progress(what, done, len(facts))


def _refuse_nothing(found: Found) -> None:
    held_out, kept = found.facts.held_out, found.reasons == 0
    sides = {"data.train": ~held_out}
    if any(found.inputs.held_out):
        # Without this, training rows would be held out in place of those that the recipe names.
        sides["data.test"] = held_out
    empty = [key for key, rows in sides.items() if not kept[rows].any()]
    if not empty:
        return
    report = {name: share.rows for name, share in find_faults(found, None).items() if share.rows}
    counted = ", ".join(f"{name}: {rows}" for name, rows in report.items()) or "no rows at all"
    raise DataError(
        f"No row of {' and '.join(empty)} is left, of {found.read} rows in all ({counted}). "
        "Expected at least one. "
        "Correct the files, or let quality.drop_conflicting_labels and quality.drop_duplicates "
        "drop less."
    )
