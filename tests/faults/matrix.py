"""The matrix of faults: what goes wrong, and how that has to end."""

from tests.faults.run_faults import run_faults
from tests.faults.stage_faults import stage_faults

MATRIX = {fault.name: fault for fault in (*stage_faults(), *run_faults())}
