"""A finished project in whose copies things go wrong, and the table of what came of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.faults.running_faults import HEADER, Bench
from tests.flows.conftest import last_json, retune, write_project

_ROW = "row of the matrix"


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A finished project."""
    recipe = write_project(tmp_path_factory.mktemp("undisturbed") / "project")
    written = yaml.safe_load(recipe.read_text("utf-8"))
    written["training"]["checkpoint_every_steps"] = 1
    recipe.write_text(yaml.safe_dump(written), "utf-8")
    last_json(retune(recipe, "--json"))
    return Bench(recipe, tmp_path_factory.mktemp("disturbed"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what came of each fault, as docs/reliability.md shows it."""
    told = [
        each
        for report in terminalreporter.getreports("passed")
        if report.when == "call"
        for each in report.user_properties
    ]
    for name, value in told:
        if name == "kills":
            terminalreporter.write_line(value)
    rows = [value for name, value in told if name == _ROW]
    if not rows:
        return
    terminalreporter.section("matrix of faults")
    for cells in (HEADER, ("---",) * len(HEADER), *rows):
        terminalreporter.write_line("| " + " | ".join(cells) + " |")


@pytest.fixture
def tell_row(record_property: Any) -> Any:
    """Return what takes a line of the table."""
    return lambda row: record_property(_ROW, row.as_cells())
