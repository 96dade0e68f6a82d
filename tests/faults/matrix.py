"""The matrix of faults: what goes wrong, and how that has to end."""

from tests.faults.disk_faults import disk_faults
from tests.faults.run_faults import run_faults
from tests.faults.stage_faults import stage_faults
from tests.faults.surrounding_faults import surrounding_faults

MATRIX = {
    fault.name: fault
    for fault in (*stage_faults(), *disk_faults(), *run_faults(), *surrounding_faults())
}
