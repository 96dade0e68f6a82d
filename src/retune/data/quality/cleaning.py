"""Cleaning rows: every row of all sources is looked at once, some are dropped, all is reported."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from retune.data.columns.contract import Flags
from retune.data.columns.opening import open_columns
from retune.data.findings import DROPPED_FILE, QUALITY_FILE
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
_COLUMNS_FOLDER = "columns"


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
    sizes = [count_rows(rows.folder / "rows.parquet") for rows in inputs.rows]
    rows = sum(sizes)
    (work.artifact / LOG_FOLDER).mkdir(parents=True, exist_ok=True)
    place = work.scratch / _COLUMNS_FOLDER
    with open_columns(rows, settings.rows_in_memory, place) as columns:
        check_ids(inputs, names, rows, columns)
        facts = Facts.of(sizes, inputs.held_out, columns)
        with ShingleSets(work.scratch / _SETS_FOLDER, rows, columns) as sets:
            found = _examine(inputs, settings, work, facts, sets, names)
            _refuse_nothing(found)
            with facts.timing("writing"):
                _write(work, found, sets)
        report = make_report(found)
        faults = find_faults(found, settings.languages)
        test_rows = found.count(lambda block: facts.held_out[block] & (found.reasons[block] == 0))
    (work.artifact / QUALITY_FILE).write_text(report.model_dump_json(indent=2), encoding="utf-8")
    return CleanRef(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER,)),
        folder=work.artifact,
        rows=report.kept,
        test_rows=test_rows,
        faults=faults,
    )


def _write(work: Workdir, found: Found, sets: ShingleSets) -> None:
    inputs, facts, names, reasons = found.inputs, found.facts, found.names, found.reasons
    kept: Flags = facts.columns.zeros(len(facts), np.bool_)
    for block in facts.columns.blocks(len(facts)):
        kept[block] = reasons[block] == 0
    sets.write_signatures(work.artifact / "signatures.npy", kept)
    write_index(work.artifact / "index.parquet", inputs, facts, names, reasons)
    write_dropped(work.artifact / DROPPED_FILE, inputs, facts, names, reasons, found.copies)


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
        joined = partial(work.reporter.progress, "bands of signatures joined")
        copies = find_repeats(facts, sets, settings.near_threshold, compared, joined)
        # Nobody can learn two labels of one text.
        texts, conflicts = facts.columns.conflicting(facts.folded, facts.label, facts.held_out)
    reasons = drop_rows(facts, copies, conflicts, settings)
    if any(weight is not None for weight in inputs.weights):
        leave_out_by_weight(facts, reasons, inputs.weights, draw_keys(inputs, facts))
    return Found(inputs, names, facts, copies, texts, conflicts, reasons)


def _progress(work: Workdir, what: str, facts: Facts) -> Callable[[int], None]:
    return lambda done: work.reporter.progress(what, done, len(facts))


def _refuse_nothing(found: Found) -> None:
    held_out, reasons = found.facts.held_out, found.reasons
    # Without the second, training rows would be held out in place of those that the recipe names.
    sides = {"data.train": False} | ({"data.test": True} if any(found.inputs.held_out) else {})
    kept = found.count(lambda rows: reasons[rows] == 0)
    tests = found.count(lambda rows: held_out[rows] & (reasons[rows] == 0))
    empty = [side for side, held in sides.items() if not (tests if held else kept - tests)]
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
