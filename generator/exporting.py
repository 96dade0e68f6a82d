"""From the store to `assets/`: what was rebuilt takes the place of what ships."""

from __future__ import annotations

import shutil
from pathlib import Path

from generator.settings import DrawnRef, PretrainedRef


def export_assets(folder: Path, task: DrawnRef, small: DrawnRef, base: PretrainedRef) -> None:
    """Copy datasets and base to where they ship, replacing what is there.

    Args:
        folder: The `assets` folder.
        task: The drawn text-to-SQL task.
        small: The drawn reviews and instructions.
        base: The base.
    """
    sources = {
        "text_to_sql_pt": task.folder / "text_to_sql_pt",
        "text_to_sql_en": task.folder / "text_to_sql_en",
        "reviews_pt": small.folder / "reviews_pt",
        "instructions_pt": small.folder / "instructions_pt",
        "base_tiny": base.folder,
    }
    for name, source in sources.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("manifest.json"))
