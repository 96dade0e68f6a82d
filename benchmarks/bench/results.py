"""What was measured, kept by hardware, and the table of it."""

from __future__ import annotations

import datetime
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench.comparisons import UNITS, Aim, Comparison, Round, over_rounds
from benchmarks.bench.hardware import describe_hardware, describe_versions, name_hardware

FOLDER = Path(__file__).resolve().parents[1] / "results"


def keep(folder: Path, comparison: Comparison, rounds: Sequence[Round], agreement: str) -> Path:
    """Keep a comparison's figures in the file of this hardware, in place of its earlier ones.

    Args:
        folder: Of all hardware.
        comparison: What was compared.
        rounds: Figures of each side in each round.
        agreement: How far the sides did the same.

    Returns:
        The file.
    """
    told = {
        "agreement": agreement,
        "sides": [{"name": side.name, **side.options} for side in comparison.sides],
        "rounds": [[_figures(side) for side in sides] for sides in rounds],
    }
    return keep_under(folder, "comparisons", comparison.name, told)


def keep_under(folder: Path, section: str, name: str, told: Mapping[str, Any]) -> Path:
    """Keep figures in the file of this hardware, with the day, the versions and the load.

    Args:
        folder: Of all hardware.
        section: Of the file.
        name: Within the section; what is there goes.
        told: The figures, and what they are of.

    Returns:
        The file.
    """
    hardware = describe_hardware()
    path = folder / f"{name_hardware(hardware)}.json"
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else {"comparisons": {}}
    kept["hardware"] = hardware
    kept.setdefault(section, {})[name] = {
        "day": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": describe_versions(),
        "load": round(os.getloadavg()[0], 1),
        **told,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


def _figures(side: dict[str, Any]) -> dict[str, float]:
    # What a side found may be every answer; as a number it is a figure of its own.
    found = {"found": side["found"]} if isinstance(side["found"], float) else {}
    return {name: round(float(side[name]), 4) for name in ("cpu", "wall", "peak")} | found


def write_table(kept: dict[str, Any], comparisons: Sequence[Comparison]) -> str:
    """Write what is kept of one machine as Markdown, each aim beside what was found.

    Args:
        kept: Contents of a file of `keep`.
        comparisons: Those to show, in this order; of one that was not measured nothing is said.

    Returns:
        A line about the machine, and the table.
    """
    hardware, found = kept["hardware"], kept["comparisons"]
    shown = [each for each in comparisons if each.name in found]
    lines = [
        f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB.",
        "",
        "| comparison | figure | aim | found: median (range) | medians of the sides | aim met |",
        "|---|---|---|---|---|---|",
    ]
    for comparison in shown:
        taken = found[comparison.name]
        for at, aim in enumerate(comparison.aims):
            name = f"`{comparison.name}`: {comparison.what}" if at == 0 else ""
            lines.append(f"| {name} | {_line(aim, taken['rounds'])} |")
    notes = [
        f"- `{each.name}`: {len(taken['rounds'])} rounds on {taken['day']}, load "
        f"{taken['load']}" + (f"; {taken['agreement']}" if taken["agreement"] else "")
        for each in shown
        for taken in [found[each.name]]
    ]
    return "\n".join([*lines, "", *notes])


def _line(aim: Aim, rounds: Sequence[Round]) -> str:
    found = over_rounds([aim.read(sides) for sides in rounds])
    medians = [
        statistics.median(float(sides[at][aim.measure]) for sides in rounds)
        for at in range(len(rounds[0]))
    ]
    sides = " / ".join(
        f"{each / 1e6:,.0f} MB" if aim.measure == "peak" else f"{each:.2f} s" for each in medians
    )
    bound = "at least" if aim.kind == "faster" else "at most"
    above = {"above": " more", "beyond": " more than the stages"}.get(aim.kind, "")
    return " | ".join(
        [
            UNITS[aim.measure],
            f"{bound} {aim.say(aim.limit)}{above}",
            f"{aim.say(found.median)} ({aim.say(found.least)} to {aim.say(found.most)})",
            sides,
            "yes" if aim.is_met(found.median) else "**no**",
        ]
    )
