"""The page of the matrix: it has a line for each fault, with the exit code that is held."""

from __future__ import annotations

from tests.faults.matrix import MATRIX
from tests.faults.running_faults import HEADER
from tests.tiny_models import REPOSITORY


def test_the_page_lists_every_fault_with_its_exit_code() -> None:
    """In the order in which they are run, and no other."""
    text = (REPOSITORY / "docs" / "faults.md").read_text("utf-8")
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert table[0] == list(HEADER)
    listed = [(cells[0], int(cells[1])) for cells in table[2:]]
    assert listed == [(fault.name, fault.code) for fault in MATRIX.values()]
