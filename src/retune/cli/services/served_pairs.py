"""`retune pairs`: what was answered in the shadow, and who was right, in a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from retune.cli.consoles import open_console
from retune.pages.numbers import ABSENT
from retune.recipe.loading import load_recipe
from retune.recipe.sections.scoring import ScoringConfig
from retune.retraining.pair_verdicts import FIGURE, PairFigures, compare_pairs
from retune.retraining.served_pairs import read_judgements, read_pairs
from retune.scoring import showing
from retune.sql.records import SqlLimits

_VERDICT_STYLES = {"better": "green", "worse": "red", "undecided": "dim"}


def show_pairs(folder: Path, recipe: Path | None, *, as_json: bool) -> None:
    """Compare the versions whose answers a server kept, and print how.

    Args:
        folder: Of its log.
        recipe: Says how queries are scored; None takes the usual settings.
        as_json: Print one JSON array, alone on standard output.

    Raises:
        DataError: There are no pairs.
        Exit: The challenger that was served last is shown to be worse; the code is 1.
    """
    scoring = load_recipe(recipe).recipe.scoring if recipe else ScoringConfig()
    pairs, bad = read_pairs(folder)
    said, unread = read_judgements(folder)
    found = compare_pairs(
        pairs,
        said,
        dialect=scoring.sql_dialect,
        limits=SqlLimits(deadline_s=scoring.sql_timeout_seconds),
        resamples=scoring.resamples,
    )
    if as_json:
        print(json.dumps([each.model_dump(mode="json") for each in found]))
    else:
        _show(found, bad + unread)
    if found[-1].verdict == "worse":
        raise typer.Exit(1)


def _show(found: Sequence[PairFigures], unread: int) -> None:
    console = open_console()
    console.print(pairs_table(found))
    for each in found:
        for note in list_notes(each):
            console.print(Text(f"note: {each.challenger}: {note}", style="yellow"))
    if unread:
        lines = "1 line" if unread == 1 else f"{unread} lines"
        console.print(Text(f"note: left out, since they cannot be read: {lines}", style="yellow"))


def pairs_table(found: Sequence[PairFigures]) -> Table:
    """Return the table, a column for each two versions, those that were served last at the end."""
    table = Table(title=Text("Answers to the same requests, 95 % intervals"), show_lines=True)
    table.add_column("")
    for each in found:
        table.add_column(Text(f"{each.challenger} against {each.champion}"), overflow="fold")
    described = [_describe(each) for each in found]
    for label in described[0]:
        table.add_row(label, *(each[label] for each in described))
    return table


def _describe(found: PairFigures) -> dict[str, Text]:
    known = found.difference.n
    difference = showing.show_difference(found.difference) if known else ABSENT
    return {
        "requests": Text(str(found.pairs)),
        "the same answer": Text(showing.show_metric(FIGURE, found.same)),
        "the champion's called good": Text(str(found.good)),
        "called bad, or corrected": Text(str(found.bad)),
        "who is right is known of": Text(str(known)),
        "the champion right": Text(str(found.champion_right)),
        "the challenger right": Text(str(found.challenger_right)),
        "difference": Text(difference),
        "on judged requests": Text(found.verdict, style=_VERDICT_STYLES[found.verdict]),
    }


def list_notes(found: PairFigures) -> list[str]:
    """Return what keeps a comparison from saying more, in sentences."""
    notes = []
    if found.unknown:
        of = "1 judged request" if found.unknown == 1 else f"{found.unknown} judged requests"
        notes.append(f"of {of} it is not known who is right")
    if found.difference.n and found.verdict != found.difference.verdict:
        kind = "called good" if found.good else "called bad or corrected"
        notes.append(
            f"all judged answers were {kind}, and of these alone nothing follows: the champion is "
            f"{'right' if found.good else 'wrong'} there by choice"
        )
    if not found.good + found.bad:
        notes.append("nobody has judged an answer yet, so that nobody is known to be right")
    return notes
