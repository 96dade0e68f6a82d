"""What is rebuilt takes the place of what ships."""

from __future__ import annotations

from pathlib import Path

from generator.exporting import export_assets
from generator.settings import DrawnRef, PretrainedRef


def test_what_ships_is_replaced_and_bears_no_manifest(tmp_path: Path) -> None:
    """Five folders; a file of an earlier build is gone."""
    names = ["text_to_sql_pt", "text_to_sql_en", "reviews_pt", "instructions_pt"]
    for name in (*names, "base"):
        (tmp_path / "store" / name).mkdir(parents=True)
        (tmp_path / "store" / name / "new").write_text(name)
        (tmp_path / "store" / name / "manifest.json").write_text("{}")
    (tmp_path / "assets" / "base_tiny").mkdir(parents=True)
    (tmp_path / "assets" / "base_tiny" / "old").touch()
    drawn = DrawnRef.model_construct(folder=tmp_path / "store")
    base = PretrainedRef.model_construct(folder=tmp_path / "store" / "base")
    export_assets(tmp_path / "assets", drawn, drawn, base)
    for name in (*names, "base_tiny"):
        found = [path.name for path in (tmp_path / "assets" / name).iterdir()]
        assert found == ["new"]
