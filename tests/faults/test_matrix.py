"""The matrix of faults: how each has to end, what is kept, and what the next run computes.

A few of each kind are run with all tests; ``make faults`` runs all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.faults.matrix import MATRIX
from tests.faults.running_faults import Bench, Row

pytestmark = [pytest.mark.slow, pytest.mark.service]

ALL = os.environ.get("RETUNE_FAULTS") == "all"
CHOSEN = [name for name, fault in MATRIX.items() if ALL or fault.often]


@pytest.mark.parametrize("name", CHOSEN)
def test_a_fault_ends_as_it_has_to(
    name: str, bench: Bench, tell_row: Callable[[Row], None]
) -> None:
    """Exit code and message are right, nothing whole is lost, and the next run ends undisturbed."""
    fault = MATRIX[name]
    if not fault.needs():
        pytest.skip("this machine does not let it happen")
    tell_row(bench.run(fault))
