"""The plan of memory as a person and a program read it."""

from __future__ import annotations

from rich.console import Console

from retune.cli.memory_tables import as_mapping, print_plan
from retune.modeling.placement import Candidate, Room
from retune.preflight.memory_plan import MemoryPlan, StagePlan

MIB = 2**20


def plan(kind: str) -> MemoryPlan:
    room = Room(kind=kind, device=100 * MIB, ram=200 * MIB)  # type: ignore[arg-type]
    ways = {"score base": ("nf4", "device", 90, 60), "merge_adapter": ("plain", "cpu", 0, 300)}
    stages = tuple(
        StagePlan(stage=name, held=held, fits=held.fits(room))
        for name, (form, placement, device, ram) in ways.items()
        for held in (
            Candidate(
                form=form,  # type: ignore[arg-type]
                placement=placement,  # type: ignore[arg-type]
                device_bytes=device * MIB,
                ram_bytes=ram * MIB,
            ),
        )
    )
    return MemoryPlan(room=room, form="nf4", stages=stages)


def test_each_stage_is_a_line_with_its_peaks() -> None:
    """What does not fit is said so; a CPU has no column for the device."""
    console = Console(width=120, record=True)
    print_plan(console, plan("cuda"))
    title, _, head, _, first, second, *_ = console.export_text().splitlines()
    assert title.strip() == "peak memory of each stage: 100.0 MiB on the device, 200.0 MiB of RAM"
    assert [cell.strip() for cell in head.split("┃")[1:4]] == ["stage", "device", "RAM"]
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in (first, second)]
    assert cells == [
        ["score base", "90.0 MiB", "60.0 MiB", "nf4", "device", ""],
        ["merge_adapter", "0.0 MiB", "300.0 MiB", "plain", "cpu", "does not fit"],
    ]
    print_plan(console, plan("cpu"))
    assert "on the device" not in console.export_text()


def test_json_has_bytes_and_whether_each_stage_fits() -> None:
    found = as_mapping(plan("cuda"))
    assert found is not None and not found["fits"] and found["form"] == "nf4"
    assert found["stages"][1] == {
        "stage": "merge_adapter",
        "form": "plain",
        "placement": "cpu",
        "device_bytes": 0,
        "ram_bytes": 300 * MIB,
        "fits": False,
    }
    assert as_mapping(None) is None
